"""What a new release must do before calls go to it, and what an old one may still do after."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from portway.client import ClientError
from portway.protocol.errors import RpcError
from tests.host.required_walls import required_walls
from tests.host.running_host import Host, host
from tests.support import eventually

SERVER = """
import asyncio
import os
from pathlib import Path
from portway import Server, ToolError

server = Server("tried")


@server.tool
def add(a: int, b: int) -> dict[str, int | str]:
    if a < 0:
        raise ToolError("no negative numbers, please")
    return {"sum": a + b, "made": (Path(os.environ["PORTWAY_STORAGE"]) / "made").read_text()}


@server.tool
async def hold() -> None:
    (Path(os.environ["PORTWAY_STORAGE"]) / "held").touch()
    await asyncio.sleep(1000)
"""
BLUEPRINT = """
services:
  - type: web
    name: tried
    maxShutdownDelaySeconds: 1
    preDeployCommand: echo migrating "$RENDER_EXTERNAL_HOSTNAME"; echo -n v1 > "$PORTWAY_STORAGE/made"
    healthCheckPath: /health
    x-portway:
      storage: {sizeGB: 1}
      smoke:
        - tool: add
          arguments: {a: 1, b: 2}
          expect: '"sum": 3'
"""
DISK = """
services:
  - type: web
    name: disk
    preDeployCommand: echo -n by its place > /var/data/made
    disk: {name: data, mountPath: /var/data, sizeGB: 1}
    x-portway:
      access: public
      smoke: [{tool: add, arguments: {a: 1, b: 2}, expect: by its place}]
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with host(tmp_path_factory.mktemp("tried") / "data") as started:
        yield started


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("app")
    (folder / "server.py").write_text(SERVER)
    return folder


@pytest.fixture(scope="module")
def token(running: Host, folder: Path) -> str:
    """Deploy the app, and return a token for it."""
    (folder / "render.yaml").write_text(BLUEPRINT)
    done = running.portway("deploy", folder)
    assert "  2 tools, 1 smoke call\n" in done.stderr, done.stderr
    return running.portway("token", "create", "tried", "t").stdout.split()[0]


def test_the_pre_deploy_command_runs_in_the_environment_of_the_release(running: Host, token: str) -> None:
    assert running.call("tried", "add", token, a=2, b=2) == {"sum": 4, "made": "v1"}
    assert "migrating tried.localhost\n" in (running.paths.release("tried", 1) / "log" / "build.log").read_text()
    written = running.portway("config", "tried").stdout.split("smoke:")[1]
    assert "tool: add" in written
    assert "b: 2" in written


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("echo migrating", "exit 3; echo", "could not run its pre-deploy command `exit 3; echo"),
        ("a: 1", "a: -1", "the smoke call of add failed: no negative numbers, please"),
        ("tool: add", "tool: subtract", "the smoke call of subtract failed: Unknown tool: subtract"),
        ("a: 1", "a: 2", """the smoke call of add was answered without '"sum": 3': {"sum":4,"made":"v1"}"""),
    ],
)
def test_a_release_that_is_not_in_order_never_serves(
    running: Host, folder: Path, token: str, old: str, new: str, said: str
) -> None:
    before = running.instance("tried")
    (folder / "render.yaml").write_text(BLUEPRINT.replace(old, new))
    refused = running.portway("deploy", folder)
    assert refused.returncode == 1
    assert said in refused.stderr
    assert running.instance("tried") == before
    assert running.call("tried", "add", token, a=1, b=1)["sum"] == 2


@pytest.mark.slow
def test_calls_to_the_old_release_are_cut_when_its_delay_is_over(running: Host, folder: Path, token: str) -> None:
    (folder / "render.yaml").write_text(BLUEPRINT)
    with ThreadPoolExecutor(1) as callers:
        held = callers.submit(running.call, "tried", "hold", token)
        eventually((running.paths.app("tried") / "storage" / "held").exists)
        assert running.portway("deploy", folder).returncode == 0
        with pytest.raises((RpcError, ClientError)):
            held.result(20)


def test_a_disk_is_in_its_place_in_a_sandbox(running: Host, tmp_path: Path) -> None:
    required_walls(running.paths, "files")
    (tmp_path / "render.yaml").write_text(DISK)
    (tmp_path / "server.py").write_text(SERVER)
    done = running.portway("deploy", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "s  1 GB in PORTWAY_STORAGE\n" in done.stderr, "where there is no sandbox, it says that it is not there"
    assert (running.paths.app("disk") / "storage" / "made").read_text() == "by its place"
