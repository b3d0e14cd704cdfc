"""Passes requests of git, and hooks of linked apps, on to control, which answers them. The gate runs no git."""

import asyncio
import re
from collections.abc import Mapping
from pathlib import Path

from portway.http.asgi import Headers, Receive, Scope, Send
from portway.http.http_client import HttpClient, UpstreamError
from portway.http.places import Places
from portway.http.response import cut_short, send_bytes

RELAYED = re.compile(
    r"/[A-Za-z0-9._-]{1,64}\.git/(?:info/refs|git-upload-pack|git-receive-pack)|/_portway/hooks/[a-z0-9-]{1,40}"
)
_AT_ONCE = 64  # requests; up to twice as many when no address has more than its share. Control has limits of its own
_PASSED = (
    *(b"authorization", b"content-type", b"content-encoding", b"git-protocol"),
    *(b"x-hub-signature-256", b"x-github-event", b"x-github-delivery"),
    *(b"x-gitlab-token", b"x-gitlab-event", b"x-gitlab-event-uuid", b"idempotency-key"),
    *(b"x-hub-signature", b"x-event-key", b"x-request-uuid"),
)
_RETURNED = (b"content-type", b"cache-control", b"expires", b"pragma", b"www-authenticate", b"retry-after", b"allow")
_TEXT = (b"content-type", b"text/plain; charset=utf-8")
_RETRY = (b"retry-after", b"1")
_BUSY = b"The host serves as many requests of git as it can: try again in a moment.\n"
_DOWN = b"The host takes no requests of git at the moment: try again in a few seconds.\n"


class ControlRelay:
    """Relays to the socket on which control serves git and hooks. Both bodies are passed on as they arrive."""

    def __init__(self, socket: Path) -> None:
        self._client = HttpClient(f"unix:{socket}", "control")
        self._places = Places()

    async def relay(self, scope: Scope, receive: Receive, send: Send, fields: Mapping[bytes, bytes]) -> None:
        """Answer one request, whose path matches `RELAYED`."""
        address = "" if scope["client"] is None else scope["client"][0]
        self._places.take(address)
        try:
            if self._places.admits(address, _AT_ONCE):
                await self._exchange(scope, receive, send, fields, address)
            else:
                await send_bytes(send, 503, _BUSY, [_TEXT, _RETRY])
        finally:
            self._places.give(address)

    async def _exchange(
        self, scope: Scope, receive: Receive, send: Send, fields: Mapping[bytes, bytes], address: str
    ) -> None:
        query = scope["query_string"].decode("ascii")
        target = f"{scope['path']}?{query}" if query else scope["path"]
        headers: Headers = [(name, fields[name]) for name in _PASSED if name in fields]
        headers.append((b"x-forwarded-for", address.encode()))
        try:
            upload = await self._client.upload(scope["method"], target, headers)
        except UpstreamError:
            await send_bytes(send, 503, _DOWN, [_TEXT, _RETRY])
            return
        response = upload.response

        async def feed() -> None:
            """Send the body on, then wait until the client leaves, and end the request at control then, too."""
            while (message := await receive())["type"] == "http.request":
                if message["body"]:
                    await upload.write(message["body"])
                if not message["more_body"]:
                    upload.end()
            await response.close()

        feeding = asyncio.create_task(feed())
        try:
            await upload.head()
            kept = [(name, value) for name, value in response.headers if name in _RETURNED]
            await send({"type": "http.response.start", "status": response.status, "headers": kept})
            async for chunk in response.chunks():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        except UpstreamError:
            if response.status:
                cut_short(send)
            else:
                await send_bytes(send, 503, _DOWN, [_TEXT, _RETRY])
        finally:
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)
            await response.close()
