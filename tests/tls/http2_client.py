"""A small HTTP/2 client: a request that is left is cancelled by RST_STREAM, which httpx2 does not send."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived, ResponseReceived, StreamEnded


class Http2Client:
    """One connection. Each request has a queue of what has arrived: a status, pieces of its body, then None."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._http = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self._arrived: dict[int, asyncio.Queue[int | bytes | None]] = {}
        self._http.initiate_connection()
        self._send()

    def _send(self) -> None:
        self._writer.write(self._http.data_to_send())

    async def read(self) -> None:
        """Read until the connection ends."""
        while data := await self._reader.read(65_536):
            for event in self._http.receive_data(data):
                queue = self._arrived.get(getattr(event, "stream_id", None) or 0)
                if isinstance(event, DataReceived):
                    self._http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                if queue is None:
                    continue
                if isinstance(event, ResponseReceived):
                    queue.put_nowait(int(dict(event.headers)[":status"]))
                elif isinstance(event, DataReceived):
                    queue.put_nowait(event.data)
                elif isinstance(event, StreamEnded):
                    queue.put_nowait(None)
            self._send()

    @contextlib.asynccontextmanager
    async def post(
        self, url: str, headers: Mapping[str, str], body: bytes
    ) -> AsyncIterator[tuple[int, AsyncIterator[bytes]]]:
        """Send a request; give status and body of its answer. Leaving the block cancels what has not ended."""
        scheme, _, rest = url.partition("://")
        authority, _, path = rest.partition("/")
        stream = self._http.get_next_available_stream_id()
        self._arrived[stream] = queue = asyncio.Queue()
        head = {":method": "POST", ":scheme": scheme, ":authority": authority, ":path": f"/{path}"}
        self._http.send_headers(stream, [*head.items(), *((name.lower(), value) for name, value in headers.items())])
        self._http.send_data(stream, body, end_stream=True)
        self._send()
        try:
            status = await queue.get()
            assert isinstance(status, int)
            yield status, pieces(queue)
        finally:
            del self._arrived[stream]
            with contextlib.suppress(Exception):  # it has ended
                self._http.reset_stream(stream, ErrorCodes.CANCEL)
                self._send()


async def pieces(queue: asyncio.Queue[int | bytes | None]) -> AsyncIterator[bytes]:
    """Yield the pieces of a body that arrive in a queue, until None does."""
    while (piece := await queue.get()) is not None:
        if isinstance(piece, bytes):
            yield piece


@contextlib.asynccontextmanager
async def http2(name: str, port: int, ca: Path) -> AsyncIterator[Http2Client]:
    """Connect to 127.0.0.1 as to `name`."""
    context = ssl.create_default_context(cafile=str(ca))
    context.set_alpn_protocols(["h2"])
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name)
    client = Http2Client(reader, writer)
    reading = asyncio.create_task(client.read())
    try:
        yield client
    finally:
        reading.cancel()
        writer.close()
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await writer.wait_closed()
