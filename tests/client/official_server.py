"""A server of the official SDK for the tests of the client. Its arguments are `stdio` or `http PORT`."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated

from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.resolve import Elicit, ListRoots, Resolve, Sample
from mcp.server.streamable_http import EventCallback, EventMessage, EventStore
from mcp_types import (
    Completion,
    CreateMessageResult,
    JSONRPCMessage,
    ListRootsResult,
    SamplingMessage,
    TextContent,
)
from pydantic import BaseModel

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


class Person(BaseModel):
    name: str


def ask_name() -> Elicit[Person]:
    return Elicit("Who are you?", Person)


def ask_model() -> Sample:
    return Sample([SamplingMessage(role="user", content=TextContent(text="Say hello"))], max_tokens=9)


@server.tool()
async def greet(
    person: Annotated[Person, Resolve(ask_name)],
    said: Annotated[CreateMessageResult, Resolve(ask_model)],
    places: Annotated[ListRootsResult, Resolve(ListRoots)],
) -> str:
    assert isinstance(said.content, TextContent)
    return f"{said.content.text}, {person.name} of {places.roots[0].uri}"


@server.tool()
async def say(ctx: Context) -> None:  # type: ignore[type-arg]
    await ctx.debug("too low")
    await ctx.warning("careful")


@server.tool()
async def change(ctx: Context) -> None:  # type: ignore[type-arg]
    await ctx.notify_tools_changed()
    await ctx.session.send_tool_list_changed()
    await ctx.notify_resource_updated("config://x")
    await ctx.session.send_resource_updated("config://x")


@server.tool()
async def leave(ctx: Context) -> str:  # type: ignore[type-arg]
    await ctx.close_sse_stream()
    return "resumed"


@server.completion()
async def complete(ref: object, argument: object, context: object) -> Completion:
    return Completion(values=[f"{argument.value}slo", str(context and context.arguments)], total=2)


@server.resource("config://x")
def config() -> str:
    return "settings"


@server.resource("weather://{city}")
def weather(city: str) -> str:
    return city


@server.prompt(name="greet")
def greeting(name: str) -> str:
    return f"hi {name}"


class Events(EventStore):
    """The events of all streams, in order. An id is an index."""

    def __init__(self) -> None:
        self.events: list[tuple[str, JSONRPCMessage | None]] = []

    async def store_event(self, stream_id: str, message: JSONRPCMessage | None) -> str:
        self.events.append((stream_id, message))
        return str(len(self.events))

    async def replay_events_after(self, last_event_id: str, send_callback: EventCallback) -> str | None:
        place = int(last_event_id)
        stream = self.events[place - 1][0]
        for number, (of, message) in enumerate(self.events[place:], place + 1):
            if of == stream and message is not None:
                await send_callback(EventMessage(message, str(number)))
        return stream


if __name__ == "__main__":
    if sys.argv[1] == "stdio":
        server.run("stdio")
    else:
        port = int(sys.argv[2])
        server.run("streamable-http", host="127.0.0.1", port=port, event_store=Events(), retry_interval=1)
