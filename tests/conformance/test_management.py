"""The generic server scenarios of the official suite against the management server, through the gate, as a user."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.test_suite import SUITE, Checks, faults
from tests.conformance.token_proxy import token_proxy
from tests.host.running_host import host
from tests.support import clean_env

pytestmark = pytest.mark.conformance

SCENARIOS = {
    "2025-11-25": ("server-initialize", "ping", "tools-list", "dns-rebinding-protection"),
    "2026-07-28": (
        *("server-stateless", "tools-list", "server-sse-multiple-streams", "dns-rebinding-protection"),
        *("caching", "http-header-validation", "sep-2164-resource-not-found"),
    ),
}
"""Those that need no tool, resource or prompt made for the suite, and no session, which this server has not."""
UNTESTABLE = ("does not list the diagnostic tool", "Mutated the ", "resources/list failed or returned no resources")
"""What the suite says of the checks that need its own tools all the same."""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with host(tmp_path_factory.mktemp("management") / "data") as running:
        token = running.portway("user", "add", "suite", "--role", "admin").stdout.strip()
        with token_proxy(int(running.ready["url"].rpartition(":")[2]), token) as port:
            yield f"http://localhost:{port}/_portway/mcp"


@pytest.mark.parametrize("revision", SCENARIOS)
def test_every_check_of_the_generic_scenarios_succeeds(url: str, revision: str, tmp_path: Path) -> None:
    if not SUITE.exists():
        pytest.skip("tests/node/node_modules is missing: run `make test-all`")
    checks: Checks = {}
    for scenario in SCENARIOS[revision]:
        into = tmp_path / scenario
        command = [SUITE.parents[1] / ".bin" / "conformance", "server", "-o", into, "--spec-version", revision]
        done = subprocess.run(
            [*command, "--scenario", scenario, "--url", url],
            env=clean_env(),
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        found = [check for path in into.rglob("checks.json") for check in json.loads(path.read_text(encoding="utf-8"))]
        assert any(check["status"] == "SUCCESS" for check in found), done.stdout[-2000:] + done.stderr
        checks[scenario] = [check for check in found if not any(said in str(check) for said in UNTESTABLE)]
    assert not faults(checks), "\n".join(faults(checks))
