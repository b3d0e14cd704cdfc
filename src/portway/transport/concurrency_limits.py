"""How many calls, event streams and detached calls callers may have at a server at a time (429, 503), counted for each
event loop.

A call has a place among the calls in flight until it ends or its client leaves. Then it is detached, and has a place
among the detached calls (see `http_reply`).
"""

from __future__ import annotations

import asyncio
import contextlib
from functools import cached_property
from typing import TYPE_CHECKING

from portway.http.places import Places
from portway.protocol.errors import REFUSED, RpcError
from portway.sessions.change_bus import Bus
from portway.transport.token_watch import TokenWatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from portway.auth.tokens import TokenVerifier
    from portway.http.limits import Limits
    from portway.sessions.changes import Changes

Caller = tuple[str, str, str | None] | str
"""The identity of a principal known by a token, or the address of any other caller."""


class ConcurrencyLimit(Places):
    """Limits what callers have at a time: all together, and each one that is known by a token."""

    __slots__ = ("_each", "_most", "_what")

    def __init__(self, what: str, most: int, each: int) -> None:
        super().__init__()
        self._what = what
        self._most = most
        self._each = each

    def enter(self, caller: Caller) -> None:
        """Count one more. Raises RpcError (503 or 429) when that is one too many."""
        held = self.take(caller)
        if held > self._each and isinstance(caller, tuple):
            self.give(caller)
            text = f"This caller has {self._each} {self._what}, as many as one may have; wait until one ends."
            raise RpcError(REFUSED, text, status=429)
        if self.taken > self._most and not self.admits(caller, self._most):
            self.give(caller)
            text = f"The server has {self.taken} {self._what}, as many as it takes; try again in a moment."
            raise RpcError(REFUSED, text, status=503)

    @contextlib.contextmanager
    def held(self, caller: Caller) -> Iterator[None]:
        """Count one more while the block lasts. Raises as `enter`."""
        self.enter(caller)
        try:
            yield
        finally:
            self.give(caller)


class DetachedCalls:
    """The calls whose clients have left, each by the function that cancels it.

    One too many cancels the oldest call of the caller that has most of them.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._places = Places()
        self._callers: dict[Callable[[], None], Caller] = {}  # the oldest call first

    def add(self, cancel: Callable[[], None], caller: Caller) -> None:
        """Give a call a place, and cancel the oldest one if there are too many."""
        self._callers[cancel] = caller
        self._places.take(caller)
        if self._places.taken > self._most:
            greediest = self._places.greediest()
            oldest = next(each for each, holder in self._callers.items() if holder == greediest)
            self.discard(oldest)
            oldest()

    def discard(self, cancel: Callable[[], None]) -> None:
        """Take the place of a call, if it still has one."""
        if cancel in self._callers:
            self._places.give(self._callers.pop(cancel))


class LoopState:
    """What the requests of the running event loop share: the limits on them, the tokens of streams, the change bus."""

    def __init__(self, limits: Limits, changes: Changes, verifier: TokenVerifier | None) -> None:
        self.loop = asyncio.get_running_loop()
        self.calls = ConcurrencyLimit("calls in flight", limits.calls, limits.calls_each)
        self.detached = DetachedCalls(limits.calls)
        self.streams = ConcurrencyLimit("event streams open", limits.streams, limits.streams_each)
        self.tokens = TokenWatch(verifier)
        self._changes = changes

    @cached_property
    def bus(self) -> Bus:
        """The change bus, made when somebody first listens."""
        return Bus(self._changes)
