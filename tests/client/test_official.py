"""The client against a server of the official SDK: both transports, both eras."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest

from portway.client import Change, Client, Elicitation, Log, Progress, Sampling
from portway.protocol.errors import RpcError
from portway.protocol.versions import Era
from tests.support import started

SERVER = Path(__file__).with_name("official_server.py")
STDIO = [sys.executable, str(SERVER), "stdio"]
TOOLS = ["add", "count", "fail", "wait", "greet", "say", "change", "leave"]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with started(sys.executable, SERVER, "http", str(port), ready="Uvicorn running"):
        yield f"http://127.0.0.1:{port}/mcp"


async def use_everything(client: Client) -> None:
    assert (client.server.name, client.server.version) == ("official", "9")
    assert [tool.name for tool in await client.list_tools()] == TOOLS
    assert [resource.uri for resource in await client.list_resources()] == ["config://x"]
    assert [template.uri_template for template in await client.list_resource_templates()] == ["weather://{city}"]
    assert [argument.name for argument in (await client.list_prompts())[0].arguments] == ["name"]
    result = await client.call_tool("add", {"a": 1})
    assert (result.text, result.structured, result.is_error) == ("3", {"result": 3}, False)
    assert (await client.call_tool("fail")).is_error
    seen: list[Progress] = []
    assert (await client.call_tool("count", {"to": 2}, on_progress=seen.append)).text == "counted"
    assert [(p.progress, p.total, p.message) for p in seen] == [(1, 2, "step 1"), (2, 2, "step 2")]
    assert (await client.read_resource("weather://oslo"))[0].text == "oslo"
    assert (await client.get_prompt("greet", {"name": "Ada"})).messages[0].content.text == "hi Ada"
    completion = await client.complete("weather://{city}", "city", "o", arguments={"a": "b"})
    assert (completion.values, completion.total) == (["oslo", "{'a': 'b'}"], 2)
    with pytest.raises(RpcError):
        await client.request("no/such/method")
    waiting = asyncio.create_task(client.call_tool("wait"))
    await client.call_tool("add", {"a": 1})
    waiting.cancel()
    assert (await client.call_tool("add", {"a": 5})).text == "7"


class Person:
    """Answers what a server asks, and keeps the logs and changes it gets."""

    def __init__(self) -> None:
        self.logs: list[Log] = []
        self.changes: asyncio.Queue[Change] = asyncio.Queue()
        self.handlers: dict[str, Any] = {
            "on_elicit": self.elicit,
            "on_sample": self.sample,
            "roots": ["file:///home"],
            "on_log": self.logs.append,
            "on_change": self.changes.put_nowait,
        }

    async def elicit(self, question: Elicitation) -> dict[str, str]:
        await asyncio.sleep(0)
        assert list(question.requested_schema["properties"]) == ["name"]
        return {"name": "Ada"} if question.message == "Who are you?" else {}

    def sample(self, question: Sampling) -> str:
        assert (question.text, question.max_tokens) == ("Say hello", 9)
        return "Hello"


async def be_asked_and_told(client: Client, person: Person) -> None:
    assert (await client.call_tool("greet")).text == "Hello, Ada of file:///home"
    await client.call_tool("say")
    modern = client.era is Era.MODERN
    if modern:
        await client.set_log_level("error")
        await client.call_tool("say")
        await client.subscribe("config://x")
    assert [(log.level, log.data) for log in person.logs if log.level != "debug"] == [("warning", "careful")]
    await client.call_tool("change")
    heard = {await person.changes.get(), await person.changes.get()}
    assert heard == {Change("tools"), Change("resource", "config://x")}
    if modern:  # a legacy one of this SDK tells what it does not advertise
        async with client.listen("weather://oslo") as changes:
            await client.call_tool("change")
            assert await anext(changes) == Change("tools")


async def connect(target: str | Sequence[str], era: Literal["auto", "legacy", "modern"], spoken: Era) -> None:
    person = Person()
    async with Client(target, era=era, timeout=120, **person.handlers) as client:
        assert client.era is spoken
        await use_everything(client)
        await be_asked_and_told(client, person)


@pytest.mark.parametrize(("era", "spoken"), [("auto", Era.MODERN), ("legacy", Era.LEGACY)])
def test_the_client_uses_every_feature_of_an_official_http_server(
    url: str, era: Literal["auto", "legacy"], spoken: Era
) -> None:
    asyncio.run(connect(url, era, spoken))


@pytest.mark.parametrize(("era", "spoken"), [("modern", Era.MODERN), ("legacy", Era.LEGACY)])
def test_the_client_uses_every_feature_of_an_official_stdio_server(
    era: Literal["modern", "legacy"], spoken: Era
) -> None:
    asyncio.run(connect(STDIO, era, spoken))


def test_a_stream_that_an_official_server_closes_early_is_resumed(url: str) -> None:
    async def main() -> None:
        async with Client(url, era="legacy", timeout=120) as client:
            assert (await client.call_tool("leave")).text == "resumed"

    asyncio.run(main())
