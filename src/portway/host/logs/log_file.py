"""A log of bounded size: at most 10 MiB, and as much of what came before in `<name>.1`."""

import contextlib
import os
from pathlib import Path

LOG_BYTES = 10 * 1024 * 1024


class LogFile:
    """Appends the output of one or more sources to a file. Bytes that the disk refuses are counted and dropped."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1
        self._size = 0
        self._unfinished: object = None  # the source whose line at the end of the file lacks its newline
        self._lost = 0

    def append(self, source: object, data: bytes) -> None:
        """Write `data`. A line that another source has left unfinished is ended first."""
        try:
            self._open()
            if self._lost:
                self._write(source, b"portway: %d bytes of this log could not be written\n" % self._lost)
                self._lost = 0
            room = LOG_BYTES - self._size
            if len(data) > room:
                kept = data.rfind(b"\n", 0, max(room, 0)) + 1
                self._write(source, data[:kept])
                data = data[kept:]
                self._rotate()
            self._write(source, data)
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
        self._unfinished = None if is_whole else self

    def _rotate(self) -> None:
        self._path.replace(previous(self._path))
        self.close()
        self._open()

    def _write(self, source: object, data: bytes) -> None:
        if data and self._unfinished not in (None, source):
            data = b"\n" + data
        while data:
            written = os.write(self._descriptor, data)
            self._size += written
            self._unfinished = None if data[written - 1 : written] == b"\n" else source
            data = data[written:]


def previous(log: Path) -> Path:
    """Return the file with the earlier part of a log."""
    return log.with_name(f"{log.name}.1")
