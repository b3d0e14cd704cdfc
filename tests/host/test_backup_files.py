"""What a backup has of the files of apps, also of those that are written meanwhile, and how its own file is made."""

from __future__ import annotations

import fcntl
import os
import re
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import IO

import pytest

from portway.host.backup import sqlite_snapshot
from portway.host.backup.file_tree import read_tree
from tests.host.backup_verbs import back_up, restore
from tests.support import SCRIPTS, clean_env, eventually


def test_storage_comes_back_as_it_was_but_for_links_out_of_it(host_data: Path, backup: Path) -> None:
    done = restore(backup)
    assert done.exit_code == 0, done.output
    assert done.output.count(" is left out: it leads to '") == 20
    assert "and 19 files more" in done.output
    before, after = host_data / "apps/app/storage", backup.parent / "restored/apps/app/storage"
    assert (after / "folder/file").read_bytes() == (before / "folder/file").read_bytes()
    found, wanted = (after / "folder/file").stat(), (before / "folder/file").stat()
    assert (found.st_mode, found.st_mtime, wanted.st_mtime) == (wanted.st_mode, 0, -5)
    assert sorted(os.listdir(after)) == sorted({*os.listdir(before)} - {"outside", "pipe"})
    assert sorted(os.listdir(after / "folder")) == ["empty", "file"]
    assert (after / "absolute").readlink() == Path("folder")
    assert (after / "inside").read_bytes() == (before / "folder/file").read_bytes()
    assert (after / "folder/empty").is_dir()
    assert (backup.parent / "restored/calls/000000000001.jsonl").read_text() == "{}\n"
    assert not list(host_data.glob("backup*"))[1:], "its own folder is gone or empty"


