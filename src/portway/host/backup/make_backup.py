"""Makes a backup of a host, running or not: what goes into it, app by app.

What is promised of it: the database is as it was at one moment. The commits of every release in it are there. A file of
an app's storage holds what it held while it was read, which is not the same moment for all. An SQLite database there is
as of one moment, or there is a warning. Nothing waits for the backup.
"""

import contextlib
import fcntl
import io
import os
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import BinaryIO

import msgspec

from portway.counted import counted
from portway.host.backup.backup_format import (
    BUNDLE,
    DATABASE,
    FORMAT,
    MANIFEST,
    PROBE,
    BackupError,
    Manifest,
    Warnings,
    place_in_tree,
)
from portway.host.backup.backup_writer import BackupWriter
from portway.host.backup.file_tree import Found, open_plain, read_tree
from portway.host.backup.sqlite_snapshot import LARGEST, is_settled, read_settled, state_of
from portway.host.files import remove_tree
from portway.host.gate.record_files import record_files
from portway.host.git.git_command import GitError
from portway.host.git.repository import Repository
from portway.host.paths import Paths
from portway.host.secrets.key_file import KeyFile, KeyFileError
from portway.host.secrets.variables import Variables
from portway.host.sources.source_rules import SKIPPED
from portway.host.store import Store, StoreError
from portway.host.store.tables import HEAD


@dataclass(slots=True)
class Made:
    """What was backed up: the names of the apps, whether something is encrypted, and what is not as it should be."""

    apps: list[str] = field(default_factory=list)
    is_encrypted: bool = False
    warnings: list[str] = field(default_factory=list)


def make_backup(paths: Paths, key_file: KeyFile, output: BinaryIO, report: Callable[[str], None]) -> Made:
    """Write a backup of the host to `output`, and tell each step. Raises `BackupError` or `OSError`."""
    if not paths.database.is_file():
        raise BackupError(f"there is no host in {paths.data}: name its --data")
    with _scratch(paths) as scratch:
        try:
            store, probe = _copy_database(paths, key_file, scratch)
        except (StoreError, KeyFileError, sqlite3.Error) as error:
            raise BackupError(str(error)) from None
        try:
            return _Backup(paths, store, scratch, report).write(output, probe)
        except (StoreError, GitError) as error:
            raise BackupError(str(error)) from None
        finally:
            store.close()


@contextlib.contextmanager
def _scratch(paths: Paths) -> Iterator[Path]:
    """Make a folder that goes with the block. Raises `BackupError` while another backup is made."""
    folder = paths.data / "backup"
    folder.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BackupError("another backup of this host is being made: wait for its end") from None
        for left in folder.iterdir():  # of a backup that was killed
            left.unlink()
        yield folder
        remove_tree(folder)
    finally:
        os.close(descriptor)


def _copy_database(paths: Paths, key_file: KeyFile, scratch: Path) -> tuple[Store, str]:
    """Return a copy of the store, in which every encrypted value can be decrypted, and a probe of the key.

    What belongs to the machine is not in it: its instances, and the keys of sessions, which a restored host makes anew.
    """
    target = scratch / DATABASE
    with contextlib.closing(_connect(paths.database)) as source, contextlib.closing(_connect(target)) as copy:
        source.backup(copy)
    store = Store(target)
    try:
        probe = _probe(store, key_file)
    except KeyFileError:
        store.close()
        raise
    store.forget_machine()
    store.close()  # so that the file is whole
    with contextlib.closing(_connect(target)) as copy:
        copy.execute("VACUUM")  # what was deleted is not in it any more
    return store, probe


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=5)


def _probe(store: Store, key_file: KeyFile) -> str:
    """Decrypt all that is encrypted, and return what shows whether a key is the right one."""
    if not store.encrypted():
        return ""
    Variables(store, key_file)
    return key_file.read().encrypt(PROBE, b"")


