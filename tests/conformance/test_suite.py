"""The official conformance suite against `examples/everything`, each revision at its own wire.

`NOT_YET` is exact: a scenario that starts to pass must leave it, one that stops to pass is a failure.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support import ROOT, clean_env, served

pytestmark = [pytest.mark.conformance, pytest.mark.timeout(300)]

NODE = ROOT / "tests" / "node"
EVERYTHING = ROOT / "examples" / "everything" / "server.py"
# What the thin server does not offer yet: sessions and what needs them, questions to the user, subscriptions,
# completion, logging, tasks. The suite runs a few scenarios more than it scores; they are held to all the same.
NOT_YET = {
    "2025-11-25": set[str](),
    "2026-07-28": set[str](),
}


def suite(url: str, results: Path, *arguments: str) -> dict[str, list[dict[str, Any]]]:
    """Scenario -> its checks that did not succeed, of one run of the suite."""
    program = NODE / "node_modules" / ".bin" / "conformance"
    if not program.exists():
        pytest.skip("tests/node/node_modules is missing: run `make test-all`")
    command = [program, "server", "--url", url, "-o", results, *arguments]
    done = subprocess.run(command, env=clean_env(), capture_output=True, text=True, check=False, timeout=280)
    found: dict[str, list[dict[str, Any]]] = {}
    for path in results.rglob("checks.json"):
        checks = json.loads(path.read_text(encoding="utf-8"))
        scenario = re.sub(r"^server-(.+)-\d{4}-\d\d-\d\dT.*", r"\1", path.parent.name)
        found[scenario] = [check for check in checks if check["status"] == "FAILURE"]
    assert found, done.stdout + done.stderr
    return found


@pytest.mark.parametrize("revision", NOT_YET)
def test_every_scenario_passes_but_those_listed(revision: str, tmp_path: Path) -> None:
    with served(EVERYTHING) as url:
        failures = suite(url, tmp_path, "--requirements", revision)
    failed = {name: checks for name, checks in failures.items() if checks}
    assert failed.keys() == NOT_YET[revision], json.dumps(failed, indent=1)
