"""MCP over standard input and output: one client, both eras, each message in the era it is written in.

Specification: basic/transports (stdio).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

from portway.protocol.errors import INVALID_REQUEST, RpcError
from portway.protocol.jsonrpc import encode_error
from portway.protocol.sealing import Keys
from portway.server.dispatcher import Dispatcher
from portway.transport import parent_watch
from portway.transport.pipes import Lines, Reader, Wire, Writer, claim
from portway.transport.stdio_connection import StdioConnection

if TYPE_CHECKING:
    from portway.server.server import BaseServer

LINE_BYTES = 16 * 1024 * 1024
"""The longest message taken from the client."""
_FINISH_SECONDS = 1.5
"""For calls in flight when the client closes its end; it waits two seconds before it sends a signal."""
_DRAIN_SECONDS = 1.0
"""For the client to read what was written."""
_log = logging.getLogger("portway.transport")


def serve(server: BaseServer, wire: Wire | None = None, keys: Keys | None = None) -> None:
    """Serve the client at standard input and output until it closes them or dies. Blocking.

    Raises SystemExit when a lifespan fails to start.
    """
    wire = wire or claim()
    parent_watch.watch(wire.reader)
    try:
        asyncio.run(_serve(server, wire, keys or Keys.random()))
    except KeyboardInterrupt:
        pass  # a terminal's Ctrl-C reaches the client too: there is nobody to answer


async def _serve(server: BaseServer, wire: Wire, keys: Keys) -> None:
    dispatcher = Dispatcher(server, keys)
    try:
        await dispatcher.open()
    except Exception as error:  # noqa: BLE001 - whatever an author's code raises
        _log.exception("the lifespan of %s failed", server.name)
        text = f"the lifespan of {server.name} raised {type(error).__name__}: {error}"
        raise SystemExit(f"portway: {text}") from None
    ended = asyncio.Event()

    def arrived(data: bytes) -> None:
        if data:
            lines.feed(data)
        else:
            lines.finish()
            ended.set()

    def refuse_oversize() -> None:
        text = f"A message is longer than {LINE_BYTES} bytes."
        connection.reply(encode_error(None, RpcError(INVALID_REQUEST, text)))

    reader = Reader(wire.reader, arrived)
    writer = Writer(wire.writer, reader.pause, reader.resume, ended.set)
    connection = StdioConnection(dispatcher, writer)
    lines = Lines(LINE_BYTES, connection.take, refuse_oversize)
    await ended.wait()
    await connection.finish(0 if writer.broken else _FINISH_SECONDS)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_DRAIN_SECONDS):
            await writer.drained()
    await dispatcher.close()
