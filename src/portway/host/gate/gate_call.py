"""One request on its way through the gate."""

import asyncio
from time import perf_counter

from portway.host.gate.call_record import Line
from portway.host.gate.event_stream import RelayedStream
from portway.host.gate.routing import Backend, Caller, Route
from portway.host.gate.session_ids import Session
from portway.http.asgi import Receive

_TICK = 0.1  # seconds between looks at the calls in flight
_SILENCE = 300.0  # seconds an instance may say nothing; Portway's own speak every 15, where the client takes streams
_ABANDONED = 300.0  # seconds a legacy call goes on after its client has left


class Call:
    """What is known of a request so far. `line` is what the record will say, filled in on the way."""

    request_id: int | str | None = None  # the client's, of a message that has one
    fresh: int | str | None = None  # the instance's, of a request
    session: Session | None = None
    pinned: Backend | None = None  # where the session is at home
    backend: Backend | None = None
    lasting = False  # a stream of what happens at the instance, for as long as the client likes: no call
    resumable = False  # the instance goes on by itself and keeps the events for the client to fetch
    cancels = False  # the client's leaving is its way to cancel (modern era)
    gone = False  # the call ended because it left
    expired = False  # the call ended because the instance was silent for too long, or the gate stops
    held = 0  # bytes of the app's room that a long reply has taken
    left = 0.0  # when it left, of a call that goes on
    stream: RelayedStream | None = None  # what the reply was begun as
    task: asyncio.Task[None] | None = None
    watcher: asyncio.Task[None] | None = None

    def __init__(self, route: Route, caller: Caller, request: str, receive: Receive) -> None:
        self.route = route
        self.caller = caller
        self.receive = receive
        self.started = self.quiet_since = perf_counter()
        self.line = Line(app=route.name, release=route.release, principal=caller.name, request=request)

    async def hold(self, size: int) -> None:
        """Wait until there is room for a long reply of `size` bytes."""
        await self.route.room.take(size)
        self.held = size

    def let_go(self) -> None:
        """The long reply is with the client."""
        self.route.room.give(self.held)
        self.held = 0

    def heard(self, size: int) -> None:
        """The instance sent something: `size` bytes of it are for the client."""
        self.line.bytes_out += size
        self.quiet_since = perf_counter()


class InFlight:
    """The calls that wait for an instance. One timer looks after them all, so that a quick call costs no task or timer.

    A modern client that leaves has cancelled its call (2026-07-28, basic/patterns/cancellation); a legacy one has not
    (2025-11-25, basic/transports): its call goes on, and the reply is dropped, unless the instance keeps it to be
    fetched. Lasting streams are apart: they may be silent, and end with their client, their instance or the gate.
    """

    def __init__(self) -> None:
        self._calls: set[Call] = set()
        self._streams: set[Call] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def enter(self, call: Call) -> None:
        loop = self._loop = self._loop or asyncio.get_running_loop()  # which costs a system call, on 3.11
        call.task = asyncio.current_task(loop)
        if call.lasting:
            self._streams.add(call)
            call.watcher = loop.create_task(self._watch(call))
            return
        self._calls.add(call)
        if self._timer is None:
            self._timer = loop.call_later(_TICK, self._look)

    def leave(self, call: Call) -> None:
        self._calls.discard(call)
        if call.lasting:
            self._streams.discard(call)
        if call.watcher is not None:
            call.watcher.cancel()

    def end_streams(self) -> None:
        """The gate stops: its clients' lasting streams are not waited for."""
        for call in self._streams:
            if call.task is not None and not call.gone:
                call.expired = True
                call.task.cancel()

    def _look(self) -> None:
        loop, now = asyncio.get_running_loop(), perf_counter()
        self._timer = loop.call_later(_TICK, self._look) if self._calls else None
        for call in self._calls:
            if call.watcher is None:
                call.watcher = loop.create_task(self._watch(call))
            if call.task is None or call.gone or call.expired:
                continue
            call.expired = now - call.quiet_since > _SILENCE
            call.gone = bool(call.left) and (call.cancels or call.resumable or now - call.left > _ABANDONED)
            if call.expired or call.gone:
                call.task.cancel()

    async def _watch(self, call: Call) -> None:
        while (await call.receive())["type"] != "http.disconnect":
            pass
        call.left = perf_counter()
        leaves = call.cancels or call.lasting or call.resumable
        is_in = call in self._calls or call in self._streams
        if leaves and is_in and call.task is not None and not call.expired:
            call.gone = True
            call.task.cancel()
