"""Apps with several instances: every part of their life, on one host."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from portway.client import Client
from tests.host.running_host import Host, host
from tests.support import eventually

SERVER = """
import asyncio
import os
from pathlib import Path
from portway import Server

server = Server("many", sessions=True)


@server.tool
def who() -> dict[str, str | int]:
    return {"version": "VERSION", "instance": os.environ["PORTWAY_INSTANCE"], "pid": os.getpid()}


@server.tool
async def hold(until: str) -> dict[str, str | int]:
    Path(f"{until}.{os.environ['PORTWAY_INSTANCE']}").touch()
    while not Path(until).exists():
        await asyncio.sleep(0.01)
    return who()
"""
BROKEN = """
if Path("MARK").exists():
    os._exit(7)
"""
ONE_START = """
if "PORTWAY_INSTANCE" in os.environ:
    try:
        Path("MARK").touch(exist_ok=False)
    except FileExistsError:
        print("one is enough", flush=True)
        os._exit(7)
"""


def many(folder: Path, version: str = "one", more: str = "") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "server.py").write_text(SERVER.replace("VERSION", version) + more.replace("MARK", str(folder / "mark")))
    return folder


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with host(tmp_path_factory.mktemp("many") / "data", walls=False) as running:
        yield running


def ids(running: Host, app: str) -> set[str]:
    return {instance.id for instance in running.instances(app)}


def whole(running: Host, app: str) -> bool:
    """Return whether `ps` shows all three instances, and the gate knows them."""
    status = running.status(app)
    return (status.instances, status.wanted, status.state) == (3, 3, "up") and len(ids(running, app)) == 3


def busy(running: Host, app: str, token: str, mark: Path, callers: ThreadPoolExecutor) -> list[Any]:
    """Hold a call on each of three instances; it ends when `mark` exists."""
    held = [callers.submit(running.call, app, "hold", token, until=str(mark)) for _ in range(3)]
    eventually(lambda: len(list(mark.parent.glob(f"{mark.name}.*"))) == 3)
    return held


@pytest.mark.slow
def test_calls_are_spread_over_all_instances_and_a_crash_costs_only_its_own(running: Host, tmp_path: Path) -> None:
    deployed = running.portway("deploy", many(tmp_path / "app", more=BROKEN), "--name", "spread", "--instances", "3")
    assert "2 tools, 3 instances" in deployed.stderr, deployed.stderr
    token = running.portway("token", "create", "spread", "t").stdout.split()[0]
    row = next(line for line in running.portway("ps").stdout.splitlines() if line.startswith("spread"))
    assert row.split()[1:5] == ["up", "1", "3/3", "0"]

    with ThreadPoolExecutor(3) as callers:
        held = busy(running, "spread", token, tmp_path / "go", callers)
        (tmp_path / "go").touch()
        found = {each["instance"]: each["pid"] for each in (call.result(120) for call in held)}
    assert found.keys() == ids(running, "spread"), "each of them got one call"

    first = running.instances("spread")[0].id  # an idle gate sends every call to it
    os.kill(found.pop(first), signal.SIGKILL)
    eventually(lambda: running.status("spread").restarts == 1)
    while not whole(running, "spread") or first in ids(running, "spread"):
        assert running.call("spread", "who", token)["version"] == "one"
    assert found.keys() < ids(running, "spread"), "the others were left alone"

    (tmp_path / "app" / "mark").touch()
    os.kill(found.popitem()[1], signal.SIGKILL)
    status = eventually(lambda: (now := running.status("spread")).reason and now)
    assert (status.state, status.instances) == ("up", 2)
    assert status.reason.startswith("1 of 3 instances: it ended (")
    (tmp_path / "app" / "mark").unlink()
    eventually(lambda: whole(running, "spread"))


@pytest.mark.slow
def test_a_deploy_replaces_all_instances_without_a_failed_call_or_none_of_them(running: Host, tmp_path: Path) -> None:
    token = running.deploy(many(tmp_path / "app"), "switched", num_instances=3).token
    assert token
    before = ids(running, "switched")
    over = threading.Event()

    async def versions() -> list[str]:
        seen = []
        async with Client(f"{running.ready['url']}/switched/mcp", token=token, timeout=120) as client:
            while not over.is_set():
                seen.append((await client.call_tool("who", {})).structured["version"])
        return seen

    with ThreadPoolExecutor(4) as callers:
        held = busy(running, "switched", token, tmp_path / "go", callers)
        constant = callers.submit(asyncio.run, versions())
        try:
            refused = running.portway("deploy", many(tmp_path / "app", "bad", ONE_START), "--name", "switched")
            assert refused.returncode == 1
            assert "the server ended (exit code 7) before it answered:" in refused.stderr
            assert "one is enough" in refused.stderr
            assert ids(running, "switched") == before, "what was not given, as the number of instances, stays as it was"
            running.deploy(many(tmp_path / "app", "two"), "switched", num_instances=2)
            assert len(ids(running, "switched") - before) == len(ids(running, "switched")) == 2
            assert running.call("switched", "who", token)["version"] == "two"
        finally:
            over.set()
            (tmp_path / "go").touch()
        seen = constant.result(120)
        assert seen == sorted(seen), "one, then two, and never one again"
        old = [call.result(120) for call in held]
    assert {each["version"] for each in old} == {"one"}, "old instances end their calls"
    eventually(lambda: not any(Path(f"/proc/{each['pid']}").exists() for each in old))
    assert running.status("switched").wanted == 2


@pytest.mark.slow
def test_a_legacy_session_stays_on_its_instance_and_moves_when_that_ends(running: Host, tmp_path: Path) -> None:
    token = running.deploy(many(tmp_path / "app"), "pinned", num_instances=3).token
    assert token

    async def use() -> None:
        async with Client(f"{running.ready['url']}/pinned/mcp", token=token, era="legacy", timeout=120) as client:

            async def who() -> Any:
                return (await client.call_tool("who", {})).structured

            own = await who()
            others = asyncio.create_task(client.call_tool("hold", {"until": str(tmp_path / "go")}))
            await asyncio.to_thread(eventually, (tmp_path / f"go.{own['instance']}").exists)
            assert [(await who())["pid"] for _ in range(4)] == [own["pid"]] * 4, "though it is the busiest"
            (tmp_path / "go").touch()
            await others
            os.kill(own["pid"], signal.SIGKILL)
            await asyncio.to_thread(eventually, lambda: running.status("pinned").restarts == 1)
            moved = await who()
            assert moved["pid"] != own["pid"]
            assert [(await who())["pid"] for _ in range(4)] == [moved["pid"]] * 4

    asyncio.run(use())


@pytest.mark.slow
def test_a_new_control_takes_over_all_instances_and_one_without_its_socket_is_replaced(
    running: Host, tmp_path: Path
) -> None:
    running.deploy(many(tmp_path / "app"), "adopted", num_instances=3)
    before = ids(running, "adopted")
    control = running.kill("control")
    eventually(lambda: running.process("control") != control and whole(running, "adopted"))
    assert ids(running, "adopted") == before

    lost = running.instances("adopted")[1]
    Path(lost.address.removeprefix("unix:")).unlink()
    eventually(lambda: whole(running, "adopted") and lost.id not in ids(running, "adopted"))
    assert before - {lost.id} < ids(running, "adopted")
