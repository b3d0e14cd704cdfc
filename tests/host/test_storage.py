"""Storage: data of an app that outlives its releases."""

from __future__ import annotations

import asyncio
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from portway.host.app_config import AppConfig, Disk
from portway.host.instances import storage
from portway.host.instances.instance_group import InstanceGroup
from portway.host.instances.storage import StorageWatch
from portway.host.logs.log_reader import last_lines
from portway.host.paths import Paths
from portway.host.releases.release import Release
from tests.host.running_host import Host, host
from tests.support import eventually

SERVER = """
import asyncio
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

        running.deploy(app, "notes", storage_gb=0)
        assert running.call("notes", "process", token)["result"][1] == "None"
        assert (Path(running.ready["data"]) / "apps" / "notes" / "storage" / "notes.db").exists()
        assert running.status("notes").stored, "what is no longer wanted is shown, and not deleted"
        asked = running.portway("destroy", "notes", stdin="notes\n")
        assert " MB of stored data" in asked.stdout + asked.stderr
        assert not running.paths.storages()


def test_an_app_whose_storage_exceeds_its_size_reads_of_it_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "GIGABYTE", 64 * 1024)
    paths = Paths(tmp_path, tmp_path)
    release = Release("app", 1, paths.release("app", 1), AppConfig(disk=Disk(size_gb=1), num_instances=0))
    release.log.parent.mkdir(parents=True)
    release.make_storage()
    assert release.storage is not None
    watch = StorageWatch(paths, {"app": InstanceGroup(release, None, lambda: None)})  # type: ignore[arg-type]

    async def look(size: int) -> list[str]:
        assert release.storage is not None
        (release.storage / "file").write_bytes(b"x" * size)
        await watch.measure()
        watch.warn()
        return last_lines(release.log)

    assert asyncio.run(look(1000)) == []
    said = "portway: the storage holds 2.1 GB, more than its 1 GB"
    assert asyncio.run(look(128 * 1024)) == [said]
    assert asyncio.run(look(128 * 1024)) == [said]
    asyncio.run(look(1000))
    assert asyncio.run(look(128 * 1024)) == [said, said]
