"""Room for long replies: how much of an app's the gate holds in memory at once, whoever asked for it."""

import asyncio
from collections import deque

ROOM_BYTES = 64 * 1024 * 1024


class Room:
    """Bytes that may be taken and are given back. Who finds too few waits its turn, so no taker is passed over."""

    def __init__(self, size: int = ROOM_BYTES) -> None:
        self.free = size
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def take(self, size: int) -> None:
        """Take `size` bytes, which must not be more than there are in all."""
        if size <= self.free and not self._waiting:
            self.free -= size
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((size, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self.give(0)  # it may have stood before one that fits
            else:
                self.give(size)
            raise

    def give(self, size: int) -> None:
        """Give back what was taken."""
        self.free += size
        while self._waiting and (self._waiting[0][1].done() or self._waiting[0][0] <= self.free):
            wanted, turn = self._waiting.popleft()
            if not turn.done():
                self.free -= wanted
                turn.set_result(None)
