"""Other client families, each from an environment of its own, use the feature server alone and through the gate."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clients.conftest import FEATURES
from tests.support import ROOT, clean_env, served

pytestmark = pytest.mark.clients

TOKEN = "family-secret"


@pytest.fixture(scope="module")
def alone() -> Iterator[dict[str, str]]:
    """The feature server without a host, which asks for a token."""
    with served(FEATURES, env={"PORTWAY_TOKENS": f"family:{TOKEN}"}) as url:
        yield {"url": url, "token": TOKEN}


@pytest.fixture(params=["alone", "gate"])
def server(request: pytest.FixtureRequest) -> dict[str, str]:
    """The `url` and `token` of the feature server, reached in one of the ways."""
    if request.param == "gate":
        features: dict[str, str] = request.getfixturevalue("hosted")["features"]
        return features
    alone: dict[str, str] = request.getfixturevalue("alone")
    return alone


def seen_by(environment: str, script: str, server: dict[str, str], *options: str) -> dict[str, Any]:
    """Run a script of `families/` and return what its client saw."""
    python = ROOT / ".venv-clients" / environment / "bin" / "python"
    if not python.exists():
        pytest.skip(f".venv-clients/{environment} is missing: run `make test-all`")
    command = [python, Path(__file__).parent / "families" / script, server["url"], server["token"], *options]
    done = subprocess.run(command, env=clean_env(), capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return seen


WRONG = "2 arguments are wrong for add: b: missing (an integer is required); c: unknown"


def test_mcp_1_uses_a_server_of_today(server: dict[str, str]) -> None:
    seen = seen_by("mcp1", "mcp_v1_client.py", server)
    assert seen["version"] == "2025-11-25"
    assert seen["properties"]["book"] == {}
    assert seen["sum"] == {"result": 3}
    assert seen["answer"] == "Oslo: True"
    assert seen["questions"] == ["Are you sure?"]
    assert seen["cancelled"] == [-32800, -32800]
    assert seen["software"].startswith("mcp ")
    assert seen["wrong"] == WRONG


@pytest.mark.parametrize(
    ("environment", "options"), [("fastmcp3", []), ("fastmcp4", []), ("fastmcp4", ["legacy"])], ids=str
)
def test_fastmcps_client_gets_plain_data_and_answers(
    environment: str, options: list[str], server: dict[str, str]
) -> None:
    seen = seen_by(environment, "fastmcp_client.py", server, *options)
    assert seen["properties"]["change"] == {}
    assert seen["sum"] == 3
    assert seen["answer"] == "Oslo: True"
    assert seen["questions"] == ["Are you sure?"]
    assert seen["wrong"] == WRONG


def test_langchain_reads_every_tool(server: dict[str, str]) -> None:
    seen = seen_by("mcp1", "langchain_client.py", server)
    assert seen["properties"]["change"] == {}
    assert seen["sum"][0]["text"] == "3"


def test_smolagents_reads_a_tool_without_arguments(server: dict[str, str]) -> None:
    seen = seen_by("mcp1", "smolagents_client.py", server)
    assert seen["properties"]["book"] == {}
    assert seen["sum"] == {"result": 3}
