"""Legacy sessions of official clients go on through deploys while old instances drain."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.host.running_host import Host, host
from tests.support import ROOT, clean_env

pytestmark = [pytest.mark.clients, pytest.mark.timeout(400)]

SCRIPT = Path(__file__).parent / "families" / "through_deploys.py"
NODE = ROOT / "tests" / "node"
SERVER = Path(__file__).parent / "deployed_server.py"
DEPLOYS = 20


@contextmanager
def client(kind: str, running: Host) -> Iterator[subprocess.Popen[str]]:
    """A client of that kind at work, once it has been through every kind of call."""
    python = Path(sys.executable) if kind == "mcp2" else ROOT / ".venv-clients" / kind / "bin" / "python"
    needed = NODE / "node_modules" if kind == "typescript1" else python
    if not needed.exists():
        pytest.skip(f"{needed} is missing: run `make test-all`")
    app = running.ready["apps"]["deployed"]
    program = ["node", NODE / "through_deploys.mjs"] if kind == "typescript1" else [python, SCRIPT]
    command = [*program, app["url"], app["token"], kind]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, env=clean_env(), text=True, **pipes) as process:  # type: ignore[call-overload]
        try:
            assert process.stdout.readline() == "begun\n"
            yield process
        finally:
            process.kill()


def test_sessions_ask_cancel_and_resume_through_twenty_deploys_while_old_instances_drain(tmp_path: Path) -> None:
    folder = tmp_path / "deployed"
    folder.mkdir()
    shutil.copyfile(SERVER, folder / "server.py")
    with host(tmp_path / "data", [folder]) as running, ExitStack() as stack:
        kinds = ("mcp1", "mcp2", "fastmcp3", "fastmcp4", "typescript1")
        clients = {kind: stack.enter_context(client(kind, running)) for kind in kinds}
        for _ in range(DEPLOYS):
            running.deploy(folder, "deployed")
        with ThreadPoolExecutor() as pool:
            said = dict(zip(clients, pool.map(lambda each: each.communicate()[0], clients.values()), strict=True))
    seen = {kind: json.loads(text.splitlines()[-1]) for kind, text in said.items()}
    assert {kind: each["faults"] for kind, each in seen.items() if each["faults"]} == {}
    assert all(each["rounds"] >= DEPLOYS / 4 for each in seen.values()), seen
