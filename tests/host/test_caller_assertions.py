"""A hosted app is told who calls it by a JWT, which the snippets of docs/foreign.md check."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.docs.test_pages import FENCE
from tests.host.running_host import Host, host
from tests.support import ROOT, clean_env

SERVER = """
import os
from portway import Context, Server

server = Server("vault")

@server.tool
def told(ctx: Context) -> dict[str, str]:
    about = {name: value for name, value in os.environ.items() if name.startswith("PORTWAY_ASSERTION_")}
    return about | {"assertion": ctx.headers.get("x-portway-jwt-assertion", "")}
"""
BLUEPRINT = """
services:
  - {type: web, name: vault, runtime: python, x-portway: {assertion: true}}
"""
NODE = ROOT / "tests" / "node"
RUNS = {
    "caller.py": (
        [sys.executable, "-c"],
        "import json, sys, caller; print(json.dumps(caller.caller_of(json.load(sys.stdin))))",
    ),
    "caller.mjs": (
        ["node", "--input-type=module", "-e"],
        """import { callerOf } from 'PLACE'; import { readFileSync } from 'node:fs';
        console.log(JSON.stringify(await callerOf(JSON.parse(readFileSync(0)))))""",
    ),
}

pytestmark = [pytest.mark.slow, pytest.mark.clients]


def check(folder: Path, name: str, told: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run the snippet of the page on what an app was told."""
    page = (ROOT / "docs" / "foreign.md").read_text()
    (folder / name).write_text(next(body for _, file, body in FENCE.findall(page) if file == name))
    program, code = RUNS[name]
    variables = {key: value for key, value in told.items() if key != "assertion"}
    return subprocess.run(
        [*program, code.replace("PLACE", str(folder / name))],
        cwd=folder,
        env=clean_env(variables),
        input=json.dumps({"x-portway-jwt-assertion": told["assertion"]}),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def told_to(running: Host, app: str, token: str) -> dict[str, str]:
    found: dict[str, str] = running.call(app, "told", token)
    return found


def test_the_snippets_of_the_page_take_what_the_gate_has_signed_for_the_app_and_nothing_else(tmp_path: Path) -> None:
    if not (NODE / "node_modules").exists():
        pytest.skip("tests/node/node_modules is missing: run `make test-all`")
    (folder := tmp_path / "vault").mkdir()
    (folder / "server.py").write_text(SERVER)
    (folder / "render.yaml").write_text(BLUEPRINT)
    (tmp_path / "node_modules").symlink_to(NODE / "node_modules")
    with host(tmp_path / "data", [folder]) as running:
        token = running.portway("token", "create", "vault", "ada", "--scopes", "read").stdout.strip()
        url, told = running.ready["url"], told_to(running, "vault", token)
    for name in RUNS:
        done = check(tmp_path, name, told)
        assert done.returncode == 0, done.stderr
        claims: dict[str, Any] = json.loads(done.stdout)
        assert (claims["iss"], claims["aud"], claims["sub"]) == (url, f"{url}/vault/mcp", "ada")
        assert (claims["scope"], claims["sub_id"]["iss"]) == ("read", "portway")
        head, body, mark = told["assertion"].split(".")
        for bad in (f"{head}.{body}.{mark[::-1]}", "", f"{head}.{body}."):
            assert check(tmp_path, name, told | {"assertion": bad}).returncode == 1
        for variable in ("PORTWAY_ASSERTION_ISSUER", "PORTWAY_ASSERTION_AUDIENCE"):
            assert check(tmp_path, name, told | {variable: "https://other.example"}).returncode == 1
