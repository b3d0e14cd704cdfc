"""A server of the official SDK for the client to meet; its arguments are `stdio` or `http PORT`."""

from __future__ import annotations

import asyncio
import sys

from mcp.server import MCPServer
from mcp.server.mcpserver import Context

server = MCPServer("official", version="9")


@server.tool()
async def add(a: int, b: int = 2) -> int:
    return a + b


@server.tool()
async def count(to: int, ctx: Context) -> str:  # type: ignore[type-arg]
    for n in range(1, to + 1):
        await ctx.report_progress(n, to, f"step {n}")
    return "counted"


@server.tool()
async def fail() -> str:
    raise ValueError("no good")


@server.tool()
async def wait() -> None:
    await asyncio.Event().wait()


@server.resource("config://x")
def config() -> str:
    return "settings"


@server.resource("weather://{city}")
def weather(city: str) -> str:
    return city


@server.prompt()
def greet(name: str) -> str:
    return f"hi {name}"


if __name__ == "__main__":
    if sys.argv[1] == "stdio":
        server.run("stdio")
    else:
        server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[2]))