class _Backup:
    def __init__(self, paths: Paths, store: Store, scratch: Path, report: Callable[[str], None]) -> None:
        self._paths = paths
        self._store = store
        self._scratch = scratch
        self._report = report
        self._warnings = Warnings()
        self._made = Made([app.name for app in store.apps()])

    def write(self, output: BinaryIO, probe: str) -> Made:
        made = self._made
        made.is_encrypted = bool(probe)
        data, host = str(self._paths.data), socket.gethostname()
        manifest = Manifest(FORMAT, version("portway"), HEAD, int(time.time()), host, data, made.apps, probe)
        with BackupWriter(output) as writer:
            writer.add_bytes(MANIFEST, msgspec.json.encode(manifest))
            writer.add_file(DATABASE, self._scratch / DATABASE)
            self._report(f"database, {counted(len(made.apps), 'app')}")
            for app in made.apps:
                self._add_commits(writer, app)
            self._report("sources")
            for app in made.apps:
                self._add_logs(writer, app)
                if (storage := self._paths.storage(app)).is_dir():
                    size = self._add_tree(writer, storage, f"apps/{app}/storage")
                    self._report(f"storage of {app}, {size / 2**20:.1f} MB")
            for file in record_files(self._paths.calls):
                self._add_if_there(writer, file)
            self._report("records")
            writer.close()
        made.warnings = self._warnings.lines()
        return made

    def _add_commits(self, writer: BackupWriter, app: str) -> None:
        """Add the commits of an app's releases; the source of a build that has none, as a folder."""
        repository, bundle = Repository(self._paths.repository(app)), self._scratch / BUNDLE
        try:
            held = repository.bundle(bundle) if repository.exists else set()
        except GitError:
            if repository.exists:
                raise
            held = set()  # the app was destroyed meanwhile
        if held:
            writer.add_file(f"apps/{app}/{BUNDLE}", bundle)
            bundle.unlink()
        for build in sorted({record.build for record in self._store.releases(app) if record.status == "ready"} - held):
            source = self._paths.release(app, build) / "src"
            if source.is_dir():
                kept = self._paths.kept_source(app, build)
                self._add_tree(writer, source, str(kept.relative_to(self._paths.data)), SKIPPED)

    def _add_logs(self, writer: BackupWriter, app: str) -> None:
        self._add_if_there(writer, self._paths.known_hosts(app))
        for record in self._store.releases(app):
            for name in ("build.log", "instance.log"):
                self._add_if_there(writer, self._paths.release(app, record.number) / "log" / name)

    def _add_if_there(self, writer: BackupWriter, file: Path) -> None:
        with contextlib.suppress(FileNotFoundError):
            writer.add_file(str(file.relative_to(self._paths.data)), file)

    def _add_tree(self, writer: BackupWriter, root: Path, name: str, skipped: frozenset[str] = frozenset()) -> int:
        """Add what is below a folder; return the bytes of its files."""
        size = 0
        for found in read_tree(root, skipped):
            path = f"{name}/{found.path}"
            if place_in_tree(path) is None:
                self._warnings.add(path[-200:], "is left out: its path is too long")
            elif found.fault:
                self._warnings.add(path, f"is left out: {found.fault}")
            elif found.folder is not None:
                self._add_database(writer, path, found, found.folder)
            elif not writer.add_found(path, _relative(found, root)):
                self._warnings.add(path, "became shorter while it was read: zeros stand for its end")
            size += found.status.st_size if found.file else 0
        return size

    def _add_database(self, writer: BackupWriter, path: str, found: Found, folder: int) -> None:
        """Add an SQLite database with its log or journal, as of one moment if that can be had."""
        name = os.path.basename(path)
        before, begun = state_of(folder, name), time.time_ns()
        if sum(size for _, size, _ in before.values()) <= LARGEST:
            files, settled = read_settled(folder, name)
            for end, content in files.items():
                writer.add_found(path + end, replace(found, file=io.BytesIO(content)), len(content))
        else:
            writer.add_found(path, found)
            for end in (end for end in before if end):
                with contextlib.suppress(FileNotFoundError), open_plain(folder, name + end) as file:
                    writer.add_found(path + end, replace(found, file=file, status=os.fstat(file.fileno())))
            settled = is_settled(folder, name, before, begun)
        if not settled:
            self._warnings.add(path, "was written while it was read: it may be damaged in the backup")


def _relative(found: Found, root: Path) -> Found:
    """Let a link that leads to a place below `root` by its whole path lead there from wherever `root` will be."""
    if found.target is None or not found.target.startswith(f"{root}/"):
        return found
    return replace(found, target=os.path.relpath(found.target, root / os.path.dirname(found.path)))