def test_a_backup_is_made_whole_and_alone_or_not_at_all(host_data: Path, backup: Path) -> None:
    before = backup.read_bytes()
    (host_data / "backup").mkdir(exist_ok=True)
    descriptor = os.open(host_data / "backup", os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    assert "another backup of this host is being made" in back_up(host_data, backup).output
    os.close(descriptor)
    assert backup.read_bytes() == before
    assert "there is no host in" in back_up(backup.parent, backup).output
    assert "the backup cannot be written: No such file" in back_up(host_data, backup.parent / "none" / "file").output
    refused = back_up(host_data, Path("-"), "-o", "json")
    assert "the backup goes to stdout: let it go to a file or a program, without -o json" in refused.output
    (host_data / "key").rename(backup.parent / "away")
    assert "name its place with --key-file" in back_up(host_data, backup).output
    assert back_up(host_data, backup, "--key-file", str(backup.parent / "away")).exit_code == 0
    (backup.parent / "host.key").write_text("another")
    refused = back_up(
        host_data, backup, "--key-file", str(backup.parent / "away"), "--key-to", str(backup.parent / "host.key")
    )
    assert "host.key holds another key: give --key-to another name" in refused.output
    assert sorted(path.name for path in backup.parent.glob("host.*")) == ["host.backup", "host.key"]


WRITE = """
BEGIN;
INSERT INTO a VALUES (hex(randomblob(2000)));
INSERT INTO b SELECT text FROM a ORDER BY rowid DESC LIMIT 1;
COMMIT;
"""


@contextmanager
def writing(file: Path, pause: float) -> Iterator[None]:
    """Write to a database from another thread while the block lasts: both of its tables in each transaction."""
    ended = threading.Event()
    written = threading.Event()

    def write() -> None:
        with closing(sqlite3.connect(file, isolation_level=None)) as database:
            database.executescript("PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=2; PRAGMA synchronous=OFF")
            database.executescript("CREATE TABLE a (text); CREATE TABLE b (text)")
            while not ended.wait(pause):
                database.executescript(WRITE)
                written.set()

    thread = threading.Thread(target=write)
    thread.start()
    try:
        assert written.wait(120)
        yield
    finally:
        ended.set()
        thread.join()


def test_a_database_that_is_written_meanwhile_is_backed_up_as_of_one_moment(host_data: Path, tmp_path: Path) -> None:
    storage = Path("apps/app/storage")
    with writing(host_data / storage / "notes.db", 0.06):
        made = back_up(host_data, tmp_path / "host.backup", "--key-to", str(tmp_path / "host.key"))
    assert "was written while it was read" not in made.output
    assert restore(tmp_path / "host.backup").exit_code == 0
    assert not (tmp_path / "restored" / storage / "notes.db-shm").exists()
    with closing(sqlite3.connect(tmp_path / "restored" / storage / "notes.db")) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert database.execute("SELECT count(*) FROM a").fetchone() > (0,)
        assert database.execute("SELECT count(*) FROM a LEFT JOIN b USING (text) WHERE b.text IS NULL").fetchone() == (
            0,
        )


@pytest.mark.parametrize("most", [sqlite_snapshot.LARGEST, 1000])
def test_a_database_that_is_written_without_a_pause_is_warned_of(
    host_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(sqlite_snapshot, "_SECONDS", 0.1)
    monkeypatch.setattr(sqlite_snapshot, "_TICK_NS", 10**13)  # no pause is long enough
    monkeypatch.setattr("portway.host.backup.make_backup.LARGEST", most)
    with writing(host_data / "apps/app/storage/notes.db", 0.01):
        made = back_up(host_data, tmp_path / "host.backup")
    assert made.exit_code == 0
    assert "apps/app/storage/notes.db was written while it was read: it may be damaged in the backup" in made.output


def test_an_app_that_swaps_links_and_folders_shows_nothing_outside_and_breaks_no_backup(tmp_path: Path) -> None:
    outside, storage = tmp_path / "outside", tmp_path / "storage"
    outside.mkdir()
    (outside / "file").write_text("outside")
    (storage / "folder").mkdir(parents=True)
    ended = threading.Event()

    def swap() -> None:
        while not ended.is_set():
            (storage / "folder").rename(tmp_path / "away")
            (storage / "folder").symlink_to(outside)
            (storage / "folder").unlink()
            (tmp_path / "away").rename(storage / "folder")
            (storage / "folder" / "file").symlink_to(outside / "file")
            (storage / "folder" / "file").unlink()
            (storage / "folder" / "file").write_text("inside")
            (storage / "folder" / "file").unlink()

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        found = [each.file.read() for _ in range(3000) for each in read_tree(storage) if each.file]
    finally:
        ended.set()
        thread.join()
    assert {*found} <= {b"", b"inside"}


def command(*arguments: str | Path, **streams: int | IO[bytes]) -> subprocess.Popen[bytes]:
    """Start a `portway` command whose output is for nobody."""
    return subprocess.Popen(
        [SCRIPTS / "portway", *arguments],
        stderr=subprocess.DEVNULL,
        env=clean_env(),
        **streams,  # type: ignore[call-overload]
    )


def memory(process: subprocess.Popen[bytes]) -> int:
    """Wait for the end of a process that succeeds, and return the bytes it had in memory at most.

    What `wait4` tells of a process counts the memory of the one that forked it, which is that of the tests.
    """
    most = 0

    def has_ended() -> bool:
        nonlocal most
        with suppress(OSError):
            found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
            most = max(most, int(found[1]) * 1024 if found else 0)
        return process.poll() is not None

    eventually(has_ended)
    assert process.returncode == 0
    return most


@pytest.mark.slow
def test_a_backup_goes_through_a_pipe_in_bounded_memory_and_holes_stay_holes(host_data: Path, tmp_path: Path) -> None:
    size = 2**30
    with (host_data / "apps/app/storage/holes").open("wb") as file:
        file.truncate(size)
    making = command("backup", "-", "--data", host_data, "--key-to", tmp_path / "key", stdout=subprocess.PIPE)
    eventually((tmp_path / "key").exists)
    options = ("--key-from", tmp_path / "key", "--data", tmp_path / "restored")
    restoring = command("restore", "-", *options, stdin=making.stdout)
    assert making.stdout
    making.stdout.close()
    assert memory(making) < size / 2
    assert memory(restoring) < size / 2
    holes = (tmp_path / "restored/apps/app/storage/holes").stat()
    assert holes.st_size == size
    assert holes.st_blocks * 512 < 2**20


@pytest.mark.slow
def test_a_killed_backup_and_a_killed_restore_leave_nothing_in_place_and_the_next_succeeds(
    host_data: Path, tmp_path: Path
) -> None:
    with (host_data / "apps/app/storage/holes").open("wb") as file:
        file.truncate(2**31)
    backup = tmp_path / "host.backup"
    making = command("backup", backup, "--data", host_data)
    eventually((tmp_path / "host.backup.part").exists)
    making.kill()
    making.wait()
    assert not backup.exists()
    (host_data / "apps/app/storage/holes").write_bytes(os.urandom(2**20))
    assert back_up(host_data, backup, "--key-to", str(tmp_path / "host.key")).exit_code == 0
    assert sorted(path.name for path in tmp_path.glob("host.*")) == ["host.backup", "host.key"]

    options = ("--key-from", tmp_path / "host.key", "--data", tmp_path / "restored")
    restoring = command("restore", "-", *options, stdin=subprocess.PIPE)
    assert restoring.stdin
    restoring.stdin.write(backup.read_bytes()[:-1000])
    restoring.stdin.flush()
    eventually((tmp_path / "restored.restoring").exists)
    restoring.kill()
    restoring.wait()
    restoring.stdin.close()
    assert not (tmp_path / "restored").exists()
    assert restore(backup).exit_code == 0
    assert not (tmp_path / "restored.restoring").exists()
