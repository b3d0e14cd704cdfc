"""Reading server-sent events as MCP uses them: one JSON message in each (WHATWG HTML §9.2)."""


class EventParser:
    """An incremental parser: chunks in, the data of complete events out; bounded by `limit` bytes an event."""

    def __init__(self, limit: int = 16 * 1024 * 1024) -> None:
        self._limit = limit
        self._rest: list[bytes] = []  # of a line whose end has not come; joined once, whatever the size of chunks
        self._rest_size = 0
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """Take a chunk and return the data of each event it completes; raises ValueError when an event is too large."""
        events: list[bytes] = []
        head, *others = chunk.split(b"\n")
        self._rest.append(head)
        self._rest_size += len(head)
        if others:
            lines = [b"".join(self._rest), *others[:-1]]
            self._rest, self._rest_size = [others[-1]], len(others[-1])
            for line in lines:
                self._line(line.rstrip(b"\r"), events)
        if self._size + self._rest_size > self._limit:
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
