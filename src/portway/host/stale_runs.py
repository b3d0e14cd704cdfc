"""Removes the directories of sockets that killed hosts have left."""

import contextlib
import errno
import os
import re
import socket
import stat
import time
from pathlib import Path

from portway.host.files import remove_tree

_YOUNG_SECONDS = 600.0  # a host that starts has its sockets in less
_NAME = re.compile(r"[0-9a-f]{8}")


def remove_stale_runs(run: Path) -> None:
    """Remove the directories beside `run` that are old and in which no process has a socket or a pipe open."""
    for other in run.parent.iterdir():
        with contextlib.suppress(OSError):  # another host may remove it at the same time
            is_old = other.lstat().st_mtime < time.time() - _YOUNG_SECONDS
            if other != run and _NAME.fullmatch(other.name) and is_old and not any(map(_is_open, other.rglob("*"))):
                remove_tree(other)


def _is_open(path: Path) -> bool:
    """Return whether a process listens on the socket at `path`, or reads the pipe there."""
    mode = path.lstat().st_mode
    if stat.S_ISSOCK(mode):
        with socket.socket(socket.AF_UNIX) as probe:
            probe.setblocking(False)  # a socket whose owner is busy has no room
            return probe.connect_ex(str(path)) not in (errno.ECONNREFUSED, errno.ENOENT)
    if stat.S_ISFIFO(mode):
        with contextlib.suppress(OSError):
            os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
            return True
    return False
