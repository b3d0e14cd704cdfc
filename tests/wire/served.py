"""A server on a real socket, in a thread of this process, and a client that sends exactly what it is told."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from portway.http.serve import Bind, Limits, serve

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

LEGACY, MODERN = "2025-11-25", "2026-07-28"
VERSIONS = (LEGACY, MODERN)
META = "io.modelcontextprotocol/"
ROUTED_BY = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
Json = dict[str, Any]


@dataclass(frozen=True)
class Reply:
    """What came back for one POST: `messages` are the notifications and the reply, in order."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    messages: list[Json] = field(default_factory=list)

    @property
    def last(self) -> Json:
        return self.messages[-1]


class Client:
    """One kept-alive connection; nothing is added to a request but Content-Length and Host."""

    def __init__(self, url: str, *, path: str = "/mcp") -> None:
        parts = urlsplit(url)
        assert parts.hostname
        self._path = path
        self.authority = parts.netloc
        self._connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=20)

    def send(self, body: bytes, headers: Mapping[str, str], *, verb: str = "POST", path: str = "") -> Reply:
        self._connection.request(verb, path or self._path, body, dict(headers))
        response = self._connection.getresponse()
        payload = response.read()
        reply = Reply(response.status, {k.lower(): v for k, v in response.getheaders()}, payload)
        reply.messages.extend(_messages(reply))
        return reply

    def ask(self, version: str, method: str, params: Json | None = None, **changes: Any) -> Reply:
        """A well-formed request of that revision; `token`, `id` and `meta` change what their names say."""
        message, headers = request(version, method, params, **changes)
        return self.send(json.dumps(message).encode(), headers)

    def close(self) -> None:
        self._connection.close()


def request(
    version: str,
    method: str,
    params: Json | None = None,
    *,
    id: int | str = 1,  # noqa: A002 - the wire's name
    meta: Json | None = None,
    token: str | None = None,
) -> tuple[Json, dict[str, str]]:
    """The message and headers a conforming client sends."""
    headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    if method != "initialize":
        headers["MCP-Protocol-Version"] = version
    params = dict(params or {})
    meta = dict(meta or {})
    if version == MODERN:
        meta = {META + "protocolVersion": version, META + "clientCapabilities": {}} | meta
        headers["Mcp-Method"] = method
        if method in ROUTED_BY and ROUTED_BY[method] in params:
            headers["Mcp-Name"] = params[ROUTED_BY[method]]
    if meta:
        params["_meta"] = meta
    message: Json = {"jsonrpc": "2.0", "id": id, "method": method}
    return (message | {"params": params} if params else message), headers


def _messages(reply: Reply) -> list[Json]:
    if reply.headers.get("content-type", "").startswith("text/event-stream"):
        lines = reply.body.decode().splitlines()
        return [json.loads(line[5:]) for line in lines if line.startswith("data:") and line[5:].strip()]
    return [json.loads(reply.body)] if reply.body and reply.headers.get("content-type") == "application/json" else []


@contextmanager
def served(app: Any) -> Iterator[str]:
    """The URL of an ASGI application served on a free port of 127.0.0.1 until the block ends."""
    ready, addresses, failures = threading.Event(), [], []

    async def main() -> None:
        stops.append(stop := asyncio.Event())
        loops.append(asyncio.get_running_loop())

        def on_ready(url: str) -> None:
            addresses.append(url)
            ready.set()

        await serve(app, Bind(host="127.0.0.1", port=0), Limits(shutdown_seconds=1), on_ready=on_ready, stop=stop)

    def work() -> None:
        try:
            asyncio.run(main())
        except BaseException as error:  # noqa: BLE001 - told to the test that waits
            failures.append(error)
        finally:
            ready.set()

    stops: list[asyncio.Event] = []
    loops: list[asyncio.AbstractEventLoop] = []
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    ready.wait(20)
    if failures:
        raise failures[0]
    try:
        yield addresses[0]
    finally:
        loops[0].call_soon_threadsafe(stops[0].set)
        thread.join(10)
        assert not thread.is_alive(), "the server did not stop"
        if failures:
            raise failures[0]
