"""Passes requests on to control: git at /APP.git, hooks of linked apps, the management API; how many at once, which
headers.

The gate runs no git, and checks no user's token. The management API has places of its own, so that its long calls keep
nobody from pushing.
"""

import asyncio
import re
from pathlib import Path

from portway.host.paths import Paths
from portway.http.asgi import Headers, Receive, Scope, Send
from portway.http.http_client import HttpClient, UpstreamError
from portway.http.places import Places
from portway.http.response import JSON, cut_short, send_bytes
from portway.oauth.resource_metadata import WELL_KNOWN
from portway.protocol.errors import REFUSED, RpcError
from portway.protocol.jsonrpc import encode_error

MANAGEMENT = "/_portway/mcp"
_METADATA = WELL_KNOWN + MANAGEMENT  # where those log in who call it
RELAYED = re.compile(
    r"/[A-Za-z0-9._-]{1,64}\.git/(?:info/refs|git-upload-pack|git-receive-pack)|/_portway/hooks/[a-z0-9-]{1,40}"
    rf"|(?:{WELL_KNOWN})?{MANAGEMENT}/?"
)
_AT_ONCE = 64  # of a socket; up to twice as many when no address has more than its share. Control has its own limits
_OF_GIT = frozenset(
    (
        *(b"authorization", b"content-type", b"content-encoding", b"git-protocol"),
        *(b"x-hub-signature-256", b"x-github-event", b"x-github-delivery"),
        *(b"x-gitlab-token", b"x-gitlab-event", b"x-gitlab-event-uuid", b"idempotency-key"),
        *(b"x-hub-signature", b"x-event-key", b"x-request-uuid"),
    )
)
_OF_MCP = frozenset((b"authorization", b"content-type", b"content-encoding", b"accept"))
_MCP = b"mcp-"  # how the names of the protocol's own headers begin
_METHOD, _LISTEN = b"mcp-method", b"subscriptions/listen"
_RETURNED = (
    *(b"content-type", b"cache-control", b"expires", b"pragma", b"www-authenticate", b"retry-after", b"allow"),
    *(b"x-accel-buffering", b"access-control-allow-origin", b"access-control-allow-headers"),
    b"access-control-allow-methods",
)
_TEXT = (b"content-type", b"text/plain; charset=utf-8")
_RETRY = (b"retry-after", b"1")


class _Socket:
    """A socket of control, what is asked there, and who waits for it."""

    def __init__(self, path: Path, kind: str) -> None:
        self.client = HttpClient(f"unix:{path}", "localhost")
        self.kind = kind
        self.places = Places()

    async def refuse(self, send: Send, *, busy: bool) -> None:
        """Say that it cannot be asked now, in the form that its clients read."""
        text = f"The host takes no requests of {self.kind} at the moment: try again in a few seconds."
        if busy:
            text = f"The host serves as many requests of {self.kind} as it can: try again in a moment."
        if self.kind == "git":
            await send_bytes(send, 503, f"{text}\n".encode(), [_TEXT, _RETRY])
        else:
            await send_bytes(send, 503, encode_error(None, RpcError(REFUSED, text)), [JSON, _RETRY])


class ControlRelay:
    """Relays to the sockets of control. Both bodies are passed on as they arrive."""

    def __init__(self, paths: Paths) -> None:
        self._git = _Socket(paths.git_socket, "git")
        self._management = _Socket(paths.management_socket, "management")
        self._streams: set[asyncio.Task[object]] = set()

    def end_streams(self) -> None:
        """End the event streams that have no end of their own, because the gate stops."""
        for task in self._streams:
            task.cancel()

    async def relay(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, whose path matches `RELAYED`."""
        is_mcp = scope["path"].rstrip("/") in (MANAGEMENT, _METADATA)
        socket = self._management if is_mcp else self._git
        headers: Headers = [
            (name, value)
            for name, value in scope["headers"]
            if (name in _OF_MCP or name.startswith(_MCP) if is_mcp else name in _OF_GIT)
        ]
        task = asyncio.current_task()
        assert task is not None
        if is_mcp and (_METHOD, _LISTEN) in headers:
            self._streams.add(task)
        address = "" if scope["client"] is None else scope["client"][0]
        headers.append((b"x-forwarded-for", address.encode()))
        socket.places.take(address)
        try:
            if socket.places.admits(address, _AT_ONCE):
                await self._exchange(socket, scope, headers, receive, send)
            else:
                await socket.refuse(send, busy=True)
        finally:
            socket.places.give(address)
            self._streams.discard(task)

    async def _exchange(self, socket: _Socket, scope: Scope, headers: Headers, receive: Receive, send: Send) -> None:
        query = scope["query_string"].decode("ascii")
        target = f"{scope['path']}?{query}" if query else scope["path"]
        try:
            upload = await socket.client.upload(scope["method"], target, headers)
        except UpstreamError:
            await socket.refuse(send, busy=False)
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
                await socket.refuse(send, busy=False)
        finally:
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)
            await response.close()
