"""Storage: data of an app that outlives its releases."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from portway.host.app_config import AppConfig, Disk, Start
from portway.host.instances import storage
from portway.host.instances.instance_group import InstanceGroup
from portway.host.instances.process_runtime import ProcessRuntime
from portway.host.instances.runtime import InstanceLimits
from portway.host.instances.starter import Starter
from portway.host.instances.storage import StorageWatch
from portway.host.paths import Paths
from portway.host.releases.release import Release
from portway.host.sandbox.walls import NO_WALLS
from portway.host.secrets.key_file import KeyFile
from portway.host.secrets.variables import Variables
from portway.host.store import Store
from tests.host.running_host import Host, host
from tests.host.test_start_commands import SERVER as PLAIN_SERVER
from tests.support import eventually

MOUNTED = """
services:
  - {type: web, name: notes, runtime: python, x-portway: {storage: {sizeGB: 1, mountPath: /var/notes}}}
"""
SERVER = """
import asyncio
import contextlib
import os
import sqlite3
from portway import Server

server = Server("notes")
if folder := os.environ.get("PORTWAY_STORAGE"):
    notes = sqlite3.connect(folder + "/notes.db", isolation_level=None, check_same_thread=False)
    notes.execute("PRAGMA journal_mode=WAL")
    notes.execute("CREATE TABLE IF NOT EXISTS notes (text)")


@server.tool
async def add(text: str) -> list[str]:
    notes.execute("INSERT INTO notes VALUES (?)", [text])
    return [row[0] for row in notes.execute("SELECT text FROM notes ORDER BY rowid")]


@server.tool
def process() -> tuple[str, str]:
    return os.environ["PORTWAY_INSTANCE"], str(folder)
