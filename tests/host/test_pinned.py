"""Apps with `drain: pin`: the release before serves the legacy sessions that were opened on it, for a while."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from portway.client import Client
from portway.host import routing_table
from portway.host.app_config import AppConfig, Start
from portway.host.instances.process_runtime import ProcessRuntime
from portway.host.instances.running_apps import RunningApps
from portway.host.instances.runtime import InstanceLimits
from portway.host.instances.starter import Starter
from portway.host.paths import Paths
from portway.host.sandbox.walls import NO_WALLS
from portway.host.secrets.key_file import KeyFile
from portway.host.secrets.variables import Variables
from portway.host.store import FinishedRelease, Store
from tests.host.running_host import Host, host
from tests.support import SCRIPTS, eventually

SERVER = """
import os
from portway import Server

server = Server("kept", sessions=True)


@server.tool
def who() -> dict[str, str]:
    return {"release": os.environ["PORTWAY_RELEASE"]}
"""
BLUEPRINT = """
services:
  - {type: web, name: kept, x-portway: {access: public, drain: DRAIN}}
"""


@pytest.fixture
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with host(tmp_path_factory.mktemp("pinned") / "data") as running:
        yield running


def deploy(running: Host, folder: Path, drain: str) -> None:
    (folder / "render.yaml").write_text(BLUEPRINT.replace("DRAIN", drain))
    done = running.portway("deploy", folder)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_sessions_stay_with_the_release_before_until_its_time_is_over_or_another_deploy_comes(
    running: Host, tmp_path: Path
) -> None:
    (tmp_path / "server.py").write_text(SERVER)
    url = f"{running.ready['url']}/kept/mcp"

    async def who(client: Client) -> str:
        return str((await client.call_tool("who")).structured["release"])

    def kill(module: str) -> None:
        former = running.kill(module)
        eventually(lambda: running.process(module) != former)
        eventually(lambda: running.portway("ps").returncode == 0)

    def table() -> routing_table.Table:
        return routing_table.load(running.paths.routes)

    async def test() -> None:
        async with AsyncExitStack() as stack:

            async def connect(era: str) -> Client:
                return await stack.enter_async_context(Client(url, era=era, timeout=120))  # type: ignore[arg-type]

            deploy(running, tmp_path, "pin")
            first, modern = await connect("legacy"), await connect("modern")
            deploy(running, tmp_path, "pin")
            second = await connect("legacy")
            assert [await who(each) for each in (first, second, modern)] == ["1", "2", "2"]
            until = table().apps["kept"].pinned_until
            for module in ("control", "gate"):
                kill(module)
                assert [await who(each) for each in (first, second, modern)] == ["1", "2", "2"], module
            assert table().apps["kept"].pinned_until == until
            deploy(running, tmp_path, "pin")
            assert [await who(each) for each in (first, second, modern)] == ["3", "2", "3"], "one release is pinned"
            late = json.loads(running.paths.routes.read_text())
            late["apps"]["kept"]["pinned_until"] = until - 1800
            former = running.kill("control")
            running.paths.routes.write_text(json.dumps(late))
            eventually(lambda: running.process("control") != former)
            while await who(second) != "3":
                pass  # its time is over
            assert not table().apps["kept"].pinned
            deploy(running, tmp_path, "move")
            assert [await who(each) for each in (first, second, modern)] == ["4"] * 3
            eventually(lambda: len(list(running.paths.instances.iterdir())) == 1)

    asyncio.run(test())


@pytest.mark.slow
def test_a_pinned_release_is_shown_and_goes_with_its_last_session(running: Host, tmp_path: Path) -> None:
    (tmp_path / "server.py").write_text(SERVER)
    deploy(running, tmp_path, "move")
    live = running.status("kept").release

    async def test() -> None:
        async with Client(f"{running.ready['url']}/kept/mcp", era="legacy", timeout=120) as client:
            await client.call_tool("who")
            deploy(running, tmp_path, "pin")
            shown = running.portway("ps").stderr
            assert f"kept keeps release {live} while it has sessions, until 2" in shown
            assert (await client.call_tool("who")).structured["release"] == str(live)

    asyncio.run(test())
    eventually(lambda: running.status("kept").pinned is None)
    deploy(running, tmp_path, "pin")
    eventually(lambda: running.status("kept").pinned is None)
    eventually(lambda: len(list(running.paths.instances.iterdir())) == 1)


def test_a_pinned_release_is_stopped_when_its_time_is_over(paths: Paths) -> None:
    async def test() -> None:
        store = Store(paths.database)
        limits = InstanceLimits(pin_seconds=0.3)
        starter = Starter(ProcessRuntime(paths, NO_WALLS), store, limits, Variables(store, KeyFile(paths.key)))
        running = RunningApps(paths, store, ProcessRuntime(paths, NO_WALLS), starter)
        start = Start(["portway", "run", "server.py", "--transport", "http"], "server.py", on_socket=True)
        instances = []
        for number in (1, 2):
            store.begin_release("kept", "/")
            store.finish_releases([FinishedRelease("kept", number, AppConfig(drain="pin"), start, "{}")])
            made = running.release("kept", number)
            for folder in (made.source, made.log.parent, made.venv / "bin"):
                folder.mkdir(parents=True)
            (made.source / "server.py").write_text(SERVER)
            (made.venv / "bin" / "portway").symlink_to(SCRIPTS / "portway")
            instances.append(await starter.start_ready(made))
            await running.switch(made, [instances[-1]])
        pinned = routing_table.load(paths.routes).apps["kept"].pinned
        assert [each.id for each in pinned] == [instances[0].id]
        await instances[0].wait()
        assert routing_table.load(paths.routes).apps["kept"].pinned == []
        await running.close()
        store.close()

    asyncio.run(test())
