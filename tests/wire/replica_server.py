"""A server to run several times at once; its tools say which process answered."""

import os

from portway import Context, Server

server = Server("replicated", page_size=2)


@server.tool
async def where(ctx: Context) -> int:
    """The process that answers."""
    await ctx.info("here")
    return os.getpid()


@server.tool(asks=True)
async def confirm(ctx: Context) -> list[int | str | bool]:
    """The process that asked first, that which got the last answer, and both answers."""
    first = await ctx.once("first", os.getpid)
    name = await ctx.elicit("Your name?", str)
    sure = await ctx.elicit(f"Sure, {name.data}?", bool)
    return [first, os.getpid(), name.data or "", bool(sure.data)]


@server.tool
def third() -> str:
    """For a second page."""
    return "third"


@server.resource("note://{name}")
def note(name: str) -> str:
    return name
