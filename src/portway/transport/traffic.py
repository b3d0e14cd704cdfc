"""What one event loop has in hand: calls in flight and open streams, each within its bounds, and the change bus."""

from __future__ import annotations

from typing import TYPE_CHECKING

from portway.auth.principal import ANONYMOUS, Principal
from portway.protocol.errors import REFUSED, RpcError
from portway.sessions.change_bus import Bus

if TYPE_CHECKING:
    from portway.http.limits import Limits
    from portway.sessions.changes import Changes


class Bound:
    """Counts something callers have at a time: in all, and for each caller that is known by a token."""

    __slots__ = ("_by_caller", "_each", "_most", "_total", "_what")

    def __init__(self, what: str, most: int, each: int) -> None:
        self._what = what
        self._most = most
        self._each = each
        self._total = 0
        self._by_caller: dict[tuple[str, str, str | None], int] = {}

    def enter(self, principal: Principal) -> None:
        """Count one more; raises RpcError (503 or 429) when that is one too many."""
        if self._total >= self._most:
            text = f"The server has {self._most} {self._what}, as many as it takes; try again in a moment."
            raise RpcError(REFUSED, text, status=503)
        if principal is not ANONYMOUS:
            key = principal.identity
            count = self._by_caller.get(key, 0)
            if count >= self._each:
                text = f"This caller has {self._each} {self._what}, as many as one may have; wait until one ends."
                raise RpcError(REFUSED, text, status=429)
            self._by_caller[key] = count + 1
        self._total += 1

    def leave(self, principal: Principal) -> None:
        """Count one less."""
        self._total -= 1
        if principal is not ANONYMOUS:
            key = principal.identity
            count = self._by_caller.pop(key) - 1
            if count:
                self._by_caller[key] = count


class Traffic:
    """The calls, streams and changes of one event loop."""

    def __init__(self, limits: Limits, changes: Changes) -> None:
        self.calls = Bound("calls in flight", limits.calls, limits.calls_each)
        self.streams = Bound("event streams open", limits.streams, limits.streams_each)
        self._changes = changes
        self._bus: Bus | None = None

    @property
    def bus(self) -> Bus:
        """The change bus, made when somebody first listens."""
        if self._bus is None:
            self._bus = Bus(self._changes)
        return self._bus

    def close(self) -> None:
        """End the streams that wait for changes, each with its last words."""
        self.bus.close()
