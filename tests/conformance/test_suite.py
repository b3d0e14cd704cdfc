"""The official conformance suite against `examples/everything`, each revision at its own wire.

`expected-failures/` says what is missing and why. It is exact: the suite fails on what is not in it, and on what is in
it and passes. The score counts the scenarios that the revision requires.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.support import ROOT, clean_env, served

pytestmark = [pytest.mark.conformance, pytest.mark.timeout(300)]

SUITE = ROOT / "tests" / "node" / "node_modules" / "@modelcontextprotocol" / "conformance"
EVERYTHING = ROOT / "examples" / "everything" / "server.py"
SCORE = {"2025-11-25": "21 of 30", "2026-07-28": "25 of 37"}


def score(revision: str, results: Path) -> str:
    """How many of the scenarios the revision requires have no failed check."""
    table = (SUITE / "requirements" / f"{revision}.yaml").read_text(encoding="utf-8")
    required = set(
        re.findall(
            r"^  - (\S+)",
            re.split(r"^server:\n", table, flags=re.MULTILINE)[1].split("\nclient:")[0],
            flags=re.MULTILINE,
        )
    )
    failed = set()
    for path in results.rglob("checks.json"):
        if any(check["status"] == "FAILURE" for check in json.loads(path.read_text(encoding="utf-8"))):
            failed.add(re.sub(r"^server-(.+)-\d{4}-\d\d-\d\dT.*", r"\1", path.parent.name))
    return f"{len(required - failed)} of {len(required)}"


@pytest.mark.parametrize("revision", SCORE)
def test_every_scenario_passes_but_those_expected_to_fail(revision: str, tmp_path: Path) -> None:
    if not SUITE.exists():
        pytest.skip("tests/node/node_modules is missing: run `make test-all`")
    expected = Path(__file__).parent / "expected-failures" / f"{revision}.yaml"
    command = [SUITE.parents[1] / ".bin" / "conformance", "server", "-o", tmp_path, "--requirements", revision]
    with served(EVERYTHING) as url:
        arguments = ("--url", url, "--expected-failures", expected)
        done = subprocess.run(
            [*command, *arguments], env=clean_env(), capture_output=True, text=True, check=False, timeout=280
        )
    assert done.returncode == 0, done.stdout[done.stdout.find("=== SUMMARY") :] + done.stderr
    assert score(revision, tmp_path) == SCORE[revision]
