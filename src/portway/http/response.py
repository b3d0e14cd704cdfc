"""Writing responses: whole bodies, and event streams (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from portway.http.cycle import Cycle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from portway.http.asgi import Headers, Send

_STREAM_HEADERS = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx and its kin would hold events back
)


async def send_bytes(send: Send, status: int, body: bytes, headers: Headers) -> None:
    """One whole response. `headers` hold the content type; the content length is added."""
    headers = [*headers, (b"content-length", b"%d" % len(body))]
    cycle = getattr(send, "__self__", None)
    if type(cycle) is Cycle and cycle.answer(status, headers, body):  # our own listener's, with nothing in between
        return
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def cut_short(send: Send) -> None:
    """End a response that cannot be completed, so that the client sees it cut; one that is complete stays as it is."""
    cycle = getattr(send, "__self__", None)
    if type(cycle) is Cycle:
        cycle.fail()


class EventStream:
    """A `text/event-stream` response that begins with its first event.

    While open, a comment goes out every `keep_alive` seconds in which nothing else did, so that proxies do not take the
    stream for dead. Awaiting `event` is the back-pressure. With `prime`, an id, it begins with an empty event of that
    id, so that the client has something to come back with from the start.
    """

    __slots__ = (
        "_closed",
        "_comment",
        "_extra_headers",
        "_keep_alive",
        "_prime",
        "_quiet",
        "_send",
        "_timer",
        "opened",
    )

    def __init__(
        self,
        send: Send,
        keep_alive: float = 15.0,
        extra_headers: Sequence[tuple[bytes, bytes]] = (),
        prime: bytes = b"",
    ) -> None:
        self.opened = False
        self._prime = prime
        self._send = send
        self._keep_alive = keep_alive
        self._extra_headers = extra_headers
        self._closed = False
        self._quiet = True  # nothing sent since the timer last looked
        self._timer: asyncio.TimerHandle | None = None
        self._comment: asyncio.Task[None] | None = None

    async def event(self, data: bytes, event_id: bytes = b"") -> None:
        """Send one event of one `data:` line; `data` holds no line break (JSON on one line)."""
        if 10 in data or 13 in data:  # a line feed or a carriage return
            msg = "an event's data is one line"
            raise ValueError(msg)
        if self._closed:
            msg = "the event stream is closed"
            raise RuntimeError(msg)
        self._quiet = False
        await self._write(b"id: %b\ndata: %b\n\n" % (event_id, data) if event_id else b"data: %b\n\n" % data)

    @property
    def closed(self) -> bool:
        """Whether the response has ended."""
        return self._closed

    async def retry(self, milliseconds: int) -> None:
        """Tell the client how long to wait before it comes back once the stream has ended; opens the stream."""
        await self._write(b"retry: %d\n\n" % milliseconds)

    async def comment(self) -> None:
        """Send a comment, which clients ignore; opens the stream when nothing else has, does nothing once closed."""
        if not self._closed:
            await self._write(b":\n\n")

    async def close(self) -> None:
        """End the response; closing twice, or a stream that never opened, does nothing."""
        if self._closed:
            return
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self.opened:
            await self._send({"type": "http.response.body", "body": b""})

    async def _write(self, piece: bytes) -> None:
        if not self.opened:
            self.opened = True
            if self._prime:
                piece = b"id: %b\ndata: \n\n%b" % (self._prime, piece)
            headers = [*_STREAM_HEADERS, *self._extra_headers]
            await self._send({"type": "http.response.start", "status": 200, "headers": headers})
            self._timer = asyncio.get_running_loop().call_later(self._keep_alive, self._look)
        await self._send({"type": "http.response.body", "body": piece, "more_body": True})

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        if self._quiet and (self._comment is None or self._comment.done()):
            self._comment = loop.create_task(self.comment())
        self._quiet = True
        self._timer = loop.call_later(self._keep_alive, self._look)
