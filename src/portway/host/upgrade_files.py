"""The files by which `portway upgrade` and the launcher speak; the database copied before an upgrade and put back after
a failed one.

running.json            what the launcher runs: written at its start
version.json            the environment that the next start uses, unless the installed Portway has changed since
versions/               environments that `portway upgrade` has made
upgrade/request.json    what the command asks for; the launcher renames it to under-way.json when it begins
upgrade/progress.jsonl  what the launcher does, one line a step; the last line says how it ended
upgrade/portway.db      the database before, while an upgrade is not over
"""

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from portway.host.files import write_durably
from portway.host.paths import Paths

T = TypeVar("T")
INSTALLED = "PORTWAY_INSTALLED"
"""The variable with the program that `portway up` was started with, when another was chosen."""


@dataclass(frozen=True, slots=True)
class Running:
    """What runs a host: a version of Portway, in an environment `prefix` with the program `python`.

    `installed` is the program that `portway up` was started with, before it chose this one.
    """

    version: str
    python: str
    prefix: str
    installed: str


@dataclass(frozen=True, slots=True)
class Chosen:
    """The program that runs the host from the next start on, while `installed` is the version that is installed."""

    python: str
    installed: str


@dataclass(frozen=True, slots=True)
class Request:
    """An upgrade to `version`, run by `python`; on failure, `back` runs the version before."""

    version: str
    python: str
    back: str
    installed: str


@dataclass(frozen=True, slots=True)
class Progress:
    """One line of the progress: a step, or with `is_over` how the upgrade ended, well without `failure`."""

    step: str = ""
    is_over: bool = False
    failure: str = ""


class UpgradeFiles:
    """The files of one host."""

    def __init__(self, paths: Paths) -> None:
        self.versions = paths.data / "versions"
        self._running = paths.data / "running.json"
        self._chosen = paths.data / "version.json"
        self._folder = paths.data / "upgrade"
        self._request = self._folder / "request.json"
        self._under_way = self._folder / "under-way.json"
        self._progress = self._folder / "progress.jsonl"
        self._database = paths.database
        self._copy = self._folder / "portway.db"

    def note_running(self, running: Running) -> None:
        """Write what runs the host."""
        write_durably(self._running, _encode(running))

    def running(self) -> Running | None:
        """Return what runs the host, None if it never ran."""
        return _read(self._running, Running)

    def choose(self, chosen: Chosen) -> None:
        """Write what runs the host from the next start on."""
        write_durably(self._chosen, _encode(chosen))

    def chosen(self) -> Chosen | None:
        """Return what is to run the host, None for what is installed."""
        return _read(self._chosen, Chosen)

    @contextlib.contextmanager
    def ask(self, request: Request) -> Iterator[None]:
        """Ask the launcher for an upgrade; the request is taken back if it has not begun when the block ends.

        Raises BlockingIOError while another command asks.
        """
        self._folder.mkdir(mode=0o700, exist_ok=True)
        with (self._folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._progress.unlink(missing_ok=True)
            write_durably(self._request, _encode(request))
            try:
                yield
            finally:
                self._request.unlink(missing_ok=True)

    def is_asked(self) -> bool:
        """Return whether a request waits."""
        return self._request.exists()

    def take_request(self) -> Request:
        """Return the request that waits, which becomes the one under way. Raises OSError."""
        self._request.replace(self._under_way)
        return self.request()

    def request(self) -> Request:
        """Return the request under way. Raises OSError."""
        if (found := _read(self._under_way, Request)) is None:
            raise OSError(0, "the request of `portway upgrade` cannot be read")
        return found

    def report(self, progress: Progress) -> None:
        """Add a line to the progress; one that cannot be written is dropped."""
        with contextlib.suppress(OSError), self._progress.open("ab") as file:
            file.write(_encode(progress) + b"\n")

    def progress(self) -> list[Progress]:
        """Return the lines so far."""
        try:
            lines = self._progress.read_text().splitlines()
        except OSError:
            return []
        return [Progress(**json.loads(line)) for line in lines]

    def copy_database(self) -> None:
        """Keep the database as it is now. No process may have it open. Raises OSError."""
        draft = self._copy.with_suffix(".new")
        shutil.copyfile(self._database, draft)
        wal = self._database.with_name(self._database.name + "-wal")
        if wal.exists():  # of a control that was killed
            shutil.copyfile(wal, draft.with_name(draft.name + "-wal"))
            _checkpoint(draft)
        draft.replace(self._copy)

    def put_database_back(self) -> bool:
        """Undo what an upgrade that failed, or was cut, has changed in the schema. Raises OSError.

        A database of the same schema stays as it is, with what was written since. Return whether it was replaced.
        """
        if not self._copy.exists():
            return False
        is_changed = _schema(self._database) != _schema(self._copy)
        if is_changed:
            for suffix in ("-wal", "-shm"):
                self._database.with_name(self._database.name + suffix).unlink(missing_ok=True)
            self._copy.replace(self._database)
        self.forget_database()
        return is_changed

    def forget_database(self) -> None:
        """Remove the copy: the upgrade is over."""
        self._copy.unlink(missing_ok=True)

    def forget_versions(self, kept: set[str]) -> None:
        """Remove the environments that none of the programs `kept` belongs to."""
        if self.versions.is_dir():
            for folder in self.versions.iterdir():
                if not any(Path(python).is_relative_to(folder) for python in kept):
                    shutil.rmtree(folder, ignore_errors=True)


def host_runs(paths: Paths) -> bool:
    """Return whether a launcher holds the data directory."""
    try:
        descriptor = os.open(paths.lock, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def _schema(database: Path) -> str:
    """Return the version of a database's schema, "" if it cannot be read."""
    import sqlite3

    try:
        with contextlib.closing(sqlite3.connect(database)) as connection:
            return str(connection.execute("SELECT version_num FROM alembic_version").fetchone())
    except sqlite3.Error:
        return ""


def _checkpoint(database: Path) -> None:
    """Bring what the write-ahead log holds into the database."""
    import sqlite3

    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _encode(record: Running | Chosen | Request | Progress) -> bytes:
    return json.dumps(asdict(record)).encode()


def _read(path: Path, kind: type[T]) -> T | None:
    try:
        return kind(**json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
