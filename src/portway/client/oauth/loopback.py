"""The address of this machine to which the provider sends the browser back, and the page it shows (RFC 8252 section
7.3).
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from urllib.parse import parse_qs

from portway.client.errors import LoginError, Step
from portway.http.asgi import Receive, Scope, Send
from portway.http.response import send_bytes
from portway.http.serve import Bind, Limits, ListenError, serve

_PATH = "/callback"
_LIMITS = Limits(
    header_bytes=16_384,
    header_seconds=5.0,
    connections=16,
    calls=16,
    streams=16,
    idle_seconds=5.0,
    shutdown_seconds=2.0,
)
_HEADERS = [
    (b"content-type", b"text/html; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
]
_DONE = "The provider has answered. You can close this page and go back to the program that you log in with."
_UNKNOWN = "No login waits for this. Start it again in the program that you log in with."


class Loopback:
    """An application that takes one response: the first whose state `is_expected`. It shows nothing of what it gets."""

    def __init__(self) -> None:
        self.uri = ""
        self.response: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.is_expected: Callable[[str], bool] = lambda _: False

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """Answer a request of the browser."""
        query = scope["query_string"].decode("latin-1")
        states = parse_qs(query, max_num_fields=50).get("state", []) if query.count("&") < 50 else []
        if scope["method"] != "GET" or scope["path"] != _PATH or len(states) != 1 or not self.is_expected(states[0]):
            await send_bytes(send, 404, _page(_UNKNOWN), _HEADERS)
            return
        if not self.response.done():
            self.response.set_result(f"{self.uri}?{query}")
        await send_bytes(send, 200, _page(_DONE), _HEADERS)

    def lifespan(self) -> AbstractAsyncContextManager[None]:
        """Return the context manager of an application that needs none."""
        return contextlib.nullcontext()

    def end_streams(self) -> None:
        """End the streams, of which there are none."""


@asynccontextmanager
async def loopback(port: int) -> AsyncIterator[Loopback]:
    """Listen on a port of 127.0.0.1, 0 for a free one, while the block lasts. Raises LoginError."""
    app, stop = Loopback(), asyncio.Event()
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    serving = asyncio.ensure_future(serve(app, Bind("127.0.0.1", port), _LIMITS, on_ready=ready.set_result, stop=stop))
    try:
        await asyncio.wait((serving, ready), return_when=asyncio.FIRST_COMPLETED)
        if not ready.done():
            await serving
        app.uri = f"{ready.result()}{_PATH}"
        yield app
    except ListenError:
        raise LoginError(
            Step.AUTHORIZATION,
            f"nothing can listen on port {port} of 127.0.0.1 (RFC 8252 section 7.3): give another callback port",
        ) from None
    finally:
        stop.set()
        await asyncio.gather(serving, return_exceptions=True)
        app.response.cancel()


def can_listen(port: int) -> bool:
    """Return whether a port of 127.0.0.1 is free."""
    try:
        Bind("127.0.0.1", port).open().close()
    except ListenError:
        return False
    return True


def _page(sentence: str) -> bytes:
    return f"<!doctype html><title>Portway</title><p>{sentence}</p>\n".encode()
