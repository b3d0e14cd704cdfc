import asyncio
from typing import Any

import pytest
from fastmcp import Client
from fastmcp.exceptions import ToolError
from starlette.testclient import TestClient

import server

TOKEN = "a-token-for-tests"
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "tests", "version": "1"},
    },
}


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "TOKEN", TOKEN)


def test_the_tool_returns_structured_weather() -> None:
    async def call() -> dict[str, Any] | None:
        async with Client(server.mcp) as client:
            return (await client.call_tool("get_weather", {"city": "Oslo"})).structured_content

    assert asyncio.run(call()) == {"city": "Oslo", "temperature_c": 25, "conditions": "cloudy"}


def test_a_city_without_a_name_is_refused() -> None:
    async def call() -> None:
        async with Client(server.mcp) as client:
            await client.call_tool("get_weather", {"city": ""})

    with pytest.raises(ToolError):
        asyncio.run(call())


def test_the_resource_and_the_prompt_name_the_city() -> None:
    async def read() -> tuple[str, str]:
        async with Client(server.mcp) as client:
            [resource] = await client.read_resource("weather://forecast/Oslo")
            prompt = await client.get_prompt("packing_list", {"city": "Oslo"})
            return resource.text, prompt.messages[0].content.text

    assert all("Oslo" in text for text in asyncio.run(read()))


def initialize(*authorization: str | bytes, host: str = "localhost") -> tuple[int, str]:
    """Return the status of an initialize request, and its challenge."""
    headers: list[tuple[str, str | bytes]] = [("Accept", "application/json, text/event-stream"), ("Host", host)]
    headers += [("Authorization", value) for value in authorization]
    with TestClient(server.app) as client:
        answer = client.post("/mcp", json=INITIALIZE, headers=headers)
    return answer.status_code, answer.headers.get("WWW-Authenticate", "")


def test_the_endpoint_asks_for_the_token() -> None:
    assert initialize(f"Bearer {TOKEN}") == (200, "")
    for wrong in ([], ["Bearer wrong"], ["Basic wrong"], ["Bearer törn".encode("latin-1")]):
        status, challenge = initialize(*wrong)
        assert status == 401
        assert challenge.startswith("Bearer")


def test_only_the_names_of_this_server_are_answered() -> None:
    assert initialize(f"Bearer {TOKEN}", host="elsewhere.example")[0] == 421


def test_health_needs_no_token() -> None:
    with TestClient(server.app, base_url="http://localhost") as client:
        assert client.get("/health").json() == {"status": "ok"}
