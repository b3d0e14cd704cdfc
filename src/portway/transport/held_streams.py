"""Responses kept open for what may come: a legacy client's GET, and the modern `subscriptions/listen`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from portway.http.response import EventStream
from portway.protocol.errors import REFUSED, RpcError
from portway.protocol.subscriptions import notice
from portway.transport.post_reply import KEEP_ALIVE, POLLING, Reply

if TYPE_CHECKING:
    from portway.http.asgi import Receive, Send
    from portway.server.dispatcher import Dispatcher
    from portway.sessions.change_bus import Bus, Listener
    from portway.sessions.event_log import Stream
    from portway.sessions.exchange import Exchange
    from portway.sessions.http_sessions import HttpSession
    from portway.sessions.subscription import Subscription


class Source(Protocol):
    """Where the events of a held response come from."""

    def take(self) -> list[tuple[bytes, bytes]]:
        """The events to send now, as (id, data), the id empty where an event has none; none when there are none."""

    @property
    def over(self) -> bool:
        """Whether none will come any more."""


class Held:
    """A response kept open.

    It has no task but its request's own, which waits for the client to leave: one that sends exists only while there is
    something to send. So 10,000 of them cost little. Awaiting its sends is the back-pressure.
    """

    __slots__ = ("_ended", "_events", "_pump", "_retry", "_source")

    def __init__(self, events: EventStream) -> None:
        self._events = events
        self._source: Source | None = None
        self._pump: asyncio.Task[None] | None = None
        self._ended = False
        self._retry: int | None = None

    def wake(self) -> None:
        """There is something to send, or the source is over."""
        if self._pump is None and self._source is not None and not self._events.closed:
            self._pump = asyncio.get_running_loop().create_task(self._send(self._source))

    def end(self, retry: int | None) -> None:
        """End the response, having told the client after how many milliseconds to come back."""
        self._ended, self._retry = True, retry
        self.wake()

    async def hold(self, receive: Receive, source: Source) -> None:
        """Send what comes from `source` until it is over or the client leaves; the response has been begun."""
        self._source = source
        self.wake()
        try:
            while (await receive())["type"] != "http.disconnect":
                pass
        finally:
            if self._pump is not None:
                self._pump.cancel()
            await self._events.close()

    async def _send(self, source: Source) -> None:
        try:
            while events := source.take():
                for event_id, data in events:
                    await self._events.event(data, event_id)
            if source.over or self._ended:
                if self._retry is not None:
                    await self._events.retry(self._retry)
                await self._events.close()
        finally:
            self._pump = None


class _Resumed:
    """A session's stream, as a GET carries it; the stand-alone one has what the client listens to."""

    __slots__ = ("_held", "_listener", "_stream")

    def __init__(self, held: Held, stream: Stream, listener: Listener | None) -> None:
        self._held = held
        self._stream = stream
        self._listener = listener

    def take(self) -> list[tuple[bytes, bytes]]:
        if self._stream.carriers[-1] is not self._held:
            return []
        if self._listener is not None:
            for change in self._listener.taken():
                self._stream.add(notice(change.kind, change.uri))
        return self._stream.take()

    @property
    def over(self) -> bool:
        return self._stream.ended or (self._listener is not None and self._listener.ended)


async def follow(session: HttpSession, last_event_id: bytes | None, receive: Receive, send: Send) -> None:
    """Answer a legacy GET: the stream its Last-Event-ID names, or the session's stand-alone one. Raises RpcError."""
    stream, after = session.resume(last_event_id)
    listener = None
    if stream is session.log.standalone:
        listener = session.listener
        listener.woken = stream.wake
    stream.sent = after
    events = EventStream(send, KEEP_ALIVE, prime=stream.id(after) if session.version >= POLLING else b"")
    held = Held(events)
    stream.attach(held)
    try:
        await events.comment()  # the client sees the head now, not with the first event
        await held.hold(receive, _Resumed(held, stream, listener))
    finally:
        stream.detach(held)


class _Listened:
    """What a modern client listens to: notifications, and the result when the server ends it."""

    __slots__ = ("_listen", "over")

    def __init__(self, listen: Subscription) -> None:
        self._listen = listen
        self.over = False

    def take(self) -> list[tuple[bytes, bytes]]:
        frames = self._listen.taken()
        if not frames and self._listen.listener.ended and not self.over:
            self.over = True
            frames = [self._listen.result]
        return [(b"", frame) for frame in frames]


async def listen(bus: Bus, dispatcher: Dispatcher, exchange: Exchange, reply: Reply) -> None:
    """Answer `subscriptions/listen` until the server ends it or the client leaves; raises as `Subscription`."""
    if not reply.accepts_events:
        text = "The Accept header must allow text/event-stream: subscriptions/listen is answered by one."
        raise RpcError(REFUSED, text, status=406)
    listening = dispatcher.subscribe(bus, exchange)
    events = EventStream(reply.send, KEEP_ALIVE)
    held = Held(events)
    try:
        await events.event(listening.ack)
        listening.listener.woken = held.wake
        await held.hold(reply.receive, _Listened(listening))
    finally:
        listening.listener.woken = None
        listening.close()
