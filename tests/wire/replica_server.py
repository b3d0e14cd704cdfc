"""A server for tests with several replicas; its tools return the process id that answered."""

import os

from portway import Context, Server

server = Server("replicated", page_size=2)


@server.tool
async def where(ctx: Context) -> int:
    """Return the process id that answers."""
    await ctx.info("here")
    return os.getpid()


@server.tool(asks=True)
async def confirm(ctx: Context) -> list[int | str | bool]:
    """Return the process id that asked first, the one that got the last answer, and both answers."""
    first = await ctx.once("first", os.getpid)
    name = await ctx.elicit("Your name?", str)
    sure = await ctx.elicit(f"Sure, {name.data}?", bool)
    return [first, os.getpid(), name.data or "", bool(sure.data)]


@server.tool
def third() -> str:
    """Make the list of tools need a second page."""
    return "third"


@server.resource("note://{name}")
def note(name: str) -> str:
    return name
