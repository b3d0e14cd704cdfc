"""The client against a server of the official SDK: both transports, both eras."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import pytest

from portway.client import Client, Progress
from portway.protocol.errors import RpcError
from portway.protocol.versions import Era
from tests.support import started

SERVER = Path(__file__).with_name("official_server.py")
STDIO = [sys.executable, str(SERVER), "stdio"]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with started(sys.executable, SERVER, "http", str(port), ready="Uvicorn running"):
        yield f"http://127.0.0.1:{port}/mcp"


async def use_everything(client: Client) -> None:
    assert (client.server.name, client.server.version) == ("official", "9")
    assert [tool.name for tool in await client.list_tools()] == ["add", "count", "fail", "wait"]
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
    with pytest.raises(RpcError):
        await client.request("no/such/method")
    waiting = asyncio.create_task(client.call_tool("wait"))
    await client.call_tool("add", {"a": 1})
    waiting.cancel()
    assert (await client.call_tool("add", {"a": 5})).text == "7"


async def connect(target: str | Sequence[str], era: Literal["auto", "legacy", "modern"], spoken: Era) -> None:
    async with Client(target, era=era, timeout=20) as client:
        assert client.era is spoken
        await use_everything(client)


@pytest.mark.parametrize(("era", "spoken"), [("auto", Era.MODERN), ("legacy", Era.LEGACY)])
def test_it_uses_all_of_an_official_http_server(url: str, era: Literal["auto", "legacy"], spoken: Era) -> None:
    asyncio.run(connect(url, era, spoken))


@pytest.mark.parametrize(("era", "spoken"), [("modern", Era.MODERN), ("legacy", Era.LEGACY)])
def test_it_uses_all_of_an_official_stdio_server(era: Literal["modern", "legacy"], spoken: Era) -> None:
    asyncio.run(connect(STDIO, era, spoken))
