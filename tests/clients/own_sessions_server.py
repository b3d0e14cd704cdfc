"""The tools of `foreign_server.py`, by a server of Portway's."""

from __future__ import annotations

import asyncio
import os
from typing import Annotated

from portway import Ask, Context, Server

server = Server("own")
NEVER = asyncio.Event()


@server.resource("test://changing")
def changing() -> str:
    """Change."""
    return "changed"


@server.tool
async def known(ctx: Context) -> dict[str, int]:
    """Say which process this is, and tell the client of it at two levels."""
    await ctx.info("low")
    await ctx.error("high")
    return {"pid": os.getpid()}


@server.tool
def confirm(city: str, sure: Annotated[bool, Ask("Are you sure?")]) -> str:
    """Ask."""
    return f"{city}: {sure}"


@server.tool
async def wait() -> str:
    """Never answer."""
    await NEVER.wait()
    return "never"


@server.tool
async def work(ctx: Context) -> str:
    """Tell progress."""
    await ctx.report_progress(1, 2)
    return "done"


@server.tool
def touch(uri: str) -> str:
    """Change the resource, which only those who subscribed to it are told."""
    server.resource_updated(uri)
    return "touched"


if __name__ == "__main__":
    server.run()
