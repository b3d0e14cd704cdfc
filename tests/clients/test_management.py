"""The official clients manage a host: Python 1.x and 2.x, and TypeScript, in both eras."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from tests.clients.test_families import seen_by
from tests.clients.test_python import MODES
from tests.clients.test_typescript import CLIENTS, run_client
from tests.host.running_host import host
from tests.support import WEATHER

pytestmark = pytest.mark.clients


@pytest.fixture(scope="module")
def managed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The `url` and a `token` of the management server of a host with the weather server."""
    with host(tmp_path_factory.mktemp("managed") / "data", [WEATHER.parent]) as running:
        token = running.portway("user", "add", "ada", "--role", "admin").stdout.strip()
        yield {"url": running.ready["url"] + "/_portway/mcp", "token": token}


def check(seen: dict[str, Any], version: str | None) -> None:
    assert seen["version"] == version
    assert (seen["instructions"] or "Operates").startswith("Operates")  # the Python client of 2026-07-28 asks for none
    lists = [
        "list_app_tools",
        "list_apps",
        "list_domains",
        "list_releases",
        "list_tokens",
        "list_users",
        "list_variables",
    ]
    assert seen["reads"] == ["config", *lists, "logs", "metrics", "whoami"]
    assert seen["who"]["name"] == "ada"
    assert seen["restarted"]["app"] == "weather"
    assert any(step.startswith("ready ") for step in seen["steps"])
    assert seen["plan"]["destroyed"] is False
    assert seen["plan"]["confirm"]
    assert seen["refused"].startswith("only who is logged in to the host deploys one of its folders")


@pytest.mark.parametrize(("mode", "version"), MODES)
def test_the_official_python_client_manages_a_host(mode: str, version: str, managed: dict[str, str]) -> None:
    steps: list[str] = []

    async def step(progress: float, total: float | None, message: str | None) -> None:
        steps.append(message or "")

    async def test() -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {managed['token']}"}
        async with (
            httpx2.AsyncClient(headers=headers, timeout=120) as http,
            Client(streamable_http_client(managed["url"], http_client=http), mode=mode) as client,
        ):
            tools = (await client.list_tools()).tools
            restarted = await client.call_tool("restart", {"app": "weather"}, progress_callback=step)
            refused = (await client.call_tool("deploy", {"source": "/etc"})).content[0]
            return {
                "version": client.protocol_version,
                "instructions": client.instructions,
                "reads": sorted(tool.name for tool in tools if tool.annotations and tool.annotations.read_only_hint),
                "who": (await client.call_tool("whoami", {})).structured_content,
                "restarted": restarted.structured_content,
                "steps": steps,
                "plan": (await client.call_tool("destroy", {"app": "weather"})).structured_content,
                "refused": getattr(refused, "text", ""),
            }

    check(asyncio.run(test()), version)


def test_mcp_1_manages_a_host(managed: dict[str, str]) -> None:
    check(seen_by("mcp1", "mcp_v1_manages.py", managed), "2025-11-25")


@pytest.mark.parametrize(("client", "version"), CLIENTS[:1] + CLIENTS[-1:])
def test_the_official_typescript_clients_manage_a_host(
    client: dict[str, str], version: str, managed: dict[str, str]
) -> None:
    check(run_client(client, "management.mjs", **managed), version)
