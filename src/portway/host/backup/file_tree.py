"""Reads a folder that an app writes to meanwhile, without leaving it through a link."""

import errno
import os
import stat
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

BESIDE = ("-wal", "-journal", "-shm")
"""Ends of the names of files that belong to an SQLite database; it makes the last one anew."""

_MAGIC = b"SQLite format 3\0"
_DEEPEST = 100
GONE = (
    errno.ENOENT,
    errno.ENOTDIR,
    errno.ELOOP,
    errno.EINVAL,
    errno.ENXIO,
)  # it was deleted, or something else is in its place


@dataclass(frozen=True, slots=True)
class Found:
    """A file, a folder or a link below the folder that is read; `path` is relative to it.

    A file is open as `file` until the next one is asked for. `target` is what a link holds. `fault` says why it cannot
    be read. Of an SQLite database, `folder` is a descriptor of its folder; the files beside it that belong to it are
    not found by themselves.
    """

    path: str
    status: os.stat_result
    file: BinaryIO | None = None
    target: str | None = None
    fault: str = ""
    folder: int | None = None


def read_tree(root: Path, skipped: Collection[str] = ()) -> Iterator[Found]:
    """Yield what is below `root`, folders before what they hold, but for pipes, sockets and devices.

    What has a name in `skipped` is left out. Nothing is below a `root` that is gone. Raises `OSError`.
    """
    try:
        descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return
    try:
        yield from _read(descriptor, "", skipped, _DEEPEST)
    finally:
        os.close(descriptor)


def _read(folder: int, before: str, skipped: Collection[str], deepest: int) -> Iterator[Found]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name in skipped:
                continue
            try:
                yield from _found(folder, entry.name, before, skipped, deepest)
            except PermissionError:
                yield Found(before + entry.name, os.stat(folder), fault="it may not be read")
            except OSError as error:
                if error.errno not in GONE:
                    raise


def _found(folder: int, name: str, before: str, skipped: Collection[str], deepest: int) -> Iterator[Found]:
    if name.endswith(BESIDE) and _is_database(folder, name.rpartition("-")[0]):
        return
    path, status = before + name, os.stat(name, dir_fd=folder, follow_symlinks=False)
    if stat.S_ISLNK(status.st_mode):
        yield Found(path, status, target=os.readlink(name, dir_fd=folder))
    elif stat.S_ISREG(status.st_mode):
        with open_plain(folder, name) as file:
            status = os.fstat(file.fileno())
            if stat.S_ISREG(status.st_mode):
                is_database = os.pread(file.fileno(), len(_MAGIC), 0) == _MAGIC
                yield Found(path, status, file, folder=folder if is_database else None)
    elif stat.S_ISDIR(status.st_mode) and not deepest:
        yield Found(path, status, fault=f"it is below {_DEEPEST} folders")
    elif stat.S_ISDIR(status.st_mode):
        descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
        try:
            yield Found(path, status)
            yield from _read(descriptor, f"{path}/", skipped, deepest - 1)
        finally:
            os.close(descriptor)


def open_plain(folder: int, name: str) -> BinaryIO:
    """Open a file to read it, but not what a link leads to. Raises `OSError`."""
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    return os.fdopen(descriptor, "rb", buffering=0)


def _is_database(folder: int, name: str) -> bool:
    try:
        with open_plain(folder, name) as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False
