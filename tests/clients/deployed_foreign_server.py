"""The tools of `deployed_server.py`, by FastMCP with an event store, from which its legacy clients resume streams.

Of FastMCP 4, modern clients get what its documents say: a tool asks by what it returns, and `subscriptions/listen` is
the handler of the SDK below it, as its own server refuses that method.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import Any

import uvicorn
from fastmcp import Context, FastMCP
from fastmcp.server.event_store import EventStore
from pydantic import BaseModel

server = FastMCP("deployed")
MODERN = "2026-07-28"
NEVER = asyncio.Event()
RELEASE = os.environ["PORTWAY_RELEASE"]


class Sure(BaseModel):
    sure: bool


async def lasts(seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(NEVER.wait(), seconds)


@server.tool()
async def confirm(city: str, ctx: Context) -> Any:
    """Ask: a legacy client during the call, a modern one by the result."""
    context: Any = ctx.request_context
    if getattr(context, "protocol_version", "") == MODERN:
        return ask_by_result(city, ctx)
    answer: Any = await ctx.elicit("Are you sure?", response_type=Sure)
    return f"{city}: {answer.data.sure}"


def ask_by_result(city: str, ctx: Any) -> Any:
    from mcp import types

    if ctx.input_responses:
        return f"{city}: {ctx.input_responses['sure'].content['sure']}"
    form = types.ElicitRequestFormParams(message="Are you sure?", requested_schema=Sure.model_json_schema())
    return types.InputRequiredResult(input_requests={"sure": types.ElicitRequest(params=form)})


@server.tool()
async def wait() -> str:
    """Never answer."""
    await NEVER.wait()
    return "never"


@server.tool()
async def leave(ctx: Context, seconds: float) -> str:
    """Close the stream, and answer when the client has come back: the SDK loses a reply that it makes meanwhile."""
    await ctx.report_progress(1)
    await ctx.close_sse_stream()
    await lasts(seconds + 1)
    return "left"


@server.tool()
async def work(ctx: Context, seconds: float) -> str:
    """Be busy, and return the number of the release."""
    await ctx.report_progress(1)
    await lasts(seconds)
    return RELEASE


@server.tool()
async def touch(uri: str, ctx: Context) -> str:
    """Tell the client, on its own stream, that a resource has changed."""
    await ctx.session.send_resource_updated(uri)
    return "touched"


low: Any = server._mcp_server
if hasattr(low, "subscribe_resource"):

    @low.subscribe_resource()
    async def on_subscribe(uri: object) -> None: ...

else:
    from mcp import types
    from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler

    async def on_subscribe_4(_: object, params: Any) -> types.EmptyResult:
        return types.EmptyResult()

    low.add_request_handler("resources/subscribe", types.SubscribeRequestParams, on_subscribe_4)
    listening = ListenHandler(InMemorySubscriptionBus())
    low.add_request_handler("subscriptions/listen", types.SubscriptionsListenRequestParams, listening)

app = server.http_app(event_store=EventStore(), retry_interval=50)
uvicorn.run(app, host="127.0.0.1", port=int(os.environ["PORT"]), timeout_graceful_shutdown=5, log_level="warning")
