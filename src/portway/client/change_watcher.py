"""Gives the changes of one stream to the client's `on_change`, and listens again when the server has ended the stream.

listening → waiting    the server ends the stream, as one does whose caller's token has expired
waiting   → listening  at once, or after a pause that grows where the server ends each stream quickly; all is told as
                       changed, for what was missed
any       → over       the stream is cut, the server refuses another one, or the client stops listening
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from portway.client.change_iterator import Changes
from portway.client.errors import ClientError
from portway.protocol.errors import RpcError
from portway.sessions.changes import Change

_STEADY_SECONDS = 60.0  # a stream that lasted so long is followed by another at once
_LONGEST_PAUSE = 60.0
_log = logging.getLogger("portway.client")


class ChangeWatcher:
    """Calls `tell` with each of `changes`. `listen` opens another stream of them; `all_of_them` are what it is about.

    Without `listen`, the end of the stream is the end.
    """

    def __init__(
        self,
        tell: Callable[[Change], None],
        changes: Changes,
        listen: Callable[[], Awaitable[Changes]] | None = None,
        all_of_them: Sequence[Change] = (),
    ) -> None:
        self.changes = changes
        self._tell = tell
        self._listen = listen
        self._all = all_of_them
        self._again: asyncio.Task[Changes] | None = None
        self.task = asyncio.get_running_loop().create_task(self._run())

    def stop(self) -> None:
        """Listen no more when the stream ends, which the caller ends now."""
        self._listen = None
        if self._again is not None:
            self._again.cancel()

    async def _run(self) -> None:
        loop, pause = asyncio.get_running_loop(), 0.0
        try:
            while True:
                began = loop.time()
                async for change in self.changes:
                    self._tell(change)
                if self._listen is None:
                    return
                if loop.time() - began > _STEADY_SECONDS:
                    pause = 0.0
                self._again = loop.create_task(_after(pause, self._listen))
                await asyncio.wait([self._again])
                if self._again.cancelled():
                    return
                self.changes = self._again.result()
                pause = min(max(1.0, 2 * pause), _LONGEST_PAUSE)
                for change in self._all:
                    self._tell(change)
        except (ClientError, RpcError) as error:
            _log.warning("on_change gets no more changes: %s", error)


async def _after(seconds: float, listen: Callable[[], Awaitable[Changes]]) -> Changes:
    await asyncio.sleep(seconds)
    return await listen()
