"""What the user types on the terminal, line by line, while the event loop goes on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import sys
import threading

_LONGEST = 16_384  # bytes of a line


class TypedLines:
    """The lines of standard input, which is a terminal. A thread reads them from the first wanted one on.

    It notes with each line how often was forgotten before it was read, so that none gets by that is on its way.
    """

    def __init__(self) -> None:
        self._lines: asyncio.Queue[str | None] = asyncio.Queue()
        self._is_reading = False
        self._forgotten = 0
        self._lock = threading.Lock()  # held to read and to forget

    def forget(self) -> None:
        """Drop what has been typed so far, so that it answers nothing that is asked later."""
        with self._lock:
            self._forgotten += 1
            if sys.platform != "win32":
                import termios

                with contextlib.suppress(termios.error):  # the terminal is gone
                    termios.tcflush(0, termios.TCIFLUSH)
        while not self._lines.empty():
            self._lines.get_nowait()

    async def next(self) -> str | None:
        """Return the next line; None if the user ends the input, or the terminal is gone."""
        if not self._is_reading:
            self._is_reading = True
            threading.Thread(target=self._read, args=[asyncio.get_running_loop()], daemon=True).start()
        return await self._lines.get()

    def _read(self, loop: asyncio.AbstractEventLoop) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            while True:
                try:
                    data, forgotten = self._read_line()
                except OSError:
                    break
                if not data:
                    break
                loop.call_soon_threadsafe(self._take, data.decode(errors="replace").strip(), forgotten)
            loop.call_soon_threadsafe(self._end)

    def _read_line(self) -> tuple[bytes, int]:
        """Return a line, empty at the end, and how often was forgotten before it. Raises OSError if there is none."""
        # Not by sys.stdin: its lock, held by a thread that waits, would keep the process from ending.
        if sys.platform == "win32":
            return os.read(0, _LONGEST), self._forgotten
        while True:
            select.select([0], [], [])
            with self._lock:
                if select.select([0], [], [], 0)[0]:  # it may have been forgotten meanwhile
                    return os.read(0, _LONGEST), self._forgotten

    def _take(self, line: str, forgotten: int) -> None:
        if forgotten == self._forgotten:
            self._lines.put_nowait(line)

    def _end(self) -> None:
        self._is_reading = False
        self._lines.put_nowait(None)
