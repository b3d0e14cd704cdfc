"""The reply to one POST: JSON or an event stream; keep-alive, cancellation, a client that leaves, a call that goes on
without it (300 s).

While its call runs, a reply is *silent* until its handler waits; *watched* from WATCH_AFTER seconds later; *streaming*
from the first message before the result, at the latest KEEP_ALIVE seconds after that. It is *finished* when its last
message is sent.

From the moment it is watched, a reply knows when its client leaves. It is then *detached*, and has a place among the
detached calls instead of the calls in flight. A modern client that leaves cancels its call (2026-07-28,
basic/patterns/cancellation). A legacy one may come back for the rest of the stream (2025-11-25, basic/transports: a
disconnect is no cancellation), so its call goes on, until a notification or the end of the session cancels it, there
are too many detached calls, or nobody follows its stream DETACHED_SECONDS later. A cancelled call is answered with an
error as soon as its handler has stopped.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from msgspec import UNSET

from portway.http.event_stream import KEEP_ALIVE, EventStream
from portway.http.response import JSON, send_bytes
from portway.protocol.errors import HEADER_MISMATCH, INTERNAL_ERROR, REFUSED, REQUEST_CANCELLED, RpcError
from portway.protocol.headers import SESSION
from portway.protocol.jsonrpc import encode_error
from portway.protocol.versions import Era

if TYPE_CHECKING:
    from msgspec import Raw

    from portway.auth.challenge import Challenge
    from portway.http.asgi import Receive, Send
    from portway.protocol.jsonrpc import Message
    from portway.server.dispatcher import Dispatcher
    from portway.sessions.event_log import Stream
    from portway.sessions.exchange import Exchange
    from portway.sessions.http_sessions import HttpSession
    from portway.transport.concurrency_limits import Caller, LoopState

WATCH_AFTER = 0.005
"""Seconds after which a call is watched: most `def` handlers have finished by then."""
POLLING = "2025-11-25"
"""The first revision whose clients understand an empty event, and fetch the rest of a stream."""
DETACHED_SECONDS = 300.0
"""Seconds after which a call is cancelled whose client has left, unless another connection carries its stream then."""
RETRY = 1000
"""Milliseconds after which a client comes back for a stream that was ended early, unless the handler says."""


class Reply:
    """The reply to one POST, and the channel of the call it answers.

    A handler that completes without waiting takes no task and no timer. For one that waits, a timer first starts a task
    that watches for the client to leave, and later opens the stream, so that proxies do not cut the connection. In a
    session all messages go by the session's log, whichever connection carries them.
    """

    __slots__ = (
        "_accepts_json",
        "_caller",
        "_cancelled",
        "_challenge",
        "_detached",
        "_events",
        "_finished",
        "_headers",
        "_loop_state",
        "_opening",
        "_running",
        "_stream",
        "_task",
        "_timer",
        "_watcher",
        "accepts_events",
        "receive",
        "send",
        "session",
    )

    _task: asyncio.Task[None]
    _timer: asyncio.Handle
    _caller: Caller
    _loop_state: LoopState

    def __init__(
        self, receive: Receive, send: Send, accepts_json: bool, accepts_events: bool, challenge: Challenge
    ) -> None:
        self._challenge = challenge
        self.accepts_events = accepts_events
        self._accepts_json = accepts_json
        self.receive = receive
        self.send = send
        self._finished = False
        self._cancelled: dict[int | str, bool] = {}  # whether each request answered here is cancelled
        self._running: int | str | None = None
        self._detached = False
        self._headers: tuple[tuple[bytes, bytes], ...] = ()  # beside the usual ones
        self.session: HttpSession | None = None
        self._stream: Stream | None = None  # the session's, once there is one
        self._events: EventStream | None = None
        self._opening: asyncio.Task[None] | None = None
        self._watcher: asyncio.Task[None] | None = None

    async def run(self, dispatcher: Dispatcher, exchange: Exchange, caller: Caller, loop_state: LoopState) -> None:
        """Have a request answered and send the answer. Raises RpcError as `dispatch` and `begin` do."""
        assert exchange.message.id is not UNSET
        self.begin((exchange.message.id,), exchange.era, caller, loop_state)
        try:
            body = await self.answer(dispatcher, exchange)
        finally:
            self.end()
        await self.finish(200, body)

    def begin(self, requests: tuple[int | str, ...], era: Era, caller: Caller, loop_state: LoopState) -> None:
        """Take a place for the requests with these ids, which can be cancelled now. Raises RpcError without a place."""
        loop_state.calls.enter(caller)
        self._caller, self._loop_state = caller, loop_state
        loop = loop_state.loop
        task = asyncio.current_task(loop)
        assert task is not None
        self._task = task
        self._timer = loop.call_soon(self._start_waiting, era)
        for request_id in requests:
            self._cancelled[request_id] = False
            if self.session is not None:
                self.session.enter(request_id, self.cancel)

    async def answer(self, dispatcher: Dispatcher, exchange: Exchange) -> bytes:
        """Return the reply to a request, an error if it is cancelled. Raises RpcError as `dispatch`."""
        request_id, cancelled = exchange.message.id, self._cancelled
        assert request_id is not UNSET
        if not cancelled[request_id]:
            body = b""
            self._running = request_id
            try:
                body = await dispatcher.dispatch(exchange)
            except (asyncio.CancelledError, RpcError):
                if not cancelled[request_id]:
                    raise
            finally:
                self._running = None
            if not cancelled[request_id]:
                return body
            self._task.uncancel()
        return encode_error(request_id, RpcError(REQUEST_CANCELLED, "Request cancelled"))

    def end(self) -> None:
        """Give the place back: every request is answered."""
        if self._detached:
            self._loop_state.detached.discard(self.give_up)
        else:
            self._loop_state.calls.give(self._caller)
        self._timer.cancel()
        if self._watcher is not None:
            self._watcher.cancel()
        if self.session is not None:
            for request_id in self._cancelled:
                if self.session.calls.get(request_id) == self.cancel:
                    del self.session.calls[request_id]

    def cancel(self, request_id: int | str) -> None:
        """Stop the handler of a request, or never start it: the client does not want the result any more."""
        if not self._cancelled[request_id]:
            self._cancelled[request_id] = True
            if self._running == request_id:
                self._task.cancel()

    def give_up(self) -> None:
        """Cancel every request that is not answered yet."""
        for request_id in self._cancelled:
            self.cancel(request_id)

    def name(self, session: HttpSession) -> None:
        """Send the client the id of its new session with the reply."""
        self._headers = ((SESSION, session.id.encode()),)

    def _start_waiting(self, era: Era) -> None:
        self._timer = self._loop_state.loop.call_later(WATCH_AFTER, self._start_watching, era)

    def _start_watching(self, era: Era) -> None:
        loop = self._loop_state.loop
        if self.accepts_events:
            self._timer = loop.call_later(KEEP_ALIVE, self._keep_alive)
        self._watcher = loop.create_task(self._watch(era))

    def _keep_alive(self) -> None:
        self._opening = self._loop_state.loop.create_task(self._open().comment())

    async def _watch(self, era: Era) -> None:
        while (await self.receive())["type"] != "http.disconnect":
            pass
        self._detached = True
        self._loop_state.calls.give(self._caller)
        self._loop_state.detached.add(self.give_up, self._caller)
        if era is Era.MODERN:
            self.give_up()
        else:
            self._limit_detached()

    def _limit_detached(self) -> None:
        """Cancel the call in DETACHED_SECONDS, and look again as long after that if its stream is carried then."""
        self._timer.cancel()
        self._timer = self._loop_state.loop.call_later(DETACHED_SECONDS, self._expire)

    def _expire(self) -> None:
        if self._stream is not None and self._stream.carriers:
            self._limit_detached()
        else:
            self.give_up()

    def _open(self) -> EventStream:
        if self._events is None:
            prime = b""
            if self.session is not None:
                self._stream = self.session.log.open()
                if self.session.version >= POLLING:
                    prime = self._stream.id()
            self._events = EventStream(self.send, self._headers, prime)
        return self._events

    async def _say(self, message: bytes) -> None:
        """Send an event here, unless another connection carries the stream or this one has ended: then it is kept."""
        events, stream = self._open(), self._stream
        if stream is None:
            await events.event(message)
            return
        stream.add(message)
        if not (stream.carriers or events.closed):
            for event_id, data in stream.take():
                await events.event(data, event_id)

    async def notify(self, message: bytes) -> None:
        """Send a notification ahead of the result.

        It is left out where the client takes no event stream, and when the call has ended.
        """
        if self.accepts_events and not self._finished:
            await self._say(message)

    async def ask(self, method: str, params: bytes) -> Raw:
        """Send the client a request on this stream; return the result it POSTs. Raises as `PendingQuestions.ask`."""
        if self.session is None or not self.accepts_events or self._finished:
            text = (
                "The client cannot be asked: this needs a session, a running call, and text/event-stream in the Accept "
                "header."
            )
            raise RpcError(INTERNAL_ERROR, text, status=200)
        return await self.session.questions.ask(self._say, method, params)

    async def close_stream(self, retry: int | None) -> None:
        """End the response; the client fetches the rest after `retry` milliseconds. Nothing happens if it cannot."""
        session = self.session
        if session is None or session.version < POLLING or not self.accepts_events or self._finished:
            return
        events = self._open()
        assert self._stream is not None
        delay = RETRY if retry is None else retry
        if self._stream.carriers:
            self._stream.carriers[-1].end(delay)
        elif not events.closed:
            await events.retry(delay)
            await events.close()

    async def accept(self) -> None:
        """Acknowledge a message that needs no reply."""
        await send_bytes(self.send, 202, b"", [])

    async def finish(self, status: int, body: bytes, *extra: tuple[bytes, bytes]) -> None:
        """Send the last message and end the reply; `extra` are header fields for a reply that is no stream."""
        self._finished = True
        if self._events is None and (self._accepts_json or status != 200):
            headers = [JSON, *self._headers, *extra]
            await send_bytes(self.send, status, body, headers)
            return
        await self._say(body)
        if self._stream is not None:
            self._stream.end()
        assert self._events is not None
        await self._events.close()

    async def fail(self, message: Message, era: Era, error: RpcError) -> None:
        """Send an error. Legacy errors have status 200, unless the caller is refused."""
        status = error.status if era is Era.MODERN or error.code in (REFUSED, HEADER_MISMATCH) else 200
        self._headers = ()
        request_id = None if message.id is UNSET or message.method is UNSET else message.id
        await self.finish(status, encode_error(request_id, error), *self.headers_of(error))

    def headers_of(self, error: RpcError) -> tuple[tuple[bytes, bytes], ...]:
        """Return the header fields that belong to an error."""
        if error.status == 403 and isinstance(error.data, dict):
            return (self._challenge.forbidden(error.data["requiredScopes"]),)
        if error.status == 429 and isinstance(error.data, dict):
            return ((b"retry-after", b"%d" % error.data["retryAfter"]),)
        return ()
