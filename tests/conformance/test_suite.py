"""The official conformance suite against `examples/everything`, for each revision.

The required and the optional server scenarios, except those of tasks, which are not supported (docs/not-supported.md).
No check may fail, warn or be skipped.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import ROOT, SCRIPTS, clean_env, served, started

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.conformance

SUITE = ROOT / "tests" / "node" / "node_modules" / "@modelcontextprotocol" / "conformance"
EVERYTHING = ROOT / "examples" / "everything" / "server.py"
FOREIGN = ("--build", "pip install portway", "--start", "exec portway run server.py --transport http")
REQUIRED = {"2025-11-25": 30, "2026-07-28": 37}
OPTIONAL = {
    "2025-11-25": {"server-session-lifecycle", "json-schema-2020-12", "server-sse-polling"},
    "2026-07-28": {"json-schema-2020-12", "http-header-validation", "http-custom-header-server-validation"},
}
MUST_SUCCEED = {
    "2025-11-25": {
        "server-session-delete-accepted",
        "server-session-terminated-returns-404",
        "server-sse-priming-event",
        "server-sse-retry-field",
        "server-sse-disconnect-resume",
    },
    "2026-07-28": set(),
}
Checks = dict[str, list[dict[str, str]]]


def required(revision: str) -> set[str]:
    """Return the server scenarios that a revision requires."""
    table = (SUITE / "requirements" / f"{revision}.yaml").read_text(encoding="utf-8")
    server = re.split(r"^server:\n", table, flags=re.MULTILINE)[1].split("\nclient:")[0]
    return set(re.findall(r"^  - (\S+)", server, flags=re.MULTILINE))


def run_suite(url: str, revision: str, into: Path) -> Checks:
    """Run every server scenario of a revision except those of tasks; return the checks by scenario."""
    if not SUITE.exists():
        pytest.skip("tests/node/node_modules is missing: run `make test-all`")
    command = [SUITE.parents[1] / ".bin" / "conformance", "server", "-o", into, "--requirements", revision]
    done = subprocess.run(
        [*command, "--url", url], env=clean_env(), capture_output=True, text=True, check=False, timeout=280
    )
    checks: Checks = {}
    for path in into.rglob("checks.json"):
        scenario = re.sub(r"^server-(.+)-\d{4}-\d\d-\d\dT.*", r"\1", path.parent.name)
        if not scenario.startswith("tasks-"):
            checks[scenario] = json.loads(path.read_text(encoding="utf-8"))
    assert set(checks) == required(revision) | OPTIONAL[revision], done.stdout[-2000:] + done.stderr
    return checks


def faults(checks: Checks) -> list[str]:
    """Describe the checks that neither succeeded nor only inform."""
    return [
        f"{scenario} {check['id']} {check['status']}: {check.get('errorMessage')}"
        for scenario, each in sorted(checks.items())
        for check in each
        if check["status"] not in {"SUCCESS", "INFO"}
    ]


def succeeded(checks: Checks) -> set[str]:
    return {check["id"] for each in checks.values() for check in each if check["status"] == "SUCCESS"}


@pytest.mark.parametrize("revision", REQUIRED)
def test_every_check_of_every_scenario_succeeds(revision: str, tmp_path: Path) -> None:
    with served(EVERYTHING) as url:
        checks = run_suite(url, revision, tmp_path)
    assert not faults(checks), "\n".join(faults(checks))
    assert len(required(revision)) == REQUIRED[revision]
    assert succeeded(checks) >= MUST_SUCCEED[revision]


@pytest.fixture(scope="module", params=[(), FOREIGN], ids=["own", "foreign"])
def hosted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of the everything server as a public app of a host, once by a command of its own."""
    data = tmp_path_factory.mktemp("data")
    with started(SCRIPTS / "portway", "up", "--port", "0", "--data", data, ready=r"^ready \{"):
        start = request.param
        command = [SCRIPTS / "portway", "deploy", EVERYTHING.parent, "--public", *start, "--data", data, "-o", "json"]
        done = subprocess.run(command, env=clean_env(), capture_output=True, text=True, check=True)
        yield json.loads(done.stdout)["url"].replace("127.0.0.1", "localhost")


@pytest.mark.parametrize("revision", REQUIRED)
def test_every_check_succeeds_through_the_gate(hosted: str, revision: str, tmp_path: Path) -> None:
    checks = run_suite(hosted, revision, tmp_path)
    assert not faults(checks), "\n".join(faults(checks))
    assert succeeded(checks) >= MUST_SUCCEED[revision]
