"""An event stream as the gate passes it on: every event whole, with what resumption needs."""

from portway.http.response import EventStream
from portway.protocol.sse import Event, encode

_ONE_LINE = bytes.maketrans(b"\r\n", b"  ")


def one_line(data: bytes) -> bytes:
    """JSON without the line breaks between its tokens; within strings it has none."""
    return data.translate(_ONE_LINE) if b"\n" in data or b"\r" in data else data


class RelayedStream(EventStream):
    """An EventStream that also takes events of an instance's stream as they were read."""

    __slots__ = ()

    async def drained(self) -> None:
        """Return when the client has taken almost all of what was sent, or has left."""
        await self._send({"type": "http.response.body", "body": b"", "more_body": True})

    def abandon(self) -> None:
        """Say no more. Where the response has not ended, the listener cuts it."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()

    async def relay(self, event: Event) -> None:
        """Send an event; its data is one line. Awaiting this is the back-pressure."""
        self._quiet = False
        await self._write(encode(event))
