"""One request on its way through the gate."""

import asyncio
from time import perf_counter

from portway.host.gate.routing import Backend, Caller, Route
from portway.http.asgi import Receive
from portway.http.reply import EventStream

_TICK = 0.1  # seconds between looks at the calls in flight
_SILENCE = 300.0  # seconds an instance may say nothing; Portway's own speak every 15, where the client takes streams


class Call:
    """What is known of a request so far; the record and the metrics are written from it."""

    __slots__ = (
        "arguments", "backend", "bytes_in", "bytes_out", "caller", "cancels", "era", "expired", "gone", "method", "name",
        "outcome", "quiet_since", "receive", "request", "route", "started", "status", "stream", "task", "watcher",
    )  # fmt: skip

    def __init__(self, route: Route, caller: Caller, request: str, receive: Receive) -> None:
        self.route = route
        self.caller = caller
        self.request = request  # the id that the client, the instance and the record see
        self.receive = receive
        self.started = self.quiet_since = perf_counter()
        self.backend: Backend | None = None
        self.era = self.method = self.name = ""
        self.arguments = b""
        self.outcome = "refused"
        self.status = 0
        self.bytes_in = self.bytes_out = 0
        self.cancels = False  # the client's leaving is its way to cancel (modern era)
        self.gone = False  # it has left
        self.expired = False  # the instance was silent for too long
        self.stream: EventStream | None = None  # what the reply was begun as
        self.task: asyncio.Task[None] | None = None
        self.watcher: asyncio.Task[None] | None = None

    def heard(self, size: int) -> None:
        """The instance sent something: `size` bytes of it are for the client."""
        self.bytes_out += size
        self.quiet_since = perf_counter()


class InFlight:
    """The calls that wait for an instance. One timer looks after them all, so that a quick call costs no task or timer.

    A modern client that leaves has cancelled its call (2026-07-28, basic/patterns/cancellation); a legacy one has not
    (2025-11-25, basic/transports): its call is finished and the reply dropped.
    """

    def __init__(self) -> None:
        self._calls: set[Call] = set()
        self._timer: asyncio.TimerHandle | None = None

    def enter(self, call: Call) -> None:
        call.task = asyncio.current_task()
        self._calls.add(call)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_TICK, self._look)

    def leave(self, call: Call) -> None:
        self._calls.discard(call)
        if call.watcher is not None:
            call.watcher.cancel()

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(_TICK, self._look) if self._calls else None
        overdue = perf_counter() - _SILENCE
        for call in self._calls:
            if call.cancels and call.watcher is None:
                call.watcher = loop.create_task(self._watch(call))
            if call.quiet_since < overdue and call.task is not None and not call.expired:
                call.expired = True
                call.task.cancel()

    async def _watch(self, call: Call) -> None:
        while (await call.receive())["type"] != "http.disconnect":
            pass
        if call in self._calls and call.task is not None:
            call.gone = True
            call.task.cancel()
