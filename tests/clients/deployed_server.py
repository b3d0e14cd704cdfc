"""A server whose calls last longer than a deploy: what asks, waits, and leaves its stream."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import Annotated

from portway import Ask, Context, Server

server = Server("deployed")
NEVER = asyncio.Event()
RELEASE = int(os.environ.get("PORTWAY_RELEASE", "0"))


async def lasts(seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(NEVER.wait(), seconds)


@server.tool
def confirm(city: str, sure: Annotated[bool, Ask("Are you sure?")]) -> str:
    """Ask what the signature says."""
    return f"{city}: {sure}"


@server.tool
async def wait() -> str:
    """Never answer."""
    await NEVER.wait()
    return "never"


@server.tool
async def leave(ctx: Context, seconds: float) -> str:
    """Close the stream, and answer later."""
    await ctx.report_progress(1)
    await ctx.close_stream(50)
    await lasts(seconds)
    return "left"


@server.tool
async def work(ctx: Context, seconds: float) -> int:
    """Be busy, and return the number of the release."""
    await ctx.report_progress(1)
    await lasts(seconds)
    return RELEASE


@server.resource("test://changing")
def changing() -> str:
    """Change."""
    return "changed"


@server.tool
def touch(uri: str) -> str:
    """Change the resource, which only those who subscribed to it are told."""
    server.resource_updated(uri)
    return "touched"


if __name__ == "__main__":
    server.run()
