"""Serves MCP over standard input and output: its start, signals, the longest line (16 MiB), and what is still answered
after the client closes.

Specification: basic/transports (stdio).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
import threading
from typing import TYPE_CHECKING

from portway.protocol.errors import INVALID_REQUEST, RpcError
from portway.protocol.jsonrpc import encode_error
from portway.server.dispatcher import Dispatcher
from portway.transport import parent_watch
from portway.transport.pipes import Lines, Reader, Wire, Writer, claim
from portway.transport.stdio_connection import StdioConnection

if TYPE_CHECKING:
    from collections.abc import Callable

    from portway.protocol.sealing import Keys
    from portway.server.server import BaseServer

LINE_BYTES = 16 * 1024 * 1024
"""The longest message taken from the client."""
_FINISH_SECONDS = 1.5
"""For calls in flight when the client closes its end: clients wait two seconds, then send a signal."""
_DRAIN_SECONDS = 1.0
"""For the client to read what was written."""
_log = logging.getLogger("portway.transport")


def serve(server: BaseServer, wire: Wire | None, keys: Keys | None) -> None:
    """Serve the client at standard input and output until it closes them or dies, or a signal comes. Blocking.

    SIGTERM and SIGINT cancel the calls and leave the lifespans; a second signal ends the process at once. Raises
    SystemExit when a lifespan fails to start, or a signal comes before it has.
    """
    wire = wire or claim()
    parent_watch.watch(wire.reader)
    try:
        asyncio.run(_serve(server, wire, keys))
    except KeyboardInterrupt:
        pass  # a terminal's Ctrl-C reaches the client too: there is nobody to answer


async def _serve(server: BaseServer, wire: Wire, keys: Keys | None) -> None:
    dispatcher = Dispatcher(server, keys)
    ended, stopped = asyncio.Event(), asyncio.Event()
    serving = asyncio.current_task()
    assert serving is not None

    def stop() -> None:
        stopped.set()
        ended.set()
        if not is_open:
            serving.cancel()

    is_open = False
    _on_first_signal(stop)
    try:
        await dispatcher.open()
        is_open = True
    except asyncio.CancelledError:
        await dispatcher.close()
        raise SystemExit(1) from None
    except Exception as error:  # noqa: BLE001 - whatever an author's code raises
        _log.exception("the lifespan of %s failed", server.name)
        text = f"the lifespan of {server.name} raised {type(error).__name__}: {error}"
        raise SystemExit(f"portway: {text}") from None

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
    await connection.finish(0 if writer.broken or stopped.is_set() else _FINISH_SECONDS)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_DRAIN_SECONDS):
            await writer.drained()
    await dispatcher.close()


def _on_first_signal(stop: Callable[[], None]) -> None:
    """Call `stop` at the first SIGTERM or SIGINT, and let the system act on a second one, which ends the process."""
    if sys.platform == "win32" or threading.current_thread() is not threading.main_thread():
        return
    loop, numbers = asyncio.get_running_loop(), (signal.SIGTERM, signal.SIGINT)

    def first() -> None:
        for number in numbers:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)
        stop()

    for number in numbers:
        loop.add_signal_handler(number, first)
