"""Named pipes that carry the output of builds and instances to the log writer.

A pipe is a FIFO in the run directory's `logs`, with a link `<name>.log` beside it to the file it is written to. The
processes that write hold it open for reading as well, so it outlives a crash of the log writer: what they write
meanwhile waits in the pipe, and its successor finds the pipe by its name.
"""

import asyncio
import contextlib
import fcntl
import os
import termios
import time
from pathlib import Path
from typing import Self

from portway.host.logs.pipe_directory import link_of, new_pipe, ring

_DRAIN_SECONDS = 2.0
_POLL_SECONDS = 0.01


class LogPipe:
    """One pipe, open for a child's output from here until `drained` or `close`.

    If nobody held it open after the child's end, the kernel would drop what the log writer has not read.
    """

    def __init__(self, directory: Path, log: Path, instance: str = "") -> None:
        """Make a pipe in `directory` for what an instance, or a build, writes to `log`. Raises `OSError`."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = new_pipe(directory, instance)
        draft = self._path.with_suffix(".new")
        os.mkfifo(draft, 0o600)
        self.descriptor = os.open(draft, os.O_RDWR)
        link_of(self._path).symlink_to(log)
        draft.rename(self._path)  # only now, held open, does the log writer see it: without a writer, reading would end
        ring(directory)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def write(self, line: str) -> None:
        """Write a line, and wait at most 2 s until the log writer has read it."""
        os.write(self.descriptor, f"{line}\n".encode())
        deadline = time.monotonic() + _DRAIN_SECONDS
        while self._has_unread() and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)

    async def drained(self) -> None:
        """Close it, and wait at most 2 s until all that was written is in the log.

        A daemon may hold the pipe open for longer.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_SECONDS):
                while self._has_unread():  # noqa: ASYNC110  # another process reads it, which sends no event
                    await asyncio.sleep(_POLL_SECONDS)
                self.close()
                while self._path.exists():  # noqa: ASYNC110  # another process removes it, which sends no event
                    await asyncio.sleep(_POLL_SECONDS)
        self.close()

    def _has_unread(self) -> bool:
        waiting = bytearray(4)
        return fcntl.ioctl(self.descriptor, termios.FIONREAD, waiting) == 0 and any(waiting)
