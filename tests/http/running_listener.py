"""A listener in a thread of its own, and clients that send it raw bytes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from portway.http.serve import Bind, Limits, serve

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from portway.http.asgi import App, Receive, Scope, Send

    NewLoop = Callable[[], asyncio.AbstractEventLoop]

PATIENCE = 8.0


@dataclass
class Plain:
    """An ASGI function as the listener takes it, with a lifespan of the test's and no streams to end."""

    app: App
    lifespan: Callable[[], AbstractAsyncContextManager[None]] = nullcontext

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        return self.app(scope, receive, send)

    def end_streams(self) -> None:
        pass


class Listener:
    def __init__(
        self,
        app: App | Plain,
        limits: Limits,
        bind: Bind | None = None,
        new_loop: NewLoop = asyncio.new_event_loop,
    ) -> None:
        self.url = ""
        self.failure: BaseException | None = None
        self._loop = new_loop()
        self._stop = asyncio.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(app, bind or Bind(port=0), limits), daemon=True)
        self._thread.start()
        assert self._ready.wait(PATIENCE)

    def _run(self, app: App | Plain, bind: Bind, limits: Limits) -> None:
        def on_ready(url: str) -> None:
            self.url = url
            self._ready.set()

        try:
            served = app if isinstance(app, Plain) else Plain(app)
            self._loop.run_until_complete(serve(served, bind, limits, on_ready=on_ready, stop=self._stop))
        except Exception as error:  # noqa: BLE001 - the test looks at it
            self.failure = error
        finally:
            self._ready.set()
            self._loop.close()

    def stop(self, just_before: Callable[[], object] = bool) -> None:
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(lambda: (just_before(), self._stop.set()))

    def join(self) -> None:
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "the listener did not stop"

    def connect(self) -> socket.socket:
        port = int(self.url.rpartition(":")[2])
        return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)

    def talk(self, *pieces: bytes) -> bytes:
        """Send the pieces, and return all that the server sends until it closes."""
        with self.connect() as sock:
            for piece in pieces:
                sock.sendall(piece)
            return read_all(sock)


def read_all(sock: socket.socket) -> bytes:
    return b"".join(iter(lambda: sock.recv(65536), b""))


def read_until(sock: socket.socket, mark: bytes) -> bytes:
    got = b""
    while mark not in got:
        piece = sock.recv(65536)
        assert piece, f"closed after {got!r}"
        got += piece
    return got
