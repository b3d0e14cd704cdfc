"""The official Python client, in both eras, uses the weather server through the gate (alone: tests/transport)."""

from __future__ import annotations

import asyncio
import json

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client


@pytest.mark.parametrize(
    ("mode", "version"), [("legacy", "2025-11-25"), ("auto", "2026-07-28"), ("2026-07-28", "2026-07-28")]
)
def test_the_official_python_client_uses_the_hosted_weather_server_through_the_gate(
    mode: str, version: str, hosted: dict[str, str]
) -> None:
    async def test() -> None:
        async with (
            httpx2.AsyncClient(headers={"Authorization": f"Bearer {hosted['token']}"}) as http,
            Client(streamable_http_client(hosted["url"], http_client=http), mode=mode) as client,
        ):
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
