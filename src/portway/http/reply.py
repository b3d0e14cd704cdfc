"""Writing responses: whole bodies, and event streams (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

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
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})


class EventStream:
    """A `text/event-stream` response that begins with its first event.

    While open, a comment goes out every `keep_alive` seconds in which nothing else did, so that proxies do not take the
    stream for dead. Awaiting `event` is the back-pressure.
    """

    def __init__(self, send: Send, keep_alive: float = 15.0, extra_headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
        self.opened = False
        self._send = send
        self._keep_alive = keep_alive
        self._extra_headers = extra_headers
        self._closed = False
        self._quiet = True  # nothing sent since the timer last looked
        self._timer: asyncio.TimerHandle | None = None
        self._comment: asyncio.Task[None] | None = None

    async def event(self, data: bytes) -> None:
        """Send one event of one `data:` line; `data` holds no line break (JSON on one line)."""
        if b"\n" in data or b"\r" in data:
            msg = "an event's data is one line"
            raise ValueError(msg)
        if self._closed:
            msg = "the event stream is closed"
            raise RuntimeError(msg)
        self._quiet = False
        await self._write(b"data: %b\n\n" % data)

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
