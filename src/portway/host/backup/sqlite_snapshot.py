"""Reads an app's SQLite database as of one moment, while the app writes to it.

It is read as plain files: opened as a database, an app could make it lead to files of the host. A database and its
write-ahead log or journal, read while none of them changes, are what SQLite finds after a power cut: one moment.
"""

import contextlib
import os
import time

from portway.host.backup.file_tree import BESIDE, GONE, open_plain

LARGEST = 64 * 2**20
"""The bytes of a database that is held in memory; a larger one is read once."""

_SECONDS = 5.0  # for one that is written to all the time
_PAUSE_SECONDS = 0.02
_TICK_NS = 20_000_000  # file systems note times to a few milliseconds

State = dict[str, tuple[int, int, int]]


def state_of(folder: int, name: str) -> State:
    """Return what shows that a database changes: of each of its files, by the end of its name."""
    found: State = {}
    for end in ("", *BESIDE[:2]):
        with contextlib.suppress(FileNotFoundError):
            status = os.stat(name + end, dir_fd=folder, follow_symlinks=False)
            found[end] = (status.st_ino, status.st_size, status.st_mtime_ns)
    return found


def is_settled(folder: int, name: str, before: State, begun: int) -> bool:
    """Return whether a database has not changed since shortly before the time `begun`, when it was as `before`."""
    last = max((changed for _, _, changed in before.values()), default=0)
    return last < begun - _TICK_NS and state_of(folder, name) == before


def read_settled(folder: int, name: str) -> tuple[dict[str, bytes], bool]:
    """Return the files of a database by the ends of their names, and whether they are of one moment.

    Raises `OSError`.
    """
    give_up = time.monotonic() + _SECONDS
    while True:
        before, begun = state_of(folder, name), time.time_ns()
        files = {end: content for end in before if (content := _read(folder, name + end)) is not None}
        settled = is_settled(folder, name, before, begun)
        if settled or time.monotonic() > give_up:
            return files, settled
        time.sleep(_PAUSE_SECONDS)


def _read(folder: int, name: str) -> bytes | None:
    """Return what a file holds, None when it is gone."""
    try:
        with open_plain(folder, name) as file:
            return os.pread(file.fileno(), LARGEST, 0)
    except OSError as error:
        if error.errno not in GONE:
            raise
        return None
