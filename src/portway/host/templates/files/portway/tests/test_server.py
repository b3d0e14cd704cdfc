import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from portway import testing
from portway.client import Client, ClientError

import server

TOKEN = "a-token-for-tests"


def test_the_tool_returns_structured_weather() -> None:
    async def call() -> object:
        async with testing.Client(server.server) as client:
            return (await client.call_tool("get_weather", {"city": "Oslo"})).structured

    assert asyncio.run(call()) == {"city": "Oslo", "temperature_c": 25, "conditions": "cloudy"}


def test_a_city_without_a_name_is_refused() -> None:
    async def call() -> bool:
        async with testing.Client(server.server) as client:
            return (await client.call_tool("get_weather", {"city": ""})).is_error

    assert asyncio.run(call())


def test_the_resource_and_the_prompt_name_the_city() -> None:
    async def read() -> list[Any]:
        async with testing.Client(server.server) as client:
            return [
                await client.read_resource("weather://forecast/Oslo"),
                await client.get_prompt("packing_list", {"city": "Oslo"}),
            ]

    assert all("Oslo" in str(answer) for answer in asyncio.run(read()))


def start(token: str) -> subprocess.Popen[str]:
    """Start the server as a program, on a free port."""
    return subprocess.Popen(
        [sys.executable, Path(server.__file__)],
        env=os.environ | {"MCP_API_TOKEN": token, "PORT": "0"},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_endpoint_asks_for_the_token() -> None:
    with start(TOKEN) as running:
        try:
            found = re.search(r"http://\S+/mcp", running.stderr.readline() if running.stderr else "")
            assert found

            async def tools(token: str) -> int:
                async with Client(found[0].replace("0.0.0.0", "127.0.0.1"), token=token) as client:
                    return len(await client.list_tools())

            assert asyncio.run(tools(TOKEN)) == 1
            with pytest.raises(ClientError, match="refuses the token"):
                asyncio.run(tools("wrong"))
        finally:
            running.terminate()


def test_it_does_not_start_without_a_token() -> None:
    with start("") as running:
        assert running.wait(timeout=30) == 1
