"""The latest events of a legacy session's streams, kept for clients that resume with Last-Event-ID, within bounds of
number and bytes.

Specification: basic/transports, "Resumability and Redelivery" (2025-11-25): an event id is unique in its session and
names its stream, and only that stream's later events are sent again.

A stream is open until `end()`. The newest connection attached to it carries it; there may be none. Once it has
ended and none of its events is kept, it is forgotten.
"""

from __future__ import annotations

import secrets
from collections import deque
from typing import NamedTuple, Protocol

LOG_EVENTS = 1024
"""Events kept for one session: more than one burst of changes can bring."""
LOG_BYTES = 4 * 1024 * 1024
"""Bytes of events kept for one session; the newest event is kept whatever its size."""
SHELF_BYTES = 64 * 1024 * 1024
"""Bytes of events kept by the process; the sessions silent for longest lose theirs first."""
_OVERHEAD = 200
"""Bytes an event takes beside its data, about."""


class Carrier(Protocol):
    """An open GET that carries a stream."""

    def wake(self) -> None:
        """Look at the stream: it has something to send, or has ended."""

    def end(self, retry: int | None) -> None:
        """End the response; the client is told to come back after `retry` milliseconds."""


class Stream:
    """One event stream of a session; it outlives the connections that carry it.

    Number 0 is the session's stand-alone stream, every other one the reply to a POST. `sent` is the number of the last
    event that a connection has taken. The newest GET alone carries it, so that no message goes out twice.
    """

    __slots__ = ("_log", "carriers", "ended", "kept", "last", "number", "sent")

    def __init__(self, log: EventLog, number: int) -> None:
        self._log = log
        self.number = number
        self.last = 0
        self.sent = 0
        self.kept = 0
        self.ended = False
        self.carriers: list[Carrier] = []

    def id(self, event: int = 0) -> bytes:
        """Return the id of an event. That of event 0, before all others, is sent at the start of a stream."""
        return b"%b-%d-%d" % (self._log.name, self.number, event)

    def add(self, data: bytes) -> None:
        """Keep an event, and wake the connection that carries the stream."""
        self.last += 1
        self._log.keep(self, data)
        self.wake()

    def wake(self) -> None:
        """Wake the connection that carries the stream."""
        if self.carriers:
            self.carriers[-1].wake()

    def take(self) -> list[tuple[bytes, bytes]]:
        """Return the events not sent yet, as (id, data), and count them as sent."""
        if self.sent == self.last:
            return []
        events = [(self.id(event.number), event.data) for event in self._log.after(self.sent, self)]
        self.sent = self.last
        return events

    def detach(self, carrier: Carrier) -> None:
        """Let a connection go; the one attached before it carries the stream again."""
        self.carriers.remove(carrier)
        self.wake()

    def end(self) -> None:
        """End the stream; its events stay until there is no room for them."""
        self.ended = True
        self.wake()
        self._log.settle(self)


class Event(NamedTuple):
    """One event of a log."""

    stream: Stream
    number: int
    data: bytes


class EventLog:
    """The streams of one session in one process, and their latest events. `name` begins the ids of its events only."""

    __slots__ = ("_bytes", "_closed", "_events", "_opened", "_shelf", "_streams", "name")

    def __init__(self, shelf: Shelf) -> None:
        self.name = secrets.token_hex(8).encode()
        self._shelf = shelf
        self._closed = False
        self._events: deque[Event] = deque()
        self._bytes = 0
        self._opened = 0
        self._streams: dict[int, Stream] = {0: Stream(self, 0)}

    @property
    def standalone(self) -> Stream:
        """The stream of GETs, for messages that belong to no call."""
        return self._streams[0]

    def open(self) -> Stream:
        """Open a stream for the reply to a POST."""
        self._opened += 1
        stream = self._streams[self._opened] = Stream(self, self._opened)
        return stream

    def find(self, event_id: bytes) -> tuple[Stream, int] | None:
        """Return the stream and the number of an event sent; None when it is of another log, or forgotten."""
        name, stream, event = _parse(event_id) or (b"", 0, 0)
        found = self._streams.get(stream)
        return (found, event) if name == self.name and found is not None and event <= found.last else None

    def after(self, number: int, stream: Stream) -> list[Event]:
        """Return the events kept of a stream that come after `number`, in order (for `Stream`)."""
        found: list[Event] = []
        for event in reversed(self._events):  # usually only the newest are asked for
            if event.stream is stream:
                if event.number <= number:
                    break
                found.append(event)
                if event.number == number + 1:
                    break
        found.reverse()
        return found

    def keep(self, stream: Stream, data: bytes) -> None:
        """Keep the newest event of a stream (for `Stream`)."""
        stream.kept += 1
        self._events.append(Event(stream, stream.last, data))
        self._bytes += len(data) + _OVERHEAD
        while len(self._events) > LOG_EVENTS or (self._bytes > LOG_BYTES and len(self._events) > 1):
            self._drop()
        if not self._closed:
            self._shelf.resize(self, self._bytes)

    def settle(self, stream: Stream) -> None:
        """Forget a stream that has ended, once nothing of it is kept (for `Stream`)."""
        if stream.ended and not stream.kept:
            self._streams.pop(stream.number, None)

    def clear(self) -> None:
        """Forget every event."""
        while self._events:
            self._drop()
        self._shelf.resize(self, 0)

    def close(self) -> None:
        """Forget every event, and end the connections; messages that running calls send after this are not kept."""
        self.clear()
        self._closed = True
        for stream in tuple(self._streams.values()):
            for carrier in tuple(stream.carriers):
                carrier.end(None)

    def _drop(self) -> None:
        event = self._events.popleft()
        self._bytes -= len(event.data) + _OVERHEAD
        event.stream.kept -= 1
        self.settle(event.stream)


class Shelf:
    """The bytes that all event logs of a process share."""

    def __init__(self) -> None:
        self._used = 0
        self._logs: dict[EventLog, int] = {}  # the one written to last is last

    def resize(self, log: EventLog, size: int) -> None:
        """Note how many bytes a log holds now, and clear other logs while there is no room for it."""
        self._used += size - self._logs.pop(log, 0)
        if size:
            self._logs[log] = size
            while self._used > SHELF_BYTES and len(self._logs) > 1:
                next(iter(self._logs)).clear()


def names_reply(event_id: bytes) -> bool:
    """Return whether an event id, of whatever log, is of the reply to a POST and not of a stand-alone stream."""
    parsed = _parse(event_id)
    return parsed is not None and parsed[1] > 0


def _parse(event_id: bytes) -> tuple[bytes, int, int] | None:
    name, _, rest = event_id.partition(b"-")
    stream, _, event = rest.partition(b"-")
    if not (stream.isdigit() and event.isdigit() and len(rest) <= 30):
        return None
    return name, int(stream), int(event)
