"""The official TypeScript clients, in both eras, use the weather server: over HTTP, stdio and through the gate."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import ROOT, WEATHER, clean_env, served

pytestmark = [pytest.mark.clients, pytest.mark.timeout(120)]

NODE = ROOT / "tests" / "node"
TOKEN = "typescript-secret"
CLIENTS = [
    ({"client": "v1"}, "2025-11-25"),
    ({"client": "v2", "mode": "legacy"}, "2025-11-25"),
    ({"client": "v2", "mode": "auto"}, "2026-07-28"),
    ({"client": "v2", "mode": "2026-07-28"}, "2026-07-28"),
]
each_client = pytest.mark.parametrize(
    ("client", "version"), CLIENTS, ids=[" ".join(client.values()) for client, _ in CLIENTS]
)


@pytest.fixture(scope="module")
def weather() -> Iterator[str]:
    with served(env={"PORTWAY_TOKENS": f"typescript:{TOKEN}"}) as url:
        yield url


def met(client: dict[str, str], **target: object) -> dict[str, Any]:
    """What the client saw of the server it was pointed at."""
    if not (NODE / "node_modules").exists():
        pytest.skip("tests/node/node_modules is missing: run `make test-all`")
    command = ["node", "weather.mjs", json.dumps(client | target)]
    done = subprocess.run(command, cwd=NODE, env=clean_env(), capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen


def check(seen: dict[str, Any], version: str | None) -> None:
    assert seen.get("version") == version
    assert {"name": "weather", "version": "1.0.0"}.items() <= seen["server"].items()
    assert list(seen["tools"]) == ["get_weather", "convert_currency"]
    assert seen["tools"]["get_weather"]["inputSchema"]["required"] == ["city"]
    assert seen["tools"]["get_weather"]["description"] == "Get the current weather of a city."
    weather = {"city": "Paris", "temperature_c": 18, "conditions": "windy"}
    assert seen["weather"]["structuredContent"] == weather
    assert json.loads(seen["weather"]["content"][0]["text"]) == weather
    assert not seen["weather"].get("isError")
    assert seen["wrong"]["isError"]
    assert "city" in seen["wrong"]["text"]
    assert "town" in seen["wrong"]["text"]
    assert seen["resources"] == ["config://app-settings"]
    assert seen["templates"] == ["weather://forecast/{city}"]
    assert json.loads(seen["settings"][0]["text"]) == {"units": "metric", "language": "en"}
    assert json.loads(seen["forecast"][0]["text"])["city"] == "Paris"
    assert seen["prompts"] == ["packing_list"]
    assert seen["packing"][0]["content"]["text"].startswith("Look up the weather of Paris")


@each_client
def test_a_typescript_client_uses_the_weather_server_over_http(
    client: dict[str, str], version: str, weather: str
) -> None:
    check(met(client, url=weather, token=TOKEN), version)


@each_client
def test_a_typescript_client_uses_the_weather_server_over_stdio(client: dict[str, str], version: str) -> None:
    seen = met(client, command=[sys.executable, str(WEATHER)])
    check(seen, version if client["client"] == "v2" else None)  # v1 does not tell the version over stdio


@each_client
def test_a_typescript_client_uses_the_hosted_weather_server_through_the_gate(
    client: dict[str, str], version: str, hosted: dict[str, str]
) -> None:
    check(met(client, **hosted), version)
