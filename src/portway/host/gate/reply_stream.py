"""Writes an instance's events to the client, and waits for a slow one."""

from portway.http.event_stream import Event, EventStream

_ONE_LINE = bytes.maketrans(b"\r\n", b"  ")


def one_line(data: bytes) -> bytes:
    """Replace the line breaks of a JSON text by spaces; they stand between tokens, never within strings."""
    return data.translate(_ONE_LINE) if b"\n" in data or b"\r" in data else data


class RelayedStream(EventStream):
    """An EventStream that also forwards the events of an instance's stream."""

    __slots__ = ()

    async def drained(self) -> None:
        """Wait until the client has read almost all of what was sent, or has left."""
        await self._send({"type": "http.response.body", "body": b"", "more_body": True})

    def abandon(self) -> None:
        """Stop writing without ending the response; the HTTP server then cuts it."""
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()

    async def remark(self, text: str) -> None:
        """Send a comment for people who read the stream; clients ignore it."""
        await self._write(b": %b\n\n" % text.encode())

    async def relay(self, event: Event) -> None:
        """Send an event, whose data is one line; wait while the client is slow to read."""
        self._quiet = False
        await self._write(event.encode())
