"""Server-sent events as MCP uses them: one JSON message in a `data:` line (WHATWG HTML §9.2)."""

COMMENT = b":\n\n"


def encode_event(message: bytes) -> bytes:
    """The event that carries one message; JSON holds no raw line break, so one data line is enough."""
    return b"event: message\ndata: %b\n\n" % message


class EventParser:
    """An incremental parser: chunks in, the data of complete events out; bounded by `limit` bytes an event."""

    def __init__(self, limit: int = 16 * 1024 * 1024) -> None:
        self._limit = limit
        self._rest = b""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """Take a chunk and return the data of each event it completes; raises ValueError when an event is too large."""
        events: list[bytes] = []
        pieces = (self._rest + chunk).replace(b"\r\n", b"\n").split(b"\n")
        self._rest = pieces.pop()
        for line in pieces:
            self._line(line.rstrip(b"\r"), events)
        if self._size + len(self._rest) > self._limit:
            raise ValueError(f"a server-sent event is larger than {self._limit} bytes")
        return events

    def _line(self, line: bytes, events: list[bytes]) -> None:
        if not line:
            if self._data:
                events.append(b"\n".join(self._data))
            self._data, self._size = [], 0
        elif line.startswith(b"data:"):
            value = line[5:].removeprefix(b" ")
            self._size += len(value)
            if value:
                self._data.append(value)