"""


@pytest.fixture
def app(tmp_path: Path) -> Path:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "server.py").write_text(SERVER)
    return tmp_path / "notes"


def add(running: Host, token: str, text: str) -> list[str]:
    found: list[str] = running.call("notes", "add", token, text=text)["result"]
    return found


@pytest.mark.slow
def test_a_database_outlives_crashes_deploys_and_a_move_of_the_host_until_its_app_is_destroyed(
    app: Path, tmp_path: Path
) -> None:
    with host(tmp_path / "data") as running:
        first = running.portway("deploy", app, "--storage", "2")
        assert "s  2 GB in PORTWAY_STORAGE\n" in first.stderr
        token = running.portway("token", "create", "notes", "t").stdout.split()[0]
        assert add(running, token, "one") == ["one"]

        instance, folder = running.call("notes", "process", token)["result"]
        for pid in running.pids(instance):
            with contextlib.suppress(ProcessLookupError):  # of a sandbox, the first one ends the others
                os.kill(pid, signal.SIGKILL)
        eventually(lambda: running.status("notes").restarts == 1 and running.instance("notes"))
        assert add(running, token, "two") == ["one", "two"]

        running.deploy(app, "notes", num_instances=3)
        with ThreadPoolExecutor(6) as callers:
            list(callers.map(lambda number: add(running, token, f"note {number}"), range(30)))
        kept = add(running, token, "three")
        assert (len(kept), kept[:2]) == (33, ["one", "two"]), "three processes write to one file"

    (tmp_path / "data").rename(tmp_path / "moved")
    with host(tmp_path / "moved") as running:
        eventually(lambda: running.status("notes").instances == 3)
        assert add(running, token, "four") == [*kept, "four"]
        assert " MB of 2 GB  " in running.portway("ps").stdout
        assert running.call("notes", "process", token)["result"][1] == folder.replace("/data/", "/moved/")

        (app / "render.yaml").write_text(MOUNTED)
        running.deploy(app, "notes", storage_gb=3)
        (app / "render.yaml").unlink()
        shown = json.loads(running.portway("config", "notes", "-o", "json").stdout)
        assert shown["x-portway"]["storage"] == {"mountPath": "/var/notes", "sizeGB": 3}

        running.deploy(app, "notes", storage_gb=0)
        assert running.call("notes", "process", token)["result"][1] == "None"
        assert (Path(running.ready["data"]) / "apps" / "notes" / "storage" / "notes.db").exists()
        assert running.status("notes").stored, "what is no longer wanted is shown, and not deleted"
        asked = running.portway("destroy", "notes", stdin="notes\n")
        assert " MB of stored data" in asked.stderr
        assert asked.stdout == "", "stdout is for the result"
        assert not running.paths.storages()


@pytest.fixture
def release(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> Release:
    """Return one whose app has storage of 20 MB, which it is told as 1 GB."""
    monkeypatch.setattr(storage, "GIGABYTE", 20 * 1024 * 1024)
    start = Start([sys.executable, "main.py"], "main.py")
    made = Release("app", 1, paths.release("app", 1), AppConfig(disk=Disk(size_gb=1)), start)
    for folder in (made.source, made.log.parent):
        folder.mkdir(parents=True)
    (made.source / "main.py").write_text(PLAIN_SERVER)
    made.log.touch()
    made.make_storage()
    return made


def fill(release: Release, part: float) -> None:
    """Let the storage hold that part of its size."""
    assert release.storage is not None
    (release.storage / "file").write_bytes(b"x" * round(part * storage.GIGABYTE))


@pytest.mark.slow
def test_an_app_is_ended_while_its_storage_grows_beyond_its_size_and_else_only_told(
    paths: Paths, release: Release
) -> None:
    async def test() -> None:
        store = Store(paths.database)
        store.begin_release("app", "/")
        limits, variables = InstanceLimits(stop_seconds=1), Variables(store, KeyFile(paths.key))
        group = InstanceGroup(release, Starter(ProcessRuntime(paths, NO_WALLS), store, limits, variables), lambda: None)
        watch = StorageWatch(paths, {"app": group})

        async def look(part: float, ends: int) -> list[str]:
            await asyncio.to_thread(fill, release, part)
            await watch.measure()
            await watch.judge()
            await asyncio.to_thread(eventually, lambda: (group.restarts, group.state) == (ends, "up"))
            return re.findall("portway: the .*", release.log.read_text())

        await asyncio.to_thread(eventually, lambda: group.state == "up")
        told = ["portway: the storage holds 0.9 GB of 1 GB"]
        assert await look(0.5, 0) == []
        assert await look(0.94, 0) == told
        told += ["portway: the storage holds 1.5 GB, more than its 1 GB"]
        told += ["portway: the app's storage grew to 1.5 GB, more than its 1 GB, and the app was ended"]
        assert await look(1.5, 1) == told
        assert await look(1.5, 1) == told, "it may read, and delete"
        assert await look(1.2, 1) == told
        told += ["portway: the app's storage grew to 1.8 GB, more than its 1 GB, and the app was ended"]
        assert await look(1.8, 2) == told
        assert await look(0.1, 2) == told
        assert await look(0.94, 2) == [*told, told[0]]
        for keeper in group.keepers:
            await keeper.end()
        store.close()

    asyncio.run(test())


@pytest.mark.slow
def test_storage_that_fills_is_looked_at_before_the_minute_is_over(
    paths: Paths, release: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "_LEAST_BYTES", 1024)
    idle = replace(release, config=AppConfig(disk=Disk(size_gb=1), num_instances=0))
    watch = StorageWatch(paths, {"app": InstanceGroup(idle, None, lambda: None)})  # type: ignore[arg-type]

    async def test() -> None:
        running = asyncio.create_task(watch.run())
        await asyncio.to_thread(eventually, lambda: "app" in watch.used)
        await asyncio.to_thread(fill, release, 2)
        await asyncio.to_thread(eventually, lambda: release.log.exists() and "2.0 GB" in release.log.read_text())
        running.cancel()

    asyncio.run(test())
