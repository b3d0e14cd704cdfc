"""The official TypeScript clients, in both eras: every feature over HTTP and stdio, the weather server everywhere."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.clients.conftest import FEATURES
from tests.support import ROOT, WEATHER, clean_env, served

pytestmark = pytest.mark.clients

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


def run_client(client: dict[str, str], script: str = "weather.mjs", **target: object) -> dict[str, Any]:
    """Run `script` with a client and a server; return what the client saw."""
    if not (NODE / "node_modules").exists():
        pytest.skip("tests/node/node_modules is missing: run `make test-all`")
    command = ["node", script, json.dumps(client | target)]
    done = subprocess.run(command, cwd=NODE, env=clean_env(), capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen


def check_weather(seen: dict[str, Any], version: str | None) -> None:
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
    check_weather(run_client(client, url=weather, token=TOKEN), version)


@each_client
def test_a_typescript_client_uses_the_weather_server_over_stdio(client: dict[str, str], version: str) -> None:
    seen = run_client(client, command=[sys.executable, str(WEATHER)])
    check_weather(seen, version if client["client"] == "v2" else None)  # v1 does not give the version over stdio


@each_client
def test_a_typescript_client_uses_the_hosted_weather_server_through_the_gate(
    client: dict[str, str], version: str, hosted: dict[str, dict[str, str]]
) -> None:
    check_weather(run_client(client, **hosted["weather"]), version)


def check_features(client: dict[str, str], **target: object) -> dict[str, Any]:
    seen = run_client(client, "features.mjs", **target)
    assert seen["questions"][0] == "Where to?"
    assert set(seen["questions"][1:3]) == {"Say hello", "Your name?"}
    assert seen["questions"][3:] == ["Are you sure?", "https://pay.example/1"]
    assert seen["book"] == "Hello, Ada: 2 days in Oslo, aisle, ['file:///home']"
    assert (seen["confirm"], seen["visit"]) == ("Oslo: True", "decline")
    steps = [[1, 2, "step 1"], [2, 2, "step 2"]]
    # Over stdio these clients drop the progress that they read together with the result.
    assert seen["progress"] == steps if "url" in target else all(step in steps for step in seen["progress"])
    assert seen["logs"] == [["error", "high"]]
    assert len(seen["tools"]) == 15
    assert seen["show"] == "text image audio resource_link resource"
    assert seen["route"] == "Zürich 2"
    assert base64.b64decode(seen["read"]) == b"oslo today"
    assert seen["pack"] == ["Pack light for Oslo", "Certainly"]
    assert seen["cities"] == ["oslo today", "ottawa today"]
    assert seen["changes"] == ["config://x", "tools"]
    assert "enough" in seen["aborted"]
    assert seen["cancelled"] == "cancelled"
    return seen


FEATURE_CLIENTS = [client for client, _ in CLIENTS if client.get("mode") != "auto"]
each_feature_client = pytest.mark.parametrize("client", FEATURE_CLIENTS, ids=lambda client: " ".join(client.values()))


@each_feature_client
@pytest.mark.parametrize("behind_a_gate", [False, True], ids=["alone", "gate"])
def test_a_typescript_client_uses_every_feature_over_http(
    client: dict[str, str], behind_a_gate: bool, request: pytest.FixtureRequest
) -> None:
    hosted = request.getfixturevalue("hosted")["features"] if behind_a_gate else None
    seen = check_features(client, **(hosted or {"url": request.getfixturevalue("features")}))
    assert seen.get("leave") == ("left" if client.get("mode", "legacy") == "legacy" else None)


@each_feature_client
def test_a_typescript_client_uses_every_feature_over_stdio(client: dict[str, str]) -> None:
    check_features(client, command=[sys.executable, str(FEATURES)])
