"""Answers Caddy, which asks whether the host has a name before it gets a certificate for it (on-demand TLS).

GET /?domain=NAME on a loopback port: 200 for the host's domain and for the name of an app, 404 for any other. The gate
answers, because it goes on while control is away. At a path that only Caddy knows it gives the operator's certificate.
"""

import asyncio
import contextlib
from urllib.parse import parse_qs

from portway.host.gate.routing import Routes
from portway.host.paths import Paths
from portway.host.tls.own_certificate import secret_path
from portway.http.asgi import Receive, Scope, Send
from portway.http.response import send_bytes
from portway.http.serve import Bind, Limits, serve

_LIMITS = Limits(header_bytes=4096, header_count=32, connections=1024, idle_seconds=10.0, shutdown_seconds=1.0)


class AskEndpoint:
    """The ASGI application of the endpoint, and its server."""

    def __init__(self, routes: Routes, paths: Paths, secret: bytes) -> None:
        self._routes = routes
        self._paths = paths
        self._own_path = "/" + secret_path(secret)
        self._stop = asyncio.Event()

    async def start(self, descriptor: int) -> None:
        """Serve the inherited socket `descriptor`. Raises `ListenError`."""
        ready = asyncio.get_running_loop().create_future()
        bind = Bind(fd=descriptor)
        self._serving = asyncio.create_task(
            serve(self, bind, _LIMITS, on_ready=lambda _: ready.set_result(None), stop=self._stop)
        )
        await asyncio.wait((ready, self._serving), return_when=asyncio.FIRST_COMPLETED)
        if self._serving.done():
            self._serving.result()

    async def stop(self) -> None:
        self._stop.set()
        await self._serving

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one question."""
        if scope["path"] == self._own_path:
            await send_bytes(send, 200, self._paths.own_certificate.read_bytes(), [])
            return
        asked = parse_qs(scope["query_string"]).get(b"domain", [b""])[0]
        await send_bytes(send, 200 if self._routes.has_name(asked.lower()) else 404, b"", [])

    def lifespan(self) -> contextlib.AbstractAsyncContextManager[None]:
        return contextlib.nullcontext()

    def end_streams(self) -> None:
        """Do nothing: there are none."""
