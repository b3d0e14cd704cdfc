"""The server under test in test_stdio_session.py: its tools log, ask and change things."""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from portway import Context, Server, elicit, list_roots


@contextlib.asynccontextmanager
async def lifespan(server: Server) -> AsyncIterator[str]:
    if "FAIL" in os.environ:
        raise ValueError("no database")
    yield "open"
    print("closed", file=sys.stderr, flush=True)  # noqa: T201 - what the test waits for


server = Server("fixture", lifespan=lifespan)


@server.resource("watched://{name}")
async def watched(name: str) -> str:
    return name


@server.tool
async def ask(ctx: Context, method: str, params: dict[str, Any]) -> Any:
    """Return what the client answers to a request of this server."""
    return msgspec.json.decode(await ctx._exchange.channel.ask(method, msgspec.json.encode(params)))


@server.tool(asks=True)
async def ask_two(ctx: Context) -> str:
    answers = await ctx.ask(name=elicit("Your name?", str), roots=list_roots())
    return f"{answers['name'].data} {answers['roots']}"


@server.tool
async def who(ctx: Context) -> str:
    return f"{ctx.client.name} {ctx.client.version}"


@server.tool
async def log(ctx: Context, levels: list[str]) -> None:
    for level in levels:
        await ctx.log(level, f"a text of {level}")


@server.tool
async def touch(first: int, last: int) -> None:
    """Update resources, and write to standard error once the listeners have been told."""
    for number in range(first, last):
        server.resource_updated(f"watched://{number}")
    await asyncio.sleep(0)
    print("touched", file=sys.stderr, flush=True)  # noqa: T201 - what the test waits for


@server.tool
async def grow() -> None:
    """Change the list of tools twice at once."""

    async def grown() -> None: ...

    server.tool(grown)
    server.remove_tool("grown")


@server.tool
async def repeat(text: str, times: int) -> str:
    return text * times
