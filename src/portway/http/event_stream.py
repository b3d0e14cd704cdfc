"""Server-sent events: parsed, encoded, sent with a keep-alive every 15 s and headers against proxies' buffering
(https://html.spec.whatwg.org/multipage/server-sent-events.html).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from portway.http.asgi import Send

_LINE_COST = 48  # bytes counted for each further line of data: a peer may send millions of short ones
KEEP_ALIVE = 15.0  # seconds of silence after which a comment is sent, so that proxies keep the connection
_STREAM_HEADERS = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx and other proxies would buffer events
)


@dataclass(slots=True)
class Event:
    """One event. An absent field is None or empty; `retry` is in milliseconds; `name` is empty for "message"."""

    data: bytes | None = None
    id: bytes = b""
    retry: int | None = None
    name: bytes = b""

    def encode(self) -> bytes:
        """Return the event as it is sent. The data is one line (JSON without line breaks)."""
        text = b"event: %b\n" % self.name if self.name else b""
        if self.id:
            text += b"id: %b\n" % self.id
        if self.retry is not None:
            text += b"retry: %d\n" % self.retry
        return text + b"\n" if self.data is None else b"%bdata: %b\n\n" % (text, self.data)


class EventParser:
    """An incremental parser: chunks in, complete events out. An event is at most `limit` bytes."""

    def __init__(self, limit: int = 16 * 1024 * 1024) -> None:
        self._limit = limit
        self._rest: list[bytes] = []  # pieces of an unfinished line, joined once however many there are
        self._rest_size = 0
        self._data: list[bytes] = []
        self._size = 0
        self._has_data = False  # at least one data line, perhaps an empty one
        self._fields: dict[bytes, bytes] = {}  # the other fields of the event so far

    @property
    def held(self) -> int:
        """Bytes held of an unfinished event."""
        return self._size + self._rest_size

    def feed(self, chunk: bytes) -> list[Event]:
        """Return the events that `chunk` completes. Raise ValueError when an event is too large."""
        events: list[Event] = []
        head, *others = chunk.split(b"\n")
        self._rest.append(head)
        self._rest_size += len(head)
        if others:
            lines = [b"".join(self._rest), *others[:-1]]
            self._rest, self._rest_size = [others[-1]], len(others[-1])
            for line in lines:
                self._line(line.rstrip(b"\r"), events)
        if self.held > self._limit:
            raise ValueError(f"a server-sent event is larger than {self._limit} bytes")
        return events

    def _line(self, line: bytes, events: list[Event]) -> None:
        if not line:
            if self._has_data or self._fields:
                event = Event(b"\n".join(self._data) if self._has_data else None)
                if self._fields:
                    self._complete(event)
                events.append(event)
            self._data, self._has_data, self._size = [], False, 0
        elif line.startswith(b"data:"):
            value = line[5:].removeprefix(b" ")
            self._has_data = True
            self._size += len(value) + (_LINE_COST if self._data else 0)
            if value:
                self._data.append(value)
        else:
            name, _, value = line.partition(b":")
            if name in (b"id", b"retry", b"event"):
                self._size += len(value) - len(self._fields.get(name, b""))
                self._fields[name] = value.removeprefix(b" ")

    def _complete(self, event: Event) -> None:
        fields, self._fields = self._fields, {}
        identity, retry, name = fields.get(b"id", b""), fields.get(b"retry", b""), fields.get(b"event", b"")
        if b"\0" not in identity and b"\r" not in identity:  # the standard ignores an id with a NUL
            event.id = identity
        if retry.isdigit() and len(retry) < 10:
            event.retry = int(retry)
        if name != b"message" and b"\r" not in name:
            event.name = name


class EventStream:
    """A `text/event-stream` response, whose head is sent with the first event.

    Awaiting `event` applies back-pressure. If `prime` is given, the stream begins with an empty event of that id, from
    which the client can resume.
    """

    __slots__ = ("_comment", "_extra_headers", "_prime", "_quiet", "_send", "_timer", "closed", "opened")

    def __init__(self, send: Send, extra_headers: Sequence[tuple[bytes, bytes]] = (), prime: bytes = b"") -> None:
        self.opened = False
        self._prime = prime
        self._send = send
        self._extra_headers = extra_headers
        self.closed = False  # the response has ended
        self._quiet = True  # nothing was sent since the timer last ran
        self._timer: asyncio.TimerHandle | None = None
        self._comment: asyncio.Task[None] | None = None

    async def event(self, data: bytes, event_id: bytes = b"") -> None:
        """Send one event. Raise ValueError if `data` has a line break, RuntimeError if the stream is closed."""
        if 10 in data or 13 in data:  # a line feed or a carriage return
            raise ValueError("an event's data is one line")
        if self.closed:
            raise RuntimeError("the event stream is closed")
        self._quiet = False
        await self._write(Event(data, event_id).encode())

    async def retry(self, milliseconds: int) -> None:
        """Tell the client how long to wait before it reconnects; open the stream."""
        await self._write(Event(retry=milliseconds).encode())

    async def comment(self) -> None:
        """Send a comment, which clients ignore, unless the stream is closed; open the stream."""
        if not self.closed:
            await self._write(b":\n\n")

    async def close(self) -> None:
        """End the response. Do nothing if it never began or has ended."""
        if self.closed:
            return
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self.opened:
            await self._send({"type": "http.response.body", "body": b""})

    async def _write(self, piece: bytes) -> None:
        if not self.opened:
            self.opened = True
            if self._prime:
                piece = Event(b"", self._prime).encode() + piece
            headers = [*_STREAM_HEADERS, *self._extra_headers]
            await self._send({"type": "http.response.start", "status": 200, "headers": headers})
            self._timer = asyncio.get_running_loop().call_later(KEEP_ALIVE, self._check_silence)
        await self._send({"type": "http.response.body", "body": piece, "more_body": True})

    def _check_silence(self) -> None:
        loop = asyncio.get_running_loop()
        if self._quiet and (self._comment is None or self._comment.done()):
            self._comment = loop.create_task(self.comment())
        self._quiet = True
        self._timer = loop.call_later(KEEP_ALIVE, self._check_silence)
