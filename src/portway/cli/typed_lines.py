"""What the user types on the terminal, line by line, while the event loop goes on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading

_LONGEST = 16_384  # bytes of a line


class TypedLines:
    """The lines of standard input, which is a terminal. A thread reads them from the first wanted one on."""

    def __init__(self) -> None:
        self._lines: asyncio.Queue[str | None] = asyncio.Queue()
        self._is_reading = False

    def forget(self) -> None:
        """Drop what has been typed so far, so that it answers nothing that is asked later."""
        while not self._lines.empty():
            self._lines.get_nowait()
        if sys.platform != "win32":
            import termios

            with contextlib.suppress(termios.error):  # the terminal is gone
                termios.tcflush(0, termios.TCIFLUSH)

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
                    # Not by sys.stdin: its lock, held by a thread that waits, would keep the process from ending.
                    data = os.read(0, _LONGEST)
                except OSError:
                    data = b""
                if not data:
                    break
                loop.call_soon_threadsafe(self._lines.put_nowait, data.decode(errors="replace").strip())
            loop.call_soon_threadsafe(self._end)

    def _end(self) -> None:
        self._is_reading = False
        self._lines.put_nowait(None)
