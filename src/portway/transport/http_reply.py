"""The reply to one POST: JSON, or an event stream if a message has to be sent before the result.

While its call runs, a reply is *silent* until its handler waits; *watched* from WATCH_AFTER seconds later; *streaming*
from the first message before the result, at the latest KEEP_ALIVE seconds after that. It is *finished* when its last
message is sent. A call is cancelled by a legacy client's notification, and then answered with an error as soon as the
handler has stopped; or by a modern client that leaves, whom nothing can be sent.
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

    from portway.http.asgi import Receive, Send
    from portway.protocol.jsonrpc import Message
    from portway.server.dispatcher import Dispatcher
    from portway.sessions.event_log import Stream
    from portway.sessions.exchange import Exchange
    from portway.sessions.http_sessions import HttpSession
    from portway.transport.concurrency_limits import ConcurrencyLimit

WATCH_AFTER = 0.005
"""Seconds after which a call is watched: most `def` handlers have finished by then."""
POLLING = "2025-11-25"
"""The first revision whose clients understand an empty event, and fetch the rest of a stream."""
RETRY = 1000
"""Milliseconds after which a client comes back for a stream that was ended early, unless the handler says."""


class Reply:
    """The reply to one POST, and the channel of the call it answers.

    A handler that completes without waiting takes no task and no timer. For one that waits, a timer first starts a task
    that cancels the call when a modern client leaves (2026-07-28, basic/patterns/cancellation), and later opens the
    stream, so that proxies do not cut the connection. A legacy client may leave and come back: in a session
    all messages go by the session's log, whichever connection carries them.
    """

    __slots__ = (
        "_accepts_json",
        "_cancelled",
        "_events",
        "_finished",
        "_headers",
        "_opening",
        "_stream",
        "_task",
        "_timer",
        "_watcher",
        "accepts_events",
        "receive",
        "send",
        "session",
    )

    def __init__(self, receive: Receive, send: Send, accepts_json: bool, accepts_events: bool) -> None:
        self.accepts_events = accepts_events
        self._accepts_json = accepts_json
        self.receive = receive
        self.send = send
        self._finished = False
        self._cancelled = False
        self._headers: tuple[tuple[bytes, bytes], ...] = ()  # beside the usual ones
        self.session: HttpSession | None = None
        self._stream: Stream | None = None  # the session's, once there is one
        self._events: EventStream | None = None
        self._opening: asyncio.Task[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._watcher: asyncio.Task[None] | None = None

    async def run(
        self, dispatcher: Dispatcher, exchange: Exchange, calls: ConcurrencyLimit, session: HttpSession | None = None
    ) -> None:
        """Have a request answered and send the answer. Raises RpcError as `dispatch` and `calls` do."""
        calls.enter(exchange.principal)
        request_id = exchange.message.id
        assert request_id is not UNSET
        loop = asyncio.get_running_loop()
        self._task = task = asyncio.current_task(loop)
        assert task is not None
        waiting = loop.call_soon(self._start_waiting, loop, exchange.era)
        if session is not None:
            self.session = session
            session.calls[request_id] = self.cancel
        body = b""
        try:
            body = await dispatcher.dispatch(exchange)
        except (asyncio.CancelledError, RpcError):
            if not self._cancelled:
                raise
        finally:
            calls.leave(exchange.principal)
            waiting.cancel()
            if self._timer is not None:
                self._timer.cancel()
            if self._watcher is not None:
                self._watcher.cancel()
            if session is not None and session.calls.get(request_id) == self.cancel:
                del session.calls[request_id]
        if self._cancelled:
            task.uncancel()
            if exchange.era is Era.MODERN:
                return
            body = encode_error(request_id, RpcError(REQUEST_CANCELLED, "Request cancelled"))
        await self.finish(200, body)

    def cancel(self) -> None:
        """Stop the handler: the client does not want the result any more."""
        self._cancelled = True
        if self._task is not None:
            self._task.cancel()

    def name(self, session: HttpSession) -> None:
        """Send the client the id of its new session with the reply."""
        self._headers = ((SESSION, session.id.encode()),)

    def _start_waiting(self, loop: asyncio.AbstractEventLoop, era: Era) -> None:
        self._timer = loop.call_later(WATCH_AFTER, self._start_watching, loop, era)

    def _start_watching(self, loop: asyncio.AbstractEventLoop, era: Era) -> None:
        if self.accepts_events:
            self._timer = loop.call_later(KEEP_ALIVE, self._keep_alive)
        if era is Era.MODERN:
            self._watcher = loop.create_task(self._watch())

    def _keep_alive(self) -> None:
        self._opening = asyncio.get_running_loop().create_task(self._open().comment())

    async def _watch(self) -> None:
        while (await self.receive())["type"] != "http.disconnect":
            pass
        self.cancel()

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
        extra: tuple[tuple[bytes, bytes], ...] = ()
        if status == 403 and isinstance(error.data, dict):
            scope = " ".join(error.data["requiredScopes"])
            extra = ((b"www-authenticate", f'Bearer error="insufficient_scope", scope="{scope}"'.encode()),)
        self._headers = ()
        request_id = None if message.id is UNSET or message.method is UNSET else message.id
        await self.finish(status, encode_error(request_id, error), *extra)
