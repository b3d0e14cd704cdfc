"""Writes a log of bounded size: at most 10 MiB, rotated to `<name>.1`, each line with its stamp.

Each line begins with a stamp (`stamp.py`). A line of more than 128 KiB is kept in pieces, each a line of its own.
"""

import contextlib
import os
from pathlib import Path

from portway.host.logs.stamp import make_stamp

LOG_BYTES = 10 * 1024 * 1024
_NOBODY = object()  # the source of a line whose source is not known
_PIECE_BYTES = 64 * 1024  # an unfinished line of this size is ended; a writer appends as much at once, at most


class LogFile:
    """Appends the output of one or more sources to a file. Bytes that the disk refuses are counted and dropped."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1
        self._size = 0
        self._unfinished: object = None  # the source whose line at the end of the file lacks its newline
        self._unfinished_bytes = 0
        self._lost = 0

    def append(self, source: object, data: bytes, instance: str = "") -> None:
        """Write `data`, each line with its stamp: the instance's, or one without an instance.

        A line that another source has left unfinished is ended first.
        """
        try:
            self._open()
            if self._lost:
                lost = b"portway: %d bytes of this log could not be written\n" % self._lost
                self._write(self, lost, make_stamp(""))
                self._lost = 0
            self._write(source, data, make_stamp(instance))
        except OSError:
            self._lost += len(data)
            self.close()

    def finish(self, source: object) -> None:
        """End the line that `source`, which has gone, left unfinished."""
        if self._unfinished is source:
            self.append(source, b"\n")

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _open(self) -> None:
        """Open the file; open it again when someone has renamed or deleted it."""
        if self._descriptor >= 0:
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(self._descriptor), self._path.stat()):
                    return
            self.close()
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        self._size = os.fstat(self._descriptor).st_size
        is_whole = self._size == 0 or os.pread(self._descriptor, 1, self._size - 1) == b"\n"
        self._unfinished = None if is_whole else _NOBODY

    def _rotate(self) -> None:
        self._path.replace(previous(self._path))
        self.close()
        self._open()

    def _write(self, source: object, data: bytes, stamp: bytes) -> None:
        is_long = self._unfinished_bytes >= _PIECE_BYTES and not data.startswith(b"\n")
        begins = is_long or self._unfinished is not source
        end = b"\n" if begins and self._unfinished is not None else b""
        text = end + (stamp if begins else b"") + data[:-1].replace(b"\n", b"\n" + stamp) + data[-1:]
        room = LOG_BYTES - self._size
        if len(text) > room:
            kept = text.rfind(b"\n", 0, max(room, 0)) + 1
            self._put(text[:kept])
            text = text[kept:].removeprefix(b"\n")  # the end of the file ends its last line too
            self._rotate()
            if text and not text.startswith(stamp):
                text = stamp + text
        self._put(text)
        line = len(text) - text.rfind(b"\n") - 1
        self._unfinished_bytes = line if begins or line < len(text) else self._unfinished_bytes + line
        self._unfinished = source if line else None

    def _put(self, text: bytes) -> None:
        while text:
            written = os.write(self._descriptor, text)
            self._size += written
            text = text[written:]


def write_to(log: Path, text: str) -> None:
    """Append some lines of the host's own to a log. Its folder is made if need be."""
    with contextlib.suppress(OSError):
        log.parent.mkdir(mode=0o700, exist_ok=True)
    file = LogFile(log)
    file.append(file, f"{text}\n".encode())
    file.close()


def previous(log: Path) -> Path:
    """Return the file with the earlier part of a log."""
    return log.with_name(f"{log.name}.1")
