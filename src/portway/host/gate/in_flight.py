"""The requests that wait for an instance: how long one may be silent (300 s), cancellation, calls that go on without
their client (300 s), their end when a token is revoked.

States of a call: attached, while its client waits on the request; detached, when a legacy client has left or the
instance has ended the stream early (2025-11-25, basic/transports: a disconnect is no cancellation, and the client may
resume the stream). A detached call counts against a second limit of the same size. Over it, the caller with the most
detached calls loses its oldest. A detached call ends with its reply, its client's cancellation, its session, a time
limit, or its caller's token. A modern client that leaves cancels its call (2026-07-28, basic/patterns/cancellation),
and so does a legacy one that the gate is asking to confirm it, for it could not come back for the question.
Long-lived streams may be silent; they end with their client, instance or gate.
"""

import asyncio
import contextlib
from collections.abc import Callable
from time import perf_counter

from portway.host.gate.call_record import DEFERRED
from portway.host.gate.gate_call import GateCall
from portway.host.gate.session_ids import Session
from portway.http.http_client import UpstreamError
from portway.protocol.errors import REFUSED, RpcError
from portway.protocol.jsonrpc import encode_cancelled
from portway.sessions.early_cancellations import EarlyCancellations

_TICK = 0.1  # seconds between looks at the calls in flight
_SILENCE = 300.0  # seconds an instance may send nothing; event streams of Portway's own send something every 15
_DETACHED = 300.0  # seconds a call may stay detached
_CANCEL_SECONDS = 5.0  # for an instance to take a cancellation, and to answer the cancelled call
LONGEST_ID = 256  # characters of the id of a session's call that can be cancelled, or fetched later


