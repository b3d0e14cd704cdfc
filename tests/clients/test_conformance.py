"""Portway's own client in the official suite's scenarios for clients, except those of authorization."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT, clean_env

pytestmark = [pytest.mark.conformance, pytest.mark.timeout(120)]

NODE = ROOT / "tests" / "node"
CLIENT = Path(__file__).with_name("conformance_client.py")
SCENARIOS = [
    *(
        ("2025-11-25", name)
        for name in ("initialize", "tools_call", "elicitation-sep1034-client-defaults", "sse-retry")
    ),
    ("2025-11-25", "json-schema-2020-12-preservation"),
    *(("2026-07-28", name) for name in ("tools_call", "request-metadata", "sep-2322-client-request-state")),
    *(("2026-07-28", f"http-{name}") for name in ("standard-headers", "custom-headers", "invalid-tool-headers")),
    *(("2026-07-28", f"json-schema-{name}") for name in ("ref-no-deref", "2020-12-preservation")),
]


@pytest.mark.parametrize(("version", "scenario"), SCENARIOS)
def test_the_client_passes_the_scenario(version: str, scenario: str, tmp_path: Path) -> None:
    if not (NODE / "node_modules").exists():
        pytest.skip("tests/node/node_modules is missing: run `make test-all`")
    suite = NODE / "node_modules" / ".bin" / "conformance"
    client = f"{sys.executable} {CLIENT}"
    command = ["node", suite, "client", "--command", client, "--scenario", scenario, "--spec-version", version]
    done = subprocess.run(
        [*command, "-o", tmp_path], cwd=NODE, env=clean_env(), capture_output=True, text=True, check=False, timeout=100
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    assert re.search(r"Passed: (\d+)/\1, 0 failed, 0 warnings", output), output
