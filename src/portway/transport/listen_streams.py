"""Event streams without a call: a legacy client's GET, and the modern `subscriptions/listen`.

A stream is open, and fed whenever its source wakes it, until the source is over, the server ends it or the client
leaves.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from portway.http.response import EventStream
from portway.protocol.subscriptions import notice
from portway.transport.http_reply import KEEP_ALIVE, POLLING

if TYPE_CHECKING:
    from portway.http.asgi import Receive, Send
    from portway.sessions.change_bus import Listener
    from portway.sessions.event_log import Stream
    from portway.sessions.http_sessions import HttpSession
    from portway.sessions.subscription import Subscription
    from portway.transport.http_reply import Reply


class Source(Protocol):
    """Where the events of an open stream come from."""

    def take(self) -> list[tuple[bytes, bytes]]:
        """Return the events to send now, as (id, data), the id empty where an event has none; there may be none."""

    @property
    def over(self) -> bool:
        """Whether no more events will come."""


class OpenStream:
    """A response kept open.

    Its one task is its request's own, which waits for the client to leave; another exists only while there is something
    to send. So 10,000 of them take little. Awaiting its sends is the back-pressure.
    """

    __slots__ = ("_ended", "_events", "_feeding", "_retry", "_source")

    def __init__(self, events: EventStream) -> None:
        self._events = events
        self._source: Source | None = None
        self._feeding: asyncio.Task[None] | None = None
        self._ended = False
        self._retry: int | None = None

    def wake(self) -> None:
        """Look at the source: it has something to send, or is over."""
        if self._feeding is None and self._source is not None and not self._events.closed:
            self._feeding = asyncio.get_running_loop().create_task(self._feed(self._source))

    def end(self, retry: int | None) -> None:
        """End the response; the client is told to come back after `retry` milliseconds."""
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
            if self._feeding is not None:
                self._feeding.cancel()
            await self._events.close()

    async def _feed(self, source: Source) -> None:
        try:
            while events := source.take():
                for event_id, data in events:
                    await self._events.event(data, event_id)
            if source.over or self._ended:
                if self._retry is not None:
                    await self._events.retry(self._retry)
                await self._events.close()
        finally:
            self._feeding = None


class _Resumed:
    """A session's stream, as a GET carries it; the stand-alone one has what the client listens to."""

    __slots__ = ("_carrier", "_listener", "_stream")

    def __init__(self, carrier: OpenStream, stream: Stream, listener: Listener | None) -> None:
        self._carrier = carrier
        self._stream = stream
        self._listener = listener

    def take(self) -> list[tuple[bytes, bytes]]:
        if self._stream.carriers[-1] is not self._carrier:
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
        listener = session.listen()
        listener.woken = stream.wake
    stream.sent = after
    events = EventStream(send, KEEP_ALIVE, prime=stream.id(after) if session.version >= POLLING else b"")
    carrier = OpenStream(events)
    stream.attach(carrier)
    try:
        await events.comment()  # the client sees the head now, not with the first event
        await carrier.hold(receive, _Resumed(carrier, stream, listener))
    finally:
        stream.detach(carrier)


class _Subscribed:
    """What a modern client listens to: notifications, and the result when the server ends it."""

    __slots__ = ("_subscription", "over")

    def __init__(self, subscription: Subscription) -> None:
        self._subscription = subscription
        self.over = False

    def take(self) -> list[tuple[bytes, bytes]]:
        frames = self._subscription.taken()
        if not frames and self._subscription.listener.ended and not self.over:
            self.over = True
            frames = [self._subscription.result]
        return [(b"", frame) for frame in frames]


async def listen(subscription: Subscription, reply: Reply) -> None:
    """Answer `subscriptions/listen` until the server ends it or the client leaves."""
    events = EventStream(reply.send, KEEP_ALIVE)
    stream = OpenStream(events)
    try:
        await events.event(subscription.ack)
        subscription.listener.woken = stream.wake
        await stream.hold(reply.receive, _Subscribed(subscription))
    finally:
        subscription.listener.woken = None
        subscription.close()
