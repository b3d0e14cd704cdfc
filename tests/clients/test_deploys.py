"""Clients of both eras go on through deploys and rollbacks while old instances drain."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from portway.host.management.management_types import Deployment
from tests.host.running_host import Host, host
from tests.support import ROOT, clean_env

pytestmark = [pytest.mark.clients, pytest.mark.timeout(900)]

HERE = Path(__file__).parent
SCRIPT = HERE / "families" / "through_deploys.py"
NODE = ROOT / "tests" / "node"
DEPLOYS, ROLLBACKS = 20, 5
FOREIGN_DEPLOYS = int(os.environ.get("PORTWAY_FOREIGN_DEPLOYS", "8"))  # the bar is 20, which takes minutes
LEGACY = ("mcp1", "mcp2", "fastmcp3", "fastmcp4", "typescript1")
MODERN = ("modern", "typescript2")


def python_of(kind: str) -> Path:
    in_dev = kind in ("mcp2", "modern")
    return Path(sys.executable) if in_dev else ROOT / ".venv-clients" / kind / "bin" / "python"


@contextmanager
def client(kind: str, app: Deployment) -> Iterator[subprocess.Popen[str]]:
    """A client of that kind at work, once it has been through every kind of call."""
    is_node = kind.startswith("typescript")
    needed = NODE / "node_modules" if is_node else python_of(kind)
    if not needed.exists():
        pytest.skip(f"{needed} is missing: run `make test-all`")
    program = ["node", NODE / "through_deploys.mjs"] if is_node else [python_of(kind), SCRIPT]
    command = [*program, app.url, app.token, kind]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, env=clean_env(), text=True, **pipes) as process:  # type: ignore[call-overload]
        try:
            assert process.stdout.readline() == "begun\n"
            yield process
        finally:
            process.kill()


def go_through_deploys(
    running: Host, folder: Path, kinds: Sequence[str], *, deploys: int = DEPLOYS, **settings: object
) -> None:
    """Deploy and go back while clients of these kinds are at work; none of their calls may fail or be cut."""
    app = running.deploy(folder, "deployed", num_instances=3, **settings)
    with ExitStack() as stack:
        clients = {kind: stack.enter_context(client(kind, app)) for kind in kinds}
        for number in range(1, deploys + 1):
            running.deploy(folder, "deployed")
            if number % (DEPLOYS // ROLLBACKS) == 0:
                went = running.portway("rollback", "deployed")
                assert went.returncode == 0, went.stderr
        with ThreadPoolExecutor() as pool:
            said = dict(zip(clients, pool.map(lambda each: each.communicate()[0], clients.values()), strict=True))
    seen = {kind: json.loads(text.splitlines()[-1]) for kind, text in said.items()}
    assert {kind: each["faults"] for kind, each in seen.items() if each["faults"]} == {}
    assert all(each["rounds"] >= deploys / 4 for each in seen.values()), seen
    assert running.status("deployed").restarts == 0


def test_clients_of_both_eras_go_on_through_twenty_deploys_and_five_rollbacks_while_old_instances_drain(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "deployed"
    folder.mkdir()
    shutil.copyfile(HERE / "deployed_server.py", folder / "server.py")
    with host(tmp_path / "data") as running:
        go_through_deploys(running, folder, [*LEGACY, *MODERN])


@pytest.mark.parametrize(("server", "kinds"), [("fastmcp3", LEGACY), ("fastmcp4", [*LEGACY, *MODERN])])
def test_clients_of_all_eras_it_has_go_on_through_deploys_of_a_fastmcp_server_with_an_event_store(
    tmp_path: Path, server: str, kinds: Sequence[str]
) -> None:
    folder = tmp_path / "deployed"
    folder.mkdir()
    shutil.copyfile(HERE / "deployed_foreign_server.py", folder / "server.py")
    with host(tmp_path / "data", walls=False) as running:
        start = f"exec {python_of(server)} server.py"
        go_through_deploys(running, folder, kinds, deploys=FOREIGN_DEPLOYS, start_command=start)
