"""The two pipes of stdio, read and written without blocking the loop: a line that is too long, a slow reader, print()
kept from the protocol.

O_NONBLOCK belongs to the open file, which the parent and a terminal's other users may share, so it is never set.
Reading waits for readiness instead. Writing asks `poll` before each PIPE_BUF bytes, which then do not block
(select(2), pipe(7)).
"""

from __future__ import annotations

import asyncio
import os
import select
import sys
import threading
from collections.abc import Callable
from typing import NamedTuple

_CHUNK = 65_536
_BACKLOG = 8 * 1024 * 1024
"""Bytes of unread replies beyond which requests are no longer read."""


class Wire(NamedTuple):
    """The descriptors of the connection; print() and child processes do not have them."""

    reader: int
    writer: int


def claim() -> Wire:
    """Move standard input and output elsewhere: descriptor 0 then reads nothing, descriptor 1 is standard error."""
    try:
        if sys.__stdin__ is None or sys.__stdout__ is None:  # it was closed, and another file may have its number
            raise OSError
        wire = Wire(os.dup(0), os.dup(1))  # close-on-exec; what dup2 puts onto 0 and 1 is for children too
    except OSError:
        raise SystemExit("portway: stdio needs standard input and output, and one of them is closed") from None
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    if sys.stdout is not None:
        sys.stdout.flush()  # what was printed before now goes to standard error too
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")  # print("✓") in any locale
    return wire


class Lines:
    """Splits what arrives into lines of at most `limit` bytes; a longer one is dropped and reported once."""

    def __init__(self, limit: int, on_line: Callable[[bytes], None], on_oversize: Callable[[], None]) -> None:
        self._limit = limit
        self._on_line = on_line
        self._on_oversize = on_oversize
        self._rest = bytearray()
        self._dropping = False

    def feed(self, data: bytes) -> None:
        """Take a chunk, and pass on each line it completes, without its line break."""
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            piece = data[start:end]
            start = end + 1
            if self._rest or self._dropping or len(piece) > self._limit:
                self._hold(piece)
                piece = bytes(self._rest)
                self._rest.clear()
                if self._dropping:
                    self._dropping = False
                    continue
            self._on_line(piece)
        self._hold(data[start:])

    def finish(self) -> None:
        """Pass on what came after the last line break: the input has ended."""
        if self._rest and not self._dropping:
            self._on_line(bytes(self._rest))
        self._rest.clear()

    def _hold(self, piece: bytes) -> None:
        if self._dropping:
            return
        self._rest += piece
        if len(self._rest) > self._limit:
            self._rest.clear()
            self._dropping = True
            self._on_oversize()


class Reader:
    """Passes a descriptor's bytes to `on_data`; b"" means the end."""

    def __init__(self, descriptor: int, on_data: Callable[[bytes], None]) -> None:
        self._descriptor = descriptor
        self._on_data = on_data
        self._loop = asyncio.get_running_loop()
        try:
            self.resume()
        except (PermissionError, NotImplementedError):
            # A regular file has no readiness to wait for, and neither has any pipe on Windows.
            threading.Thread(target=self._pump, name="portway-stdin", daemon=True).start()
            self.pause = self.resume = lambda: None  # type: ignore[method-assign]

    def pause(self) -> None:
        """Read no more until `resume`."""
        self._loop.remove_reader(self._descriptor)

    def resume(self) -> None:
        """Read again."""
        self._loop.add_reader(self._descriptor, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self._descriptor, _CHUNK)
        except BlockingIOError:  # another process that shares the descriptor has read it
            return
        except OSError:  # a socket whose other end was killed
            data = b""
        if not data:
            self.pause()
        self._on_data(data)

    def _pump(self) -> None:
        data = b"."
        while data:
            data = os.read(self._descriptor, _CHUNK)
            self._loop.call_soon_threadsafe(self._on_data, data)


class Writer:
    """Writes whole messages in order, and keeps what the client has not read yet."""

    def __init__(
        self,
        descriptor: int,
        on_full: Callable[[], None],
        on_drained: Callable[[], None],
        on_broken: Callable[[], None],
    ) -> None:
        self._descriptor = descriptor
        self._on_broken = on_broken
        self._on_full = on_full
        self._on_drained = on_drained
        self._loop = asyncio.get_running_loop()
        self._pending = bytearray()
        self._full = False
        self._drained: asyncio.Future[None] | None = None
        self.broken = False
        if sys.platform != "win32":
            self._poll = select.poll()
            self._poll.register(descriptor, select.POLLOUT)

    def write(self, line: bytes) -> None:
        """Write a line: as much as possible now, the rest when the client reads."""
        if self._pending:
            self._pending += line
            if len(self._pending) > _BACKLOG and not self._full:
                self._full = True
                self._on_full()
            return
        sent = self._push(line)
        if sent < len(line) and not self.broken:
            self._pending += line[sent:]
            self._loop.add_writer(self._descriptor, self._flush)

    async def drained(self) -> None:
        """Wait until the client has taken everything, or is gone."""
        if not self._pending:
            return
        if self._drained is None:
            self._drained = self._loop.create_future()
        await asyncio.shield(self._drained)

    def _push(self, data: bytes | bytearray) -> int:
        """Write as much as does not block, and return the number of bytes written."""
        sent = 0
        try:
            if sys.platform == "win32":
                while sent < len(data):
                    sent += os.write(self._descriptor, data[sent:])
            else:
                while sent < len(data) and self._poll.poll(0):
                    sent += os.write(self._descriptor, data[sent : sent + select.PIPE_BUF])
        except BlockingIOError:
            pass  # the parent made the descriptor non-blocking, and it takes less than poll promised
        except OSError:  # the client closed its end
            self.broken = True
            self._on_broken()
        return sent

    def _flush(self) -> None:
        del self._pending[: self._push(self._pending)]
        if self.broken:
            self._pending.clear()
        if self._pending:
            return
        self._loop.remove_writer(self._descriptor)
        if self._full:
            self._full = False
            self._on_drained()
        if self._drained is not None:
            self._drained.set_result(None)
            self._drained = None
