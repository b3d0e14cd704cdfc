"""One server by four packages, with their defaults and so with sessions in memory: `foreign_server.py KIND`."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

from pydantic import BaseModel

KIND = sys.argv[1]
PORT = int(os.environ["PORT"])
NEVER = asyncio.Event()
state: dict[str, Any] = {"pid": os.getpid(), "level": None, "subscribed": []}

if KIND.startswith("fastmcp"):
    from fastmcp import Context, FastMCP

    server = FastMCP("foreign")
    low = server._mcp_server
elif KIND == "mcp1":
    from mcp.server.fastmcp import Context, FastMCP

    server = FastMCP("foreign", host="0.0.0.0", port=PORT)
    low = server._mcp_server
else:
    from mcp.server import MCPServer
    from mcp.server.mcpserver import Context

    server = MCPServer("foreign")
    low = server._lowlevel_server


class Sure(BaseModel):
    sure: bool


@server.tool()
def known() -> str:
    """Say what this process knows."""
    return json.dumps(state)


@server.tool()
async def confirm(city: str, ctx: Context) -> str:
    """Ask."""
    kind = {"response_type": Sure} if KIND.startswith("fastmcp") else {"schema": Sure}
    answer: Any = await ctx.elicit("Are you sure?", **kind)
    return f"{city}: {answer.data.sure}"


@server.tool()
async def wait() -> str:
    """Never answer."""
    await NEVER.wait()
    return "never"


@server.tool()
async def work(ctx: Context) -> str:
    """Tell progress."""
    await ctx.report_progress(1, 2)
    return "done"


@server.tool()
async def touch(uri: str, ctx: Context) -> str:
    """Tell the client, on its own stream, that a resource has changed."""
    await ctx.session.send_resource_updated(uri)
    return "touched"


def subscribed(uri: object) -> None:
    state["subscribed"].append(str(uri))


def levelled(level: str) -> None:
    state["level"] = level


if KIND in ("fastmcp4", "mcp2"):
    from mcp import types

    async def on_subscribe(_: object, params: Any) -> types.EmptyResult:
        subscribed(params.uri)
        return types.EmptyResult()

    async def on_level(_: object, params: Any) -> types.EmptyResult:
        levelled(params.level)
        return types.EmptyResult()

    low.add_request_handler("resources/subscribe", types.SubscribeRequestParams, on_subscribe)
    low.add_request_handler("logging/setLevel", types.SetLevelRequestParams, on_level)
else:

    @low.subscribe_resource()
    async def on_subscribe(uri: object) -> None:
        subscribed(uri)

    @low.set_logging_level()
    async def on_level(level: str) -> None:
        levelled(level)


if KIND.startswith("fastmcp"):
    server.run(transport="http", port=PORT, show_banner=False)
elif KIND == "mcp1":
    server.run("streamable-http")
else:
    server.run("streamable-http", host="0.0.0.0", port=PORT)
