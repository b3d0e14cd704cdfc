"""Event streams without a call, held open and fed: a legacy client's GET, also a resumed one, and the modern
`subscriptions/listen`.

A stream is open, and fed whenever it is woken, until no more can come, the server ends it or the client leaves.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from portway.http.event_stream import EventStream
from portway.http.response import send_bytes
from portway.protocol.change_messages import notice
from portway.transport.http_reply import POLLING

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from portway.http.asgi import Receive, Send
    from portway.sessions.http_sessions import HttpSession
    from portway.sessions.subscription import Subscription
    from portway.transport.http_reply import Reply

    Take = Callable[[], list[tuple[bytes, bytes]] | None]
    """Returns the events to send now as (id, data), where an id may be empty; None when no more can come."""


class OpenStream:
    """A response kept open.

    Its one task is its request's own, which waits for the client to leave; another exists only while there is something
    to send. So 10,000 of them take little. Awaiting its sends is the back-pressure.
    """

    __slots__ = ("_ended", "_events", "_feeding", "_retry", "_take")

    def __init__(self, events: EventStream) -> None:
        self._events = events
        self._take: Take | None = None
        self._feeding: asyncio.Task[None] | None = None
        self._ended = False
        self._retry: int | None = None

    def wake(self) -> None:
        """Feed the stream: there is something to send, or no more can come."""
        if self._feeding is None and self._take is not None and not self._events.closed:
            self._feeding = asyncio.get_running_loop().create_task(self._feed(self._take))

    def end(self, retry: int | None) -> None:
        """End the response; the client is told to come back after `retry` milliseconds."""
        self._ended, self._retry = True, retry
        self.wake()

    async def hold(self, receive: Receive, take: Take) -> None:
        """Send what `take` returns until that is None or the client leaves; the response has been begun."""
        self._take = take
        self.wake()
        try:
            while (await receive())["type"] != "http.disconnect":
                pass
        finally:
            if self._feeding is not None:
                self._feeding.cancel()
            await self._events.close()

    async def _feed(self, take: Take) -> None:
        try:
            while events := take():
                for event_id, data in events:
                    await self._events.event(data, event_id)
            if events is None or self._ended:
                if self._retry is not None:
                    await self._events.retry(self._retry)
                await self._events.close()
        finally:
            self._feeding = None


async def follow(
    session: HttpSession,
    last_event_id: bytes | None,
    receive: Receive,
    send: Send,
    watched: Callable[[Callable[[], None]], AbstractContextManager[None]],
) -> None:
    """Answer a legacy GET: the stream its Last-Event-ID names, or the session's stand-alone one. Raises RpcError.

    `watched` calls the function that it is given if the stream must end before.
    A client that has got the reply has nothing to resume: upon a 204 it stops asking, by the standard of such streams.
    """
    stream, after = session.resume(last_event_id)
    if stream.ended and after == stream.last:
        await send_bytes(send, 204, b"", [])
        return
    listener = None
    if stream is session.log.standalone:
        listener = session.listen()
        listener.woken = stream.wake
    stream.sent = after
    response = EventStream(send, prime=stream.id(after) if session.version >= POLLING else b"")
    carrier = OpenStream(response)
    stream.carriers.append(carrier)

    def take() -> list[tuple[bytes, bytes]] | None:
        if stream.carriers[-1] is carrier:
            for change in listener.taken() if listener is not None else ():
                stream.add(notice(change.kind, change.uri))
            if events := stream.take():
                return events
        return None if stream.ended or (listener is not None and listener.ended) else []

    try:
        await response.comment()  # the client sees the head now, not with the first event
        with watched(partial(carrier.end, None)):
            await carrier.hold(receive, take)
    finally:
        stream.detach(carrier)


async def listen(subscription: Subscription, reply: Reply) -> None:
    """Answer `subscriptions/listen` until the server ends it or the client leaves."""
    response = EventStream(reply.send)
    stream = OpenStream(response)
    over = False

    def take() -> list[tuple[bytes, bytes]] | None:
        nonlocal over
        if frames := subscription.taken():
            return [(b"", frame) for frame in frames]
        if over or not subscription.listener.ended:
            return None if over else []
        over = True
        return [(b"", subscription.result)]

    try:
        await response.event(subscription.ack)
        subscription.listener.woken = stream.wake
        await stream.hold(reply.receive, take)
    finally:
        subscription.listener.woken = None
        subscription.close()