class InFlight:
    """The requests that wait for an instance. One timer checks them all, so a quick call needs no task or timer."""

    def __init__(self) -> None:
        self._calls: set[GateCall] = set()  # those whose request is open at the instance
        self._streams: set[GateCall] = set()
        self._detached: dict[GateCall, None] = {}  # the oldest first
        self._of_session: dict[bytes, dict[int | str | GateCall, GateCall]] = {}  # calls by the client's ids, streams
        self._early = EarlyCancellations()
        self._cancellations: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def enter(self, call: GateCall) -> None:
        """Add a request that waits for its instance."""
        loop = self._loop = self._loop or asyncio.get_running_loop()  # a system call on Python 3.11
        call.task = asyncio.current_task(loop)
        if call.session is not None and (key := _key(call)) is not None:
            self._of_session.setdefault(call.session.token, {})[key] = call
            if self._early and call.request_id is not None:
                call.cancelled = self._early.take(call.session.token, call.request_id, perf_counter())
        if call.is_stream:
            self._streams.add(call)
            call.watcher = loop.create_task(self._watch(call))
            return
        self._calls.add(call)
        if self._timer is None:
            self._timer = loop.call_later(_TICK, self._look)

    def leave(self, call: GateCall) -> None:
        """Remove a request that has ended. If the client can still fetch the reply to its call, detach the call."""
        self._calls.discard(call)
        if call.watcher is not None:
            call.watcher.cancel()
        if call.is_stream:
            self._streams.discard(call)
        if call.session is None:
            if call.detached_at:
                self._forget(call)
            return
        goes_on = call.line.outcome == DEFERRED or (call.client_left and call.resumable and not call.is_stream)
        if goes_on and call.ended is None and not call.cancelled and self._find(call) is call:
            if not call.detached_at:
                self._detach(call)
            call.task = call.watcher = call.stream = None
            del call.receive  # it refers to the connection
        else:
            self._forget(call)

    def find(self, session: Session, request_id: int | str) -> GateCall | None:
        """Return the session's call with the id that its client chose."""
        return self._of_session.get(session.token, {}).get(request_id)

    def fetched(self, session: Session, request_id: int | str) -> None:
        """Note that the client got the reply to a call on another stream."""
        call = self.find(session, request_id)
        if call is not None and call.task is None:
            self._forget(call)
        elif call is not None:
            self._unlist(session, request_id)

    def cancel_early(self, session: Session, request_id: int | str) -> None:
        """Cancel a call that has not come, if it comes soon."""
        self._early.add(session.token, request_id, perf_counter())

    def cancel(self, call: GateCall, *, is_sent: bool) -> None:
        """End a call that the client has cancelled: at once if it was not sent to its instance yet.

        Else its instance, which the caller tells, may answer. It need not, so the timer ends the call after a while.
        """
        call.cancelled, call.cancelled_at = True, perf_counter()
        if call.task is None:
            self._forget(call)
        elif not is_sent:
            call.task.cancel()

    def end_session(self, session: Session) -> None:
        """End the streams and the calls of a session that has ended."""
        for call in list(self._of_session.get(session.token, {}).values()):
            if call.is_stream:
                self._close_stream(call)
            else:
                self._tell_instance(call, "The session has ended.")
                self.cancel(call, is_sent=call.backend is not None)

    def end_streams(self) -> None:
        """End the long-lived streams, because the gate stops."""
        for call in self._streams:
            self._close_stream(call)

    def review(self, objection: Callable[[GateCall], RpcError | None]) -> None:
        """End the requests to which there is an `objection` by a new table, and move streams to new instances."""
        for call in [*self._calls, *self._streams, *(call for call in self._detached if call.task is None)]:
            if error := objection(call):
                self._end(call, error)
            elif call.is_stream and not call.resumes_call and call.backend is not None:
                is_session = call.line.method == "GET"
                stays = call.route.takes_sessions(call.backend) if is_session else call.backend in call.route.backends
                if not stays and (is_session or call.stream is not None):
                    self._close_stream(call)  # the client comes back for it

    def _look(self) -> None:
        loop, now = asyncio.get_running_loop(), perf_counter()
        for call in self._calls:
            if call.watcher is None:
                call.watcher = loop.create_task(self._watch(call))
            if call.task is None or call.client_left or call.ended is not None:
                continue
            if now - call.quiet_since > _SILENCE:
                text = f"The app {call.route.name!r} did not answer in time."
                self._end(call, RpcError(REFUSED, text, status=504))
            elif call.cancelled_at and now - call.cancelled_at > _CANCEL_SECONDS:
                call.cancelled_at = 0.0  # so that it is not ended twice
                call.task.cancel()
            elif call.detached_at and call.resumable:
                call.client_left = True
                call.task.cancel()
        while self._detached and now - (oldest := next(iter(self._detached))).detached_at > _DETACHED:
            self._end(oldest, RpcError(REFUSED, "The client has left.", status=504))
        self._timer = loop.call_later(_TICK, self._look) if self._calls or self._detached else None

    async def _watch(self, call: GateCall) -> None:
        while (await call.receive())["type"] != "http.disconnect":
            pass
        if call.task is None or call.ended is not None or not (call in self._calls or call in self._streams):
            return
        if call.cancels or call.is_stream or call.resumable:
            call.client_left = True
            call.task.cancel()
        elif call.request_id is not None:
            self._detach(call)

    def _detach(self, call: GateCall) -> None:
        route = call.route
        route.calls.give(call.holder)
        route.detached.take(call.holder)
        call.detached_at = perf_counter()
        self._detached[call] = None
        if route.detached.taken > route.limits.in_flight:
            greediest = route.detached.greediest()
            oldest = next(each for each in self._detached if each.route is route and each.holder == greediest)
            self._end(oldest, RpcError(REFUSED, "The client has left.", status=504))

    def _end(self, call: GateCall, error: RpcError) -> None:
        """End a request because the gate decides so; `error` is for the client, if it is still there."""
        self._tell_instance(call, error.message)
        call.ended = error
        if call.task is None:
            self._forget(call)
        else:
            call.task.cancel()
            self._detached.pop(call, None)  # so that it is not ended twice; its place is released when the task ends

    def _close_stream(self, call: GateCall) -> None:
        if call.task is not None and not call.client_left:
            call.expired = True
            call.task.cancel()

    def _find(self, call: GateCall) -> GateCall | None:
        key = _key(call)
        return None if call.session is None or key is None else self._of_session.get(call.session.token, {}).get(key)

    def _forget(self, call: GateCall) -> None:
        if call.session is not None and (key := _key(call)) is not None and self._find(call) is call:
            self._unlist(call.session, key)
        self._detached.pop(call, None)
        if call.detached_at:
            call.route.detached.give(call.holder)
            if call.backend is not None:
                call.backend.in_flight -= 1

    def _unlist(self, session: Session, key: int | str | GateCall) -> None:
        of_session = self._of_session[session.token]
        del of_session[key]
        if not of_session:
            del self._of_session[session.token]

    def _tell_instance(self, call: GateCall, reason: str) -> None:
        """Send the instance of a session's call its cancellation; other calls are cancelled by closing the request."""
        if call.session is not None and call.fresh is not None and call.backend is not None:
            told = asyncio.get_running_loop().create_task(_cancel(call, reason))
            self._cancellations.add(told)
            told.add_done_callback(self._cancellations.discard)


def _key(call: GateCall) -> int | str | GateCall | None:
    """Return what a session's call is found by; None for a message that is neither a call nor a stream."""
    if call.is_stream:
        return call
    return None if isinstance(call.request_id, str) and len(call.request_id) > LONGEST_ID else call.request_id


async def _cancel(call: GateCall, reason: str) -> None:
    assert call.backend is not None
    assert call.fresh is not None
    client = call.backend.client
    with contextlib.suppress(UpstreamError, TimeoutError):
        async with asyncio.timeout(_CANCEL_SECONDS):
            response = await client.request(
                "POST", call.route.endpoint, call.headers, encode_cancelled(call.fresh, reason)
            )
            await response.close()
