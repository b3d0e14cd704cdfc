"""A real gate on a real port, upstreams that are scripts, and a client that says exactly what it is told to."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from portway.auth.tokens import digest
from portway.host import routing_table
from portway.host.gate.__main__ import Gate
from portway.host.gate.trusted_proxies import TrustedProxies
from portway.host.paths import Paths, run_directory
from portway.host.token_table import Token, TokenWriter
from portway.http.http_client import HttpClient, Response
from portway.http.serve import Bind, Limits, serve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

ANY_PORT = Bind(port=0)
JSON = (b"content-type", b"application/json")
META = {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}


@dataclass
class Seen:
    """One request as an upstream received it."""

    head: bytes
    body: bytes
    connection: asyncio.StreamReader

    @property
    def message(self) -> dict[str, Any]:
        return json.loads(self.body)

    @property
    def headers(self) -> dict[str, str]:
        lines = self.head.decode("latin-1").split("\r\n")[1:]
        return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}


@dataclass
class Upstream:
    """An instance whose every request is answered by `script(seen, writer)`; `requests` is what came."""

    script: Callable[[Seen, asyncio.StreamWriter], Awaitable[None]]
    requests: list[Seen] = field(default_factory=list)
    address: str = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
                seen = Seen(head, await reader.readexactly(int(length or 0)), reader)
                self.requests.append(seen)
                await self.script(seen, writer)
                if writer.is_closing():
                    return
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()


def reply(body: bytes, content_type: bytes = b"application/json", status: bytes = b"200 OK") -> bytes:
    return b"HTTP/1.1 %b\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n%b" % (status, content_type, len(body), body)


def result(seen: Seen, value: object) -> bytes:
    return reply(json.dumps({"jsonrpc": "2.0", "id": seen.message["id"], "result": value}).encode())


async def echo(seen: Seen, writer: asyncio.StreamWriter) -> None:
    """Answer a request with its params, a notification with 202."""
    if "id" in (seen.message if seen.body else {}):
        writer.write(result(seen, {"echo": seen.message.get("params")}))
    else:
        writer.write(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n")


def event(message: object) -> bytes:
    return chunk(b"event: message\ndata: %b\n\n" % json.dumps(message).encode())


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def call(request_id: object = 1, name: str = "t", **arguments: object) -> bytes:
    message = {
        "jsonrpc": "2.0",
        "id": request_id,
        "method": "tools/call",
        "params": {"name": name, "arguments": arguments},
    }
    return json.dumps(message).encode()


def modern(request_id: object = 1, name: str = "t", **arguments: object) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    params = {"name": name, "arguments": arguments, "_meta": META}
    body = json.dumps({"jsonrpc": "2.0", "id": request_id, "method": "tools/call", "params": params}).encode()
    return body, [
        (b"mcp-protocol-version", b"2026-07-28"),
        (b"mcp-method", b"tools/call"),
        (b"mcp-name", name.encode()),
    ]


class Rig:
    """A running gate. `a` takes the tokens `secret` (alice) and `other` (bob), `p` is public, `o` checks its callers.

    All are served by the upstreams given.
    """

    def __init__(self, paths: Paths, client: HttpClient, url: str, gate: Gate) -> None:
        self.paths = paths
        self.client = client
        self.url = url
        self.end_streams = gate.end_streams
        self.routes = gate._routes

    async def post(
        self, body: bytes, *headers: tuple[bytes, bytes], path: str = "/a/mcp", token: str = "secret"
    ) -> Response:
        sent = [JSON, *headers]
        if token:
            sent.append((b"authorization", b"Bearer " + token.encode()))
        return await self.client.request("POST", path, sent, body)

    async def answer(self, body: bytes, *headers: tuple[bytes, bytes], **options: str) -> tuple[int, dict[str, Any]]:
        response = await self.post(body, *headers, **options)
        return response.status, json.loads(await response.read(10_000_000))

    async def op(self, **request: object) -> dict[str, Any]:
        reader, writer = await asyncio.open_unix_connection(self.paths.gate_socket)
        writer.write(json.dumps(request).encode() + b"\n")
        answer = json.loads(await reader.readline())
        writer.close()
        return answer

    def lines(self) -> list[dict[str, Any]]:
        """The call record, as far as it is on disk."""
        return record(self.paths)


def record(paths: Paths) -> list[dict[str, Any]]:
    return [json.loads(line) for file in sorted(paths.calls.glob("*.jsonl")) for line in file.read_text().splitlines()]


def prepare(directory: Path, addresses: list[str], *, foreign: bool = False, **limits: int) -> Paths:
    """A data directory whose table has apps `a` (tokens `secret`, `other`), `p` (public) and `o` (access `app`)."""
    data = directory / "data"
    paths = Paths(data, directory / run_directory(data.resolve()).name)
    paths.prepare()
    instances = [routing_table.InstanceAddress(f"i{number}", address) for number, address in enumerate(addresses)]
    apps = {
        name: routing_table.App(
            name,
            1,
            access,
            instances=instances,
            hosts=[f"{name}.example.org"],
            limits=routing_table.AppLimits(**limits),
            foreign=foreign,
        )
        for name, access in (("a", "gate"), ("p", "public"), ("o", "app"))
    }
    apps["down"] = routing_table.App("down", 1, "public", state="crashed")
    names = {"secret": "alice", "other": "bob"}
    tokens = [Token(digest(token), "a", name, n, ["read", "write"]) for n, (token, name) in enumerate(names.items())]
    TokenWriter(paths.tokens).write(tokens)
    routing_table.save(paths.routes, routing_table.Table(1, "localhost", apps))
    return paths


@asynccontextmanager
async def running(paths: Paths, *proxies: str, bind: Bind = ANY_PORT) -> AsyncIterator[Rig]:
    """A gate on a prepared data directory, which believes the `proxies`."""
    gate = Gate(paths, proxies=TrustedProxies(proxies) if proxies else None)
    stop, ready = asyncio.Event(), asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(serve(gate, bind, Limits(shutdown_seconds=2), on_ready=ready.set_result, stop=stop))
    url = await ready
    client = HttpClient(url)
    try:
        yield Rig(paths, client, url, gate)
    finally:
        await client.close()
        stop.set()
        await serving


@asynccontextmanager
async def rig(
    directory: Path,
    *upstreams: Upstream,
    addresses: tuple[str, ...] = (),
    foreign: bool = False,
    proxies: tuple[str, ...] = (),
    bind: Bind = ANY_PORT,
    **limits: int,
) -> AsyncIterator[Rig]:
    async with AsyncExitStack() as stack:
        for upstream in upstreams:
            server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
            stack.push_async_callback(server.wait_closed)
            stack.callback(server.close)
            upstream.address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        all_addresses = [*(upstream.address for upstream in upstreams), *addresses]
        paths = prepare(directory, all_addresses, foreign=foreign, **limits)
        yield await stack.enter_async_context(running(paths, *proxies, bind=bind))
