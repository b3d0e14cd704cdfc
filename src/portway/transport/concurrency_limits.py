"""How many calls and event streams callers may have at a time, counted for each event loop."""

from __future__ import annotations

import contextlib
from functools import cached_property
from typing import TYPE_CHECKING

from portway.auth.principal import ANONYMOUS, Principal
from portway.protocol.errors import REFUSED, RpcError
from portway.sessions.change_bus import Bus

if TYPE_CHECKING:
    from collections.abc import Iterator

    from portway.http.limits import Limits
    from portway.sessions.changes import Changes


class ConcurrencyLimit:
    """Bounds what callers have at a time: in all, and for each caller that is known by a token."""

    __slots__ = ("_by_caller", "_each", "_most", "_total", "_what")

    def __init__(self, what: str, most: int, each: int) -> None:
        self._what = what
        self._most = most
        self._each = each
        self._total = 0
        self._by_caller: dict[tuple[str, str, str | None], int] = {}

    def enter(self, principal: Principal) -> None:
        """Count one more. Raises RpcError (503 or 429) when that is one too many."""
        if self._total >= self._most:
            text = f"The server has {self._most} {self._what}, as many as it takes; try again in a moment."
            raise RpcError(REFUSED, text, status=503)
        if principal is not ANONYMOUS:
            count = self._by_caller.get(principal.identity, 0)
            if count >= self._each:
                text = f"This caller has {self._each} {self._what}, as many as one may have; wait until one ends."
                raise RpcError(REFUSED, text, status=429)
            self._by_caller[principal.identity] = count + 1
        self._total += 1

    def leave(self, principal: Principal) -> None:
        """Count one less."""
        self._total -= 1
        if principal is not ANONYMOUS:
            count = self._by_caller.pop(principal.identity) - 1
            if count:
                self._by_caller[principal.identity] = count

    @contextlib.contextmanager
    def held(self, principal: Principal) -> Iterator[None]:
        """Count one more while the block lasts. Raises as `enter`."""
        self.enter(principal)
        try:
            yield
        finally:
            self.leave(principal)


class LoopState:
    """What the requests of one event loop share: the limits on them, and the change bus."""

    def __init__(self, limits: Limits, changes: Changes) -> None:
        self.calls = ConcurrencyLimit("calls in flight", limits.calls, limits.calls_each)
        self.streams = ConcurrencyLimit("event streams open", limits.streams, limits.streams_each)
        self._changes = changes

    @cached_property
    def bus(self) -> Bus:
        """The change bus, made when somebody first listens."""
        return Bus(self._changes)
