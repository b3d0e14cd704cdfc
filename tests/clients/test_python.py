"""The official Python client, in both eras: every feature over HTTP and stdio, the weather server through the gate."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client import Transport
from mcp.client.stdio import StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPDeprecationWarning
from mcp_types import (
    CreateMessageResult,
    ElicitRequestURLParams,
    ElicitResult,
    ListRootsResult,
    PromptReference,
    ResourceTemplateReference,
    Root,
    TextContent,
)

from tests.clients.conftest import FEATURES
from tests.support import clean_env

pytestmark = pytest.mark.filterwarnings(f"ignore::{MCPDeprecationWarning.__module__}.{MCPDeprecationWarning.__name__}")
MODES = [("legacy", "2025-11-25"), ("2026-07-28", "2026-07-28")]
STDIO = StdioServerParameters(command=sys.executable, args=[str(FEATURES)], env=clean_env())
Connect = Callable[..., AbstractAsyncContextManager[Client]]


class User:
    """Answers the questions of a server and records its notifications."""

    def __init__(self) -> None:
        self.questions: list[str] = []
        self.logs: list[tuple[str, str | None, Any]] = []
        self.notifications: asyncio.Queue[str] = asyncio.Queue()

    async def elicit(self, context: Any, params: Any) -> ElicitResult:
        if isinstance(params, ElicitRequestURLParams):
            self.questions.append(params.url)
            return ElicitResult(action="decline")
        fields = params.requested_schema["properties"]
        self.questions.append(params.message)
        given: dict[str, Any] = {"city": "Oslo", "days": 2} if "city" in fields else {}
        sole = dict.fromkeys(fields, True if "sure" in fields else "Ada")
        return ElicitResult(action="accept", content=given or sole)

    async def sample(self, context: Any, params: Any) -> CreateMessageResult:
        self.questions.append(params.messages[0].content.text)
        return CreateMessageResult(role="assistant", content=TextContent(text="Hello"), model="m")

    async def roots(self, context: Any) -> ListRootsResult:
        return ListRootsResult(roots=[Root(uri="file:///home")])

    async def log(self, params: Any) -> None:
        self.logs.append((params.level, params.logger, params.data))

    async def receive(self, message: Any) -> None:
        self.notifications.put_nowait(message.method)


@asynccontextmanager
async def through_the_gate(app: dict[str, str]) -> AsyncIterator[Transport]:
    """Give the transport of the official client to a hosted app."""
    async with httpx2.AsyncClient(headers={"Authorization": f"Bearer {app['token']}"}, timeout=120) as http:
        yield streamable_http_client(app["url"], http_client=http)


@pytest.fixture(params=["http", "stdio", "gate"])
def connect(request: pytest.FixtureRequest) -> Connect:
    """Connect to the feature server as a `User`, in one of the ways."""

    @asynccontextmanager
    async def target() -> AsyncIterator[str | StdioServerParameters | Transport]:
        if request.param == "gate":
            async with through_the_gate(request.getfixturevalue("hosted")["features"]) as transport:
                yield transport
        else:
            yield request.getfixturevalue("features") if request.param == "http" else STDIO

    @asynccontextmanager
    async def connected(mode: str, user: User) -> AsyncIterator[Client]:
        async with (
            target() as server,
            Client(
                server,
                mode=mode,
                elicitation_callback=user.elicit,
                sampling_callback=user.sample,
                list_roots_callback=user.roots,
                logging_callback=user.log,
                message_handler=user.receive,
                log_level="info",
                read_timeout_seconds=20,
            ) as client,
        ):
            yield client

    return connected


async def call(client: Client, tool: str, **arguments: Any) -> str:
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result
    return "\n".join(block.text for block in result.content if isinstance(block, TextContent))


@pytest.mark.parametrize(("mode", "version"), MODES)
def test_the_official_python_client_uses_every_feature(mode: str, version: str, connect: Connect) -> None:
    async def test() -> None:
        user = User()
        async with connect(mode, user) as client:
            assert client.protocol_version == version
            await check_questions(client, user)
            await check_progress_and_logs(client, user)
            await check_lists_and_content(client)
            await check_changes(client, user)
            await check_cancellation(client)

    asyncio.run(test())


async def check_questions(client: Client, user: User) -> None:
    assert await call(client, "book") == "Hello, Ada: 2 days in Oslo, aisle, ['file:///home']"
    assert await call(client, "confirm", city="Oslo") == "Oslo: True"
    assert await call(client, "visit") == "decline"
    assert user.questions[0] == "Where to?"
    assert set(user.questions[1:3]) == {"Say hello", "Your name?"}
    assert user.questions[3:] == ["Are you sure?", "https://pay.example/1"]


async def check_progress_and_logs(client: Client, user: User) -> None:
    seen: list[tuple[float, float | None, str | None]] = []

    async def progress(done: float, total: float | None, message: str | None) -> None:
        seen.append((done, total, message))

    await client.call_tool("steps", {"to": 2}, progress_callback=progress)
    assert seen == [(1, 2, "step 1"), (2, 2, "step 2")]
    await call(client, "say")
    assert user.logs == [("info", "features", {"n": 1}), ("error", None, "high")]
    if client.protocol_version == "2025-11-25":
        await client.set_logging_level("error")
        await call(client, "say")
        assert user.logs[2:] == [("error", None, "high")]


async def check_lists_and_content(client: Client) -> None:
    tools, cursor, pages = [], None, 0
    while pages == 0 or cursor:
        page = await client.list_tools(cursor=cursor)
        tools += [tool.name for tool in page.tools]
        cursor, pages = page.next_cursor, pages + 1
    assert (len(tools), pages) == (15, 4)
    kinds = [block.type for block in (await client.call_tool("show", {})).content]
    assert kinds == ["text", "image", "audio", "resource_link", "resource"]
    assert await call(client, "route", region="Zürich", priority=2) == "Zürich 2"
    assert (await client.call_tool("route", {})).is_error
    read = (await client.read_resource("weather://oslo/today")).contents[0]
    assert base64.b64decode(read.blob) == b"oslo today"
    packing = await client.get_prompt("pack", {"city": "Oslo", "kind": "heavy"})
    assert [(message.role, message.content.text) for message in packing.messages] == [
        ("user", "Pack heavy for Oslo"),
        ("assistant", "Certainly"),
    ]
    template = ResourceTemplateReference(uri="weather://{city}/{day}")
    cities = await client.complete(template, {"name": "city", "value": "o"}, {"day": "today"})
    assert cities.completion.values == ["oslo today", "ottawa today"]
    kinds = (await client.complete(PromptReference(name="pack"), {"name": "kind", "value": "l"})).completion.values
    assert kinds == ["light"]


async def check_changes(client: Client, user: User) -> None:
    if client.protocol_version == "2025-11-25":
        await client.subscribe_resource("config://x")
        await call(client, "change")
        expected = {"notifications/tools/list_changed", "notifications/resources/updated"}
        while expected:
            expected.discard(await user.notifications.get())
        await client.unsubscribe_resource("config://x")
        return
    async with client.listen(tools_list_changed=True, resource_subscriptions=["config://x"]) as stream:
        await call(client, "change")
        received = {type(await anext(stream)).__name__, type(await anext(stream)).__name__}
    assert received == {"ToolsListChanged", "ResourceUpdated"}


async def check_cancellation(client: Client) -> None:
    waiting = asyncio.create_task(client.call_tool("wait", {}))
    assert await call(client, "begun") == "begun"
    waiting.cancel()
    assert await call(client, "cancelled") == "cancelled"


@pytest.mark.parametrize("hosted_too", [False, True], ids=["alone", "gate"])
def test_the_official_python_client_resumes_a_stream_that_was_closed_early(
    hosted_too: bool, request: pytest.FixtureRequest
) -> None:
    async def test(target: str | Transport) -> None:
        async with Client(target, mode="legacy", read_timeout_seconds=20) as client:
            assert await call(client, "leave") == "left"

    async def hosted() -> None:
        async with through_the_gate(request.getfixturevalue("hosted")["features"]) as transport:
            await test(transport)

    asyncio.run(hosted() if hosted_too else test(request.getfixturevalue("features")))


@pytest.mark.parametrize(("mode", "version"), [*MODES, ("auto", "2026-07-28")])
def test_the_official_python_client_uses_the_hosted_weather_server_through_the_gate(
    mode: str, version: str, hosted: dict[str, dict[str, str]]
) -> None:
    async def test() -> None:
        async with through_the_gate(hosted["weather"]) as transport, Client(transport, mode=mode) as client:
            assert client.protocol_version == version
            assert [tool.name for tool in (await client.list_tools()).tools] == ["get_weather", "convert_currency"]
            weather = await client.call_tool("get_weather", {"city": "Paris"})
            assert weather.structured_content == {"city": "Paris", "temperature_c": 18, "conditions": "windy"}
            wrong = await client.call_tool("get_weather", {"town": "Paris"})
            assert wrong.is_error
            forecast = await client.read_resource("weather://forecast/Paris")
            assert json.loads(forecast.contents[0].text)["city"] == "Paris"
            packing = await client.get_prompt("packing_list", {"city": "Paris"})
            assert packing.messages[0].content.text.startswith("Look up the weather of Paris")

    asyncio.run(test())
