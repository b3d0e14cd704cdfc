"""A proxy that adds a token to every request, for clients that cannot send one. Each connection carries one request."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import Future

from tests.connection_server import serving


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
        writer.write_eof()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int, token: str) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
    kept = [line for line in head[:-2] if not line.lower().startswith(b"connection:")]
    answers, requests = await asyncio.open_connection("127.0.0.1", port)
    asking = asyncio.create_task(_pipe(reader, requests))
    try:
        added = [b"authorization: Bearer " + token.encode(), b"connection: close", b"", b""]
        requests.write(b"\r\n".join(kept + added))
        await _pipe(answers, writer)
    finally:
        asking.cancel()
        requests.close()


@contextlib.contextmanager
def token_proxy(port: int, token: str) -> Iterator[int]:
    """Listen while the block lasts, and pass on to `port` of this machine; yield the port it listens on."""
    started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event, int]] = Future()

    async def run() -> None:
        ended = asyncio.Event()
        async with serving(lambda reader, writer: _pass_on(reader, writer, port, token)) as listening:
            started.set_result((asyncio.get_running_loop(), ended, listening))
            await ended.wait()

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    loop, ended, listening = started.result()
    try:
        yield listening
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()
