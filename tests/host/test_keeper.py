"""A keeper with a real runtime, and instances that hang."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from portway.host.app_config import AppConfig, Start
from portway.host.health_probe import until_silent
from portway.host.instances.instance_group import InstanceGroup
from portway.host.instances.keeper import Keeper
from portway.host.instances.process_runtime import ProcessRuntime
from portway.host.instances.runtime import Instance, InstanceLimits
from portway.host.instances.starter import Starter
from portway.host.paths import Paths
from portway.host.releases.release import Release
from portway.host.sandbox.walls import NO_WALLS
from portway.host.secrets.key_file import KeyFile
from portway.host.secrets.variables import Variables
from portway.host.store import Store
from tests.support import SCRIPTS

BLOCKING = """
import time
from portway import Server

server = Server("blocking")


@server.tool
async def block() -> None:
    time.sleep(1000)
"""
START = Start(["portway", "run", "server.py", "--transport", "http"], "server.py", on_socket=True)
CALL = """{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "block", "arguments": {}}}"""


def release(paths: Paths, stop_seconds: int = 1) -> Release:
    config = AppConfig(max_shutdown_delay_seconds=stop_seconds)
    made = Release("app", 1, paths.release("app", 1), config, START)
    for folder in (made.source, made.log.parent, made.venv / "bin"):
        folder.mkdir(parents=True)
    (made.source / "server.py").write_text(BLOCKING)
    (made.venv / "bin" / "portway").symlink_to(SCRIPTS / "portway")
    return made


async def block(address: str) -> asyncio.StreamWriter:
    """Call the tool that blocks its loop, and return what holds the connection."""
    _, writer = await asyncio.open_unix_connection(address.removeprefix("unix:"))
    head = "POST /mcp HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    head += "accept: application/json, text/event-stream\r\n"
    writer.write(f"{head}content-length: {len(CALL)}\r\n\r\n{CALL}".encode())
    await writer.drain()
    return writer


@pytest.mark.parametrize("how", ["stopped", "blocked"])
def test_an_instance_that_no_longer_answers_is_replaced_at_once(paths: Paths, how: str) -> None:
    async def test() -> None:
        store = Store(paths.database)
        variables = Variables(store, KeyFile(paths.key))
        made = release(paths, stop_seconds=1000)
        store.begin_release("app", "/")
        changed = asyncio.Event()
        limits = InstanceLimits(probe_seconds=0.3, probes=2)
        keeper = Keeper(made, Starter(ProcessRuntime(paths, NO_WALLS), store, limits, variables), changed.set)

        async def state(*wanted: str) -> None:
            while keeper.state not in wanted:
                changed.clear()
                await changed.wait()

        keeper.begin(None)
        await state("up")
        first = keeper.instance
        assert first is not None
        if how == "stopped":
            os.kill(int(first.token.partition(":")[0]), signal.SIGSTOP)
        else:
            writer = await block(first.address)
        await state("starting")
        assert "it no longer answered" in keeper.reason
        await state("up")
        assert keeper.instance is not None
        assert keeper.instance.id != first.id
        assert await first.wait() == "signal SIGKILL"
        if how == "blocked":
            writer.close()
        await keeper.end()
        store.close()

    asyncio.run(test())


def test_an_instance_that_ended_on_a_full_disk_is_restarted_as_soon_as_there_is_room(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        store = Store(paths.database)
        variables = Variables(store, KeyFile(paths.key))
        made = release(paths)
        store.begin_release("app", "/")
        changed = asyncio.Event()
        starter = Starter(ProcessRuntime(paths, NO_WALLS), store, InstanceLimits(), variables)
        keeper = Keeper(made, starter, changed.set)
        room = False
        monkeypatch.setattr(Starter, "has_room", lambda _: room)
        monkeypatch.setattr("portway.host.instances.keeper._ROOM_SECONDS", 0.01)

        async def state(wanted: str) -> None:
            while keeper.state != wanted:
                changed.clear()
                await changed.wait()

        keeper.begin(None)
        await state("up")
        assert keeper.instance is not None
        os.kill(int(keeper.instance.token.partition(":")[0]), signal.SIGKILL)
        await state("crashed")
        assert "it is restarted when the disk has room" in keeper.reason
        room = True
        await state("up")
        assert (keeper.restarts, store.releases("app")[0].restarts) == (1, 1)
        await keeper.end()
        store.close()

    asyncio.run(test())


@pytest.mark.slow
@pytest.mark.parametrize("how", ["refuses", "hangs up", "is slow at times"])
def test_an_instance_that_does_anything_with_a_question_lives(how: str) -> None:
    async def test() -> None:
        asked = asyncio.Semaphore(0)
        slow = True

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal slow
            slow = not slow and how == "is slow at times"
            if slow:
                await reader.read()  # until the question is given up
            elif how != "hangs up":
                await reader.readuntil(b"\r\n\r\n")
                writer.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
            writer.close()
            asked.release()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        silence = asyncio.ensure_future(until_silent(address, 0.2, 4))
        for _ in range(5):
            await asked.acquire()
        assert not silence.done()
        server.close()
        await silence

    asyncio.run(test())


def test_many_instances_that_never_become_ready_do_not_keep_another_app_from_starting(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        begun: list[str] = []
        other = asyncio.Event()

        async def start_ready(_: Starter, made: Release) -> Instance:
            begun.append(made.app)
            if made.app == "other":
                other.set()
            await asyncio.Event().wait()
            raise AssertionError

        monkeypatch.setattr(Starter, "start_ready", start_ready)
        store = Store(paths.database)
        variables = Variables(store, KeyFile(paths.key))
        starter = Starter(ProcessRuntime(paths, NO_WALLS), store, InstanceLimits(), variables)
        groups = [
            InstanceGroup(Release(app, 1, paths.release(app, 1), AppConfig(num_instances=100)), starter, lambda: None)
            for app in ("hanging", "other")
        ]
        await other.wait()
        assert begun == ["hanging", "other"]
        for keeper in (keeper for group in groups for keeper in group.keepers):
            await keeper.end()
        store.close()

    asyncio.run(test())
