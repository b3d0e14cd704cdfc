"""One request on its way through the gate, and the set of those that wait for an instance."""

import asyncio
from time import perf_counter

from portway.host.gate.call_record import Line
from portway.host.gate.event_stream import RelayedStream
from portway.host.gate.routing import Backend, Caller, Route
from portway.host.gate.session_ids import Session
from portway.http.asgi import Receive

_TICK = 0.1  # seconds between looks at the calls in flight
_SILENCE = 300.0  # seconds an instance may send nothing; event streams of Portway's own send something every 15
_ABANDONED = 300.0  # seconds a legacy call goes on after its client has left


class GateCall:
    """The state of one request. `line` is its line in the call record, filled in on the way."""

    request_id: int | str | None = None  # the id the client chose, if the message has one
    fresh: int | str | None = None  # the id the instance sees, of a request
    session: Session | None = None
    pinned: Backend | None = None  # the instance that must get it
    backend: Backend | None = None
    is_stream = False  # a long-lived stream (GET or subscriptions/listen), counted apart from calls
    resumable = False  # the instance keeps the events, and the client can fetch them on another stream
    cancels = False  # closing the request cancels the call (modern era)
    client_left = False  # the call was ended because its client left
    expired = False  # the call was ended because the instance was silent for too long, or the gate stops
    held = 0  # bytes of the app's reply memory taken for a long reply
    left_at = 0.0  # when the client left, if it has
    stream: RelayedStream | None = None  # the reply, when it is an event stream
    task: asyncio.Task[None] | None = None
    watcher: asyncio.Task[None] | None = None

    def __init__(self, route: Route, caller: Caller, request: str, receive: Receive) -> None:
        self.route = route
        self.caller = caller
        self.receive = receive
        self.started = self.quiet_since = perf_counter()
        self.line = Line(app=route.name, release=route.release, principal=caller.name, request=request)

    async def hold(self, size: int) -> None:
        """Wait for reply memory for a long reply of `size` bytes."""
        await self.route.reply_memory.take(size)
        self.held = size

    def let_go(self) -> None:
        """Give the reply memory back: the client has read the long reply."""
        self.route.reply_memory.give(self.held)
        self.held = 0

    def heard(self, size: int) -> None:
        """Note that the instance sent something, of which `size` bytes go to the client."""
        self.line.bytes_out += size
        self.quiet_since = perf_counter()


class InFlight:
    """The requests that wait for an instance. One timer checks them all, so a quick call needs no task or timer.

    A modern client that leaves cancels its call (2026-07-28, basic/patterns/cancellation). A legacy client does not
    (2025-11-25, basic/transports): the call goes on and its reply is dropped, unless the instance keeps it for another
    stream. Long-lived streams are kept apart: they may be silent, and end with their client, instance or gate.
    """

    def __init__(self) -> None:
        self._calls: set[GateCall] = set()
        self._streams: set[GateCall] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def enter(self, call: GateCall) -> None:
        loop = self._loop = self._loop or asyncio.get_running_loop()  # which costs a system call on Python 3.11
        call.task = asyncio.current_task(loop)
        if call.is_stream:
            self._streams.add(call)
            call.watcher = loop.create_task(self._watch(call))
            return
        self._calls.add(call)
        if self._timer is None:
            self._timer = loop.call_later(_TICK, self._look)

    def leave(self, call: GateCall) -> None:
        self._calls.discard(call)
        if call.is_stream:
            self._streams.discard(call)
        if call.watcher is not None:
            call.watcher.cancel()

    def end_streams(self) -> None:
        """End the long-lived streams, because the gate stops."""
        for call in self._streams:
            if call.task is not None and not call.client_left:
                call.expired = True
                call.task.cancel()

    def _look(self) -> None:
        loop, now = asyncio.get_running_loop(), perf_counter()
        self._timer = loop.call_later(_TICK, self._look) if self._calls else None
        for call in self._calls:
            if call.watcher is None:
                call.watcher = loop.create_task(self._watch(call))
            if call.task is None or call.client_left or call.expired:
                continue
            call.expired = now - call.quiet_since > _SILENCE
            call.client_left = bool(call.left_at) and (
                call.cancels or call.resumable or now - call.left_at > _ABANDONED
            )
            if call.expired or call.client_left:
                call.task.cancel()

    async def _watch(self, call: GateCall) -> None:
        while (await call.receive())["type"] != "http.disconnect":
            pass
        call.left_at = perf_counter()
        ends = call.cancels or call.is_stream or call.resumable
        is_in = call in self._calls or call in self._streams
        if ends and is_in and call.task is not None and not call.expired:
            call.client_left = True
            call.task.cancel()
