"""The change bus: what a server says has changed, fanned out to the listeners of one event loop; how many URIs one may
have, how many changes wait before a slow one is ended.

A listener is one small object in an index by what it listens to. Publishing looks only at those it concerns, and 10,000
that wait need no tasks or queues. Specification: basic/patterns/subscriptions (2026-07-28),
server/resources and the list_changed notifications (2025-11-25).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from portway.protocol.errors import INVALID_PARAMS, REFUSED, RpcError
from portway.protocol.uris import normalised
from portway.sessions.changes import Change

if TYPE_CHECKING:
    from portway.sessions.changes import Changes

LIST_KINDS = ("tools", "prompts", "resources")
"""The kinds of `Change` that concern a list; the fourth, "resource", concerns one URI."""
PENDING_LIMIT = 256
"""Different changes that may wait for a listener that is slow; one more ends it."""
BURST_LIMIT = 8
"""Bursts, at most one a turn of the loop, during which a listener that takes nothing counts as slow."""
URI_LIMIT = 1000
"""URIs of one listener."""
URI_LENGTH = 4096
"""Characters of a URI that may be listened to."""
ROOM = 64 * 1024 * 1024
"""Characters of the URIs of all listeners of a bus."""


class Bus:
    """Hands a server's changes to listeners on the running event loop. Make it there, use it only there, close it.

    A burst of changes, from whatever threads, wakes the loop once; equal changes of a burst are one.
    """

    def __init__(self, changes: Changes) -> None:
        self._loop = asyncio.get_running_loop()
        self._by_kind: dict[str, set[Listener]] = {kind: set() for kind in LIST_KINDS}
        self._by_uri: dict[str, set[tuple[Listener, str]]] = {}  # by the normal form; each with its own spelling
        self._listeners: set[Listener] = set()
        self._characters = 0
        self._burst: dict[Change, None] = {}
        self._bursts = 0
        self._lock = threading.Lock()
        self._unlisten = changes.listen(self._publish)
        self._closed = False

    def listen(
        self, kinds: Iterable[str] = (), uris: Iterable[str] = (), *, pending_limit: int = PENDING_LIMIT
    ) -> Listener:
        """Return a listener for changes of these list kinds and of the resources at these URIs, from now on.

        On a closed bus it has ended already. Raises RpcError as `Listener.want`.
        """
        listener = Listener(self, tuple(kinds), pending_limit)
        if self._closed:
            listener.close()
            return listener
        self._listeners.add(listener)
        for kind in listener.kinds:
            self._by_kind[kind].add(listener)
        try:
            for uri in uris:
                listener.want(uri)
        except RpcError:
            listener.close()
            raise
        return listener

    def close(self) -> None:
        """Stop taking changes and end every listener; what a listener holds can still be taken."""
        self._closed = True
        self._unlisten()
        for listener in tuple(self._listeners):
            listener.close()

    def _publish(self, change: Change) -> None:
        """Take a change, on any thread. It is dropped if nobody listens for it, which bounds a burst."""
        if change.uri is not None:
            change = Change("resource", normalised(change.uri))
        wanted = self._by_kind[change.kind] if change.uri is None else change.uri in self._by_uri
        if not wanted:
            return
        with self._lock:
            first = not self._burst
            self._burst[change] = None
        if first and not self._loop.is_closed():
            try:
                self._loop.call_soon_threadsafe(self._deliver)
            except RuntimeError:  # the loop was closed a moment ago: nobody listens any more
                pass

    def _deliver(self) -> None:
        with self._lock:
            burst, self._burst = self._burst, {}
        self._bursts += 1
        for change in burst:
            if change.uri is None:
                for listener in tuple(self._by_kind[change.kind]):
                    listener.take(change, self._bursts)
            else:
                for listener, uri in tuple(self._by_uri.get(change.uri, ())):
                    listener.take(Change("resource", uri), self._bursts)

    def add(self, listener: Listener, uri: str) -> None:
        """Index a listener under a URI (for `Listener`). Raises RpcError over ROOM."""
        if self._characters + len(uri) > ROOM:
            text = "The server has as many resource subscriptions as it takes; try again later."
            raise RpcError(REFUSED, text, status=503)
        self._characters += len(uri)
        self._by_uri.setdefault(normalised(uri), set()).add((listener, uri))

    def discard(self, listener: Listener, uri: str) -> None:
        """Take a listener out of the index of a URI (for `Listener`)."""
        normal = normalised(uri)
        listeners = self._by_uri.get(normal)
        if listeners is not None and (listener, uri) in listeners:
            self._characters -= len(uri)
            listeners.discard((listener, uri))
            if not listeners:
                del self._by_uri[normal]

    def forget(self, listener: Listener) -> None:
        """Take a listener out of every index (for `Listener`)."""
        self._listeners.discard(listener)
        for kind in listener.kinds:
            self._by_kind[kind].discard(listener)
        for uri in listener.uris:
            self.discard(listener, uri)


class Listener:
    """Holds the changes that a listen stream or a legacy session waits for, until they are taken; equal ones once.

    It is open until `close()`, by its owner or the bus. A slow one with more changes than its limit closes itself and
    has `overflowed`: its client cannot know what it missed, so it must come again.
    """

    __slots__ = ("_bus", "_limit", "_pending", "_since", "ended", "kinds", "overflowed", "uris", "woken")

    def __init__(self, bus: Bus, kinds: tuple[str, ...], pending_limit: int) -> None:
        self._bus = bus
        self._limit = pending_limit
        self._pending: dict[Change, None] | None = None  # made for the first change
        self._since = 0  # the burst it was made in
        self.woken: Callable[[], None] | None = None
        """Called when there is something to take, or the listener has ended."""
        self.kinds = kinds
        self.uris: set[str] | frozenset[str] = frozenset()
        self.ended = False
        self.overflowed = False

    def want(self, uri: str) -> None:
        """Listen to the resource at `uri` too. Raises RpcError over URI_LIMIT of them, URI_LENGTH or ROOM."""
        if self.ended:
            return
        if len(uri) > URI_LENGTH:
            raise RpcError(
                INVALID_PARAMS, f"The URI is longer than the {URI_LENGTH} characters that can be listened to."
            )
        if uri in self.uris:
            return
        if len(self.uris) >= URI_LIMIT:
            raise RpcError(REFUSED, f"No more than {URI_LIMIT} resources can be listened to at a time.", status=429)
        if isinstance(self.uris, frozenset):
            self.uris = set()
        self._bus.add(self, uri)
        self.uris.add(uri)

    def unwant(self, uri: str) -> None:
        """Stop listening to the resource at `uri`."""
        if isinstance(self.uris, set):
            self.uris.discard(uri)
            self._bus.discard(self, uri)

    async def changes(self) -> list[Change]:
        """Wait for changes and return those since the last time, in order; none once the listener has ended."""
        if not self._pending and not self.ended:
            woken = asyncio.Event()
            self.woken = woken.set
            await woken.wait()
        return self.taken()

    def taken(self) -> list[Change]:
        """Return the changes since the last time, in order; there may be none."""
        taken = list(self._pending or ())
        self._pending = None
        return taken

    def take(self, change: Change, burst: int) -> None:
        """Hold a change of burst number `burst` until it is taken (for `Bus`)."""
        if self._pending is None:
            self._pending = {}
            self._since = burst
        self._pending[change] = None
        if len(self._pending) > self._limit and burst - self._since >= BURST_LIMIT:
            self.overflowed = True
            self._pending = None
            self.close()
        else:
            self._wake()

    def close(self) -> None:
        """End the listener: it gets no more changes, and `changes()` stops waiting. Idempotent."""
        if not self.ended:
            self.ended = True
            self._bus.forget(self)
            self._wake()

    def _wake(self) -> None:
        if self.woken is not None:
            self.woken()
