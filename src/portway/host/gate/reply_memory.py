"""Bounds the memory that long replies of one app may take in the gate."""

import asyncio
from collections import deque

REPLY_MEMORY_BYTES = 64 * 1024 * 1024


class ReplyMemory:
    """A counter of free bytes. A taker that finds too few waits; waiting takers are served in order."""

    def __init__(self, size: int = REPLY_MEMORY_BYTES) -> None:
        self.free = size
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def take(self, size: int) -> None:
        """Take `size` bytes, at most the whole size; wait until they are free."""
        if size <= self.free and not self._waiting:
            self.free -= size
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((size, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self.give(0)  # a smaller taker behind this one may fit now
            else:
                self.give(size)
            raise

    def give(self, size: int) -> None:
        """Give `size` bytes back, and serve the takers that wait."""
        self.free += size
        while self._waiting and (self._waiting[0][1].done() or self._waiting[0][0] <= self.free):
            wanted, turn = self._waiting.popleft()
            if not turn.done():
                self.free -= wanted
                turn.set_result(None)
