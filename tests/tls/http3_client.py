"""A small HTTP/3 client, over QUIC by aioquic."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, ErrorCode, H3Connection
from aioquic.h3.events import DataReceived, H3Event, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import QuicEvent
from aioquic.tls import SessionTicket

from tests.tls.http2_client import pieces


class Http3Client(QuicConnectionProtocol):
    """One connection. Each request has a queue of what has arrived: a status, pieces of its body, then None."""

    def __init__(self, *arguments: object, **options: object) -> None:
        super().__init__(*arguments, **options)  # type: ignore[arg-type]
        self._http = H3Connection(self._quic)
        self._arrived: dict[int, asyncio.Queue[int | bytes | None]] = {}
        self._is_held = False

    def transmit(self) -> None:
        if not self._is_held:
            super().transmit()

    def quic_event_received(self, event: QuicEvent) -> None:
        for each in self._http.handle_event(event):
            self._on_http(each)

    def _on_http(self, event: H3Event) -> None:
        if not isinstance(event, HeadersReceived | DataReceived) or event.stream_id not in self._arrived:
            return
        queue = self._arrived[event.stream_id]
        queue.put_nowait(int(dict(event.headers)[b":status"]) if isinstance(event, HeadersReceived) else event.data)
        if event.stream_ended:
            queue.put_nowait(None)

    @contextlib.asynccontextmanager
    async def post(
        self, url: str, headers: Mapping[str, str], body: bytes, *, early: bool = False
    ) -> AsyncIterator[tuple[int, AsyncIterator[bytes]]]:
        """Send a request; give status and body of its answer. Leaving the block cancels what has not ended.

        After an `early` one, nothing is sent until its status arrives: the handshake stays incomplete.
        """
        scheme, _, rest = url.partition("://")
        authority, _, path = rest.partition("/")
        stream = self._quic.get_next_available_stream_id()
        self._arrived[stream] = queue = asyncio.Queue()
        head = {":method": "POST", ":scheme": scheme, ":authority": authority, ":path": f"/{path}"}
        fields = head | {name.lower(): value for name, value in headers.items()}
        self._http.send_headers(stream, [(name.encode(), value.encode()) for name, value in fields.items()])
        self._http.send_data(stream, body, end_stream=True)
        self.transmit()
        self._is_held = early
        try:
            status = await queue.get()
            self._is_held = False
            assert isinstance(status, int)
            yield status, pieces(queue)
        finally:
            del self._arrived[stream]
            with contextlib.suppress(Exception):  # it has ended
                self._quic.stop_stream(stream, ErrorCode.H3_REQUEST_CANCELLED)
                self.transmit()


@contextlib.asynccontextmanager
async def http3(
    name: str, port: int, ca: Path, tickets: list[SessionTicket] | None = None
) -> AsyncIterator[Http3Client]:
    """Connect to 127.0.0.1 as to `name`. With one of the `tickets`, to which others are added, send early data."""
    settings = QuicConfiguration(is_client=True, alpn_protocols=H3_ALPN, server_name=name)
    settings.load_verify_locations(str(ca))
    settings.session_ticket = tickets[-1] if tickets else None
    async with connect(
        "127.0.0.1",
        port,
        configuration=settings,
        create_protocol=Http3Client,
        session_ticket_handler=None if tickets is None else tickets.append,
        wait_connected=not tickets,
    ) as client:
        assert isinstance(client, Http3Client)
        yield client
