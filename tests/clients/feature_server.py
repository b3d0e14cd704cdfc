"""A server with every feature that clients see: questions, notifications, changes, cancellation, resumed streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Literal

from portway import (
    Ask,
    Audio,
    Context,
    EmbeddedResource,
    Header,
    Image,
    Message,
    ResourceContents,
    ResourceLink,
    Server,
    elicit,
    list_roots,
    sample,
)


class Progress:
    """Whether `wait` has started and has been cancelled."""

    def __init__(self) -> None:
        self.waiting, self.stopped = asyncio.Event(), asyncio.Event()


@asynccontextmanager
async def lifespan(server: Server) -> AsyncIterator[Progress]:
    yield Progress()


server = Server("features", version="1.0.0", page_size=4, lifespan=lifespan)


@dataclass
class Trip:
    city: str
    days: int
    seat: Literal["aisle", "window"] = "aisle"


@server.tool(asks=True)
async def book(ctx: Context) -> str:
    """Ask one question, then three at once."""
    trip = (await ctx.elicit("Where to?", Trip)).data
    roots, model, name = (
        await ctx.ask(roots=list_roots(), model=sample("Say hello"), name=elicit("Your name?", str))
    ).values()
    return f"{model.text}, {name.data}: {trip.days} days in {trip.city}, {trip.seat}, {[root.uri for root in roots]}"


@server.tool
def add(a: int, b: int) -> int:
    """Return plain data."""
    return a + b


@server.tool
def confirm(city: str, sure: Annotated[bool, Ask("Are you sure?")]) -> str:
    """Ask the question in the signature."""
    return f"{city}: {sure}"


@server.tool(asks=True)
async def visit(ctx: Context) -> str:
    """Ask the user to visit a page."""
    return (await ctx.elicit_url("Pay there", "https://pay.example/1")).action


@server.tool
async def steps(ctx: Context, to: int) -> str:
    """Report progress."""
    for n in range(1, to + 1):
        await ctx.report_progress(n, to, f"step {n}")
    return "done"


@server.tool
async def say(ctx: Context) -> str:
    """Log at three levels."""
    await ctx.debug("low")
    await ctx.log("info", {"n": 1}, logger="features")
    await ctx.error("high")
    return "said"


@server.tool
async def wait(ctx: Context) -> None:
    """Never answer."""
    ctx.state.waiting.set()
    try:
        await asyncio.Event().wait()
    finally:
        ctx.state.stopped.set()


@server.tool
async def wait_aloud(ctx: Context) -> None:
    """Never answer, having said something."""
    await ctx.info("waiting")
    await wait(ctx)


@server.tool
async def who(ctx: Context) -> str:
    """Name the client's software."""
    return f"{ctx.client.name} {ctx.client.version}"


@server.tool
async def begun(ctx: Context) -> str:
    """Answer once `wait` runs."""
    ctx.state.stopped.clear()
    await ctx.state.waiting.wait()
    return "begun"


@server.tool
async def cancelled(ctx: Context) -> str:
    """Answer once `wait` has been cancelled."""
    await ctx.state.stopped.wait()
    ctx.state.waiting.clear()
    return "cancelled"


@server.tool
async def change() -> str:
    """Add a tool, remove it, and update a resource."""
    server.tool(say, name="passing")
    server.remove_tool("passing")
    server.resource_updated("config://x")
    return "changed"


@server.tool
async def leave(ctx: Context) -> str:
    """Close the stream before the result."""
    await ctx.report_progress(1)
    await ctx.close_stream(10)
    return "left"


@server.tool
def show() -> list[str | Image | Audio | ResourceLink | EmbeddedResource]:
    """Return content of every kind."""
    return [
        "text",
        Image(data=b"png"),
        Audio(data=b"wav"),
        ResourceLink(uri="config://x", name="x"),
        EmbeddedResource(resource=ResourceContents(uri="config://x", text="settings")),
    ]


@server.tool
def route(region: Annotated[str, Header("Region")], priority: Annotated[int, Header("Priority")] = 1) -> str:
    """Repeat arguments as headers."""
    return f"{region} {priority}"


@server.resource("config://x")
def config() -> str:
    return "settings"


@server.resource("weather://{city}/{day}")
def weather(city: str, day: Literal["today", "tomorrow"]) -> bytes:
    return f"{city} {day}".encode()


@server.completion("weather://{city}/{day}", "city")
def cities(value: str, arguments: dict[str, str]) -> list[str]:
    return [
        f"{city} {arguments.get('day', '')}".strip() for city in ("oslo", "ottawa", "rome") if city.startswith(value)
    ]


@server.prompt
def pack(city: str, kind: Literal["light", "heavy"] = "light") -> list[Message]:
    return [Message(f"Pack {kind} for {city}"), Message("Certainly", role="assistant")]


if __name__ == "__main__":
    server.run()
