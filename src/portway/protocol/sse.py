"""Server-sent events as MCP uses them, read and written: one JSON message in each (WHATWG HTML §9.2).

Besides, since 2025-11-25: an event with an `id` and empty data, by which a stream can be resumed, and `retry`, after
which it is to be (basic/transports).
"""

import msgspec

_LINE = 48  # bytes that another line of data takes besides its own: a peer may send millions of short ones


class Event(msgspec.Struct):
    """One event; what it does not have is None or empty. `retry` is in milliseconds, `name` empty for "message"."""

    data: bytes | None = None
    id: bytes = b""
    retry: int | None = None
    name: bytes = b""


def encode(event: Event) -> bytes:
    """The bytes of an event, whose data is one line."""
    text = b"event: %b\n" % event.name if event.name else b""
    if event.id:
        text += b"id: %b\n" % event.id
    if event.retry is not None:
        text += b"retry: %d\n" % event.retry
    return text + b"\n" if event.data is None else b"%bdata: %b\n\n" % (text, event.data)


class EventParser:
    """An incremental parser: chunks in, complete events out; bounded by `limit` bytes an event."""

    def __init__(self, limit: int = 16 * 1024 * 1024) -> None:
        self._limit = limit
        self._rest: list[bytes] = []  # of a line whose end has not come; joined once, whatever the size of chunks
        self._rest_size = 0
        self._data: list[bytes] = []
        self._size = 0
        self._has_data = False  # a line of it, be it an empty one
        self._fields: dict[bytes, bytes] = {}  # of the event so far, but for its data

    @property
    def held(self) -> int:
        """Bytes of the event that is not complete."""
        return self._size + self._rest_size

    def feed(self, chunk: bytes) -> list[bytes]:
        """Take a chunk and return the data of each event it completes that has some; ValueError as `events`."""
        return [event.data for event in self.events(chunk) if event.data]

    def events(self, chunk: bytes) -> list[Event]:
        """Take a chunk and return the events it completes; raises ValueError when an event is too large."""
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
            self._size += len(value) + (_LINE if self._data else 0)
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
        if b"\0" not in identity and b"\r" not in identity:  # such an id is none
            event.id = identity
        if retry.isdigit() and len(retry) < 10:
            event.retry = int(retry)
        if name != b"message" and b"\r" not in name:
            event.name = name
