"""Portway's own client in the official suite's scenarios for clients, except those of extensions."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT, clean_env

pytestmark = pytest.mark.conformance

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
AUTH = [
    "metadata-default",
    "metadata-var1",
    "metadata-var2",
    "metadata-var3",
    "basic-cimd",
    "scope-from-www-authenticate",
    "scope-from-scopes-supported",
    "scope-omitted-when-undefined",
    "scope-step-up",
    "token-endpoint-auth-basic",
    "token-endpoint-auth-post",
    "token-endpoint-auth-none",
    "pre-registration",
    "offline-access-scope",
    "offline-access-not-supported",
    "authorization-server-migration",
    "iss-supported",
    "iss-not-advertised",
]
SCENARIOS += [
    *(("2025-03-26", f"auth/2025-03-26-oauth-{name}") for name in ("metadata-backcompat", "endpoint-fallback")),
    *(("2025-11-25", f"auth/{name}") for name in ("metadata-default", "scope-step-up", "pre-registration")),
    *(("2026-07-28", f"auth/{name}") for name in AUTH),
]
# What the client says where it must not log in.
REFUSALS = {
    "auth/scope-retry-limit": "the server asks for mcp:admin again after a login with it",
    "auth/resource-mismatch": "is of the resource 'https://evil.example.com/mcp', which is not http://localhost",
    "auth/metadata-issuer-mismatch": "is of the issuer",
    "auth/iss-supported-missing": "the response does not say that it is from http://localhost",
    "auth/iss-wrong-issuer": "the response is not from http://localhost",
    "auth/iss-unexpected": "the response is not from http://localhost",
    "auth/iss-normalized": "the response is not from http://localhost",
}


@pytest.mark.parametrize(("version", "scenario"), [*SCENARIOS, *(("2026-07-28", name) for name in REFUSALS)])
def test_the_client_passes_the_scenario(version: str, scenario: str, tmp_path: Path) -> None:
    client = f"{sys.executable} {CLIENT}"
    done = conformance("client", "--command", client, "--scenario", scenario, "--spec-version", version, "-o", tmp_path)
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    assert re.search(r"Passed: (\d+)/\1, 0 failed, 0 warnings", output), output
    assert REFUSALS.get(scenario, "") in output
    assert ("Traceback" in output) == (scenario in REFUSALS)


def test_every_scenario_for_clients_is_one_of_these_or_of_an_extension() -> None:
    listed = conformance("list", "--client").stdout
    named = {name for name, versions in re.findall(r"- (\S+) \[(.*)\]", listed) if versions != "extension"}
    assert named == {scenario for _, scenario in SCENARIOS} | {*REFUSALS}


def conformance(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the suite."""
    if not (NODE / "node_modules").exists():
        pytest.skip("tests/node/node_modules is missing: run `make test-all`")
    command = ["node", NODE / "node_modules" / ".bin" / "conformance", *arguments]
    return subprocess.run(command, cwd=NODE, env=clean_env(), capture_output=True, text=True, check=False, timeout=100)
