"""Ends event streams whose callers' tokens have expired or were taken back, as looked at every 15 s."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from portway.auth.tokens import is_still_good

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from portway.auth.principal import Principal
    from portway.auth.tokens import TokenVerifier

LOOK_SECONDS = 15.0
"""Seconds between two looks at the tokens of the open streams."""
_AT_A_TIME = 16


class TokenWatch:
    """The streams of one event loop that were opened with a token. `verifier` None watches none."""

    def __init__(self, verifier: TokenVerifier | None) -> None:
        self._verifier = verifier
        self._streams: dict[Callable[[], None], tuple[str, Principal]] = {}  # the caller of each, by what ends it
        self._timer: asyncio.TimerHandle | None = None
        self._looking: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def watched(self, token: str | None, principal: Principal, end: Callable[[], None]) -> Iterator[None]:
        """Call `end`, once, if the token of a caller is good no longer while the block lasts."""
        if token is None or self._verifier is None:
            yield
            return
        self._streams[end] = token, principal
        if self._timer is None and self._looking is None:
            self._look_later()
        try:
            yield
        finally:
            self._streams.pop(end, None)
            if not self._streams and self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def _look_later(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._begin)

    def _begin(self) -> None:
        self._timer = None
        self._looking = asyncio.get_running_loop().create_task(self._look())

    async def _look(self) -> None:
        assert self._verifier is not None
        streams = list(self._streams.items())
        try:
            for first in range(0, len(streams), _AT_A_TIME):
                part = streams[first : first + _AT_A_TIME]
                good = await asyncio.gather(*(is_still_good(self._verifier, *caller) for _, caller in part))
                for (end, _), is_good in zip(part, good, strict=True):
                    if not is_good and self._streams.pop(end, None) is not None:
                        end()
        finally:
            self._looking = None
            if self._streams:
                self._look_later()
