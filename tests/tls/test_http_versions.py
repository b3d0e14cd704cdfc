"""Clients of HTTP/1.1, HTTP/2 and HTTP/3 call, read a stream as it is written, and cancel by leaving."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import httpx2
import pytest
from aioquic.tls import SessionTicket

from portway.http.limits import BODY_BYTES
from tests.support import eventually
from tests.tls.certificates import write_pair
from tests.tls.http2_client import http2
from tests.tls.http3_client import http3
from tests.tls.https_client import HEADERS, META, NamedConnection
from tests.tls.test_own_certificate import https_host

pytestmark = pytest.mark.slow
SERVER = """
import asyncio
import os
from portway import Context, Server

server = Server("versions")

@server.tool
async def count(ctx: Context) -> str:
    await ctx.report_progress(1, 2)
    while not os.path.exists(os.path.expanduser("~/go")):
        await asyncio.sleep(0.01)
    return "counted"

@server.tool
async def hold(mark: str) -> None:
    open(os.path.expanduser(f"~/{mark}.held"), "w").close()
    try:
        await asyncio.Event().wait()
    finally:
        open(os.path.expanduser(f"~/{mark}.left"), "w").close()
"""
EARLY = "The request came before the TLS handshake was complete, so it may be a replay: send it again."
Post = Callable[[Mapping[str, str], bytes], AbstractAsyncContextManager[tuple[int, AsyncIterator[bytes]]]]


@contextlib.asynccontextmanager
async def by_http1(url: str, ca: Path) -> AsyncIterator[Post]:
    @contextlib.asynccontextmanager
    async def post(headers: Mapping[str, str], body: bytes) -> AsyncIterator[tuple[int, AsyncIterator[bytes]]]:
        async with client.stream("POST", url, headers=dict(headers), content=body) as response:
            yield response.status_code, response.aiter_raw()

    async with httpx2.AsyncClient(verify=ssl.create_default_context(cafile=str(ca))) as client:
        yield post


@contextlib.asynccontextmanager
async def by_http2(url: str, ca: Path) -> AsyncIterator[Post]:
    async with http2("localhost", port_of(url), ca) as client:
        yield lambda headers, body: client.post(url, headers, body)


@contextlib.asynccontextmanager
async def by_http3(url: str, ca: Path) -> AsyncIterator[Post]:
    async with http3("localhost", port_of(url), ca) as client:
        yield lambda headers, body: client.post(url, headers, body)


def port_of(url: str) -> int:
    return int(url.split(":")[2].partition("/")[0])


def message(tool: str, token: str, **arguments: str) -> tuple[dict[str, str], bytes]:
    """Return headers and body of a call of a tool."""
    params = {"name": tool, "arguments": arguments, "_meta": META | {"progressToken": 1}}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    return HEADERS | {"Mcp-Name": tool, "Authorization": f"Bearer {token}"}, json.dumps(body).encode()


async def call_stream_and_cancel(post: Post, token: str, home: Path, mark: str) -> None:
    (home / "go").unlink(missing_ok=True)
    async with post(*message("count", token)) as (status, pieces):
        assert status == 200
        read = b""
        while b"notifications/progress" not in read:  # before the tool may end
            read += await anext(pieces)
        (home / "go").touch()
        read += b"".join([piece async for piece in pieces])
        assert b"counted" in read
    holding = asyncio.create_task(hold(post, token, mark))
    await asyncio.to_thread(eventually, (home / f"{mark}.held").exists)
    holding.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await holding
    await asyncio.to_thread(eventually, (home / f"{mark}.left").exists)


async def hold(post: Post, token: str, mark: str) -> None:
    async with post(*message("hold", token, mark=mark)) as (_, pieces):
        await anext(pieces)


def test_clients_of_each_version_of_http_call_stream_and_cancel(tmp_path: Path) -> None:
    certificate, key = write_pair(tmp_path / "pair", "localhost")
    folder = tmp_path / "versions"
    folder.mkdir()
    (folder / "server.py").write_text(SERVER)
    ways = {"h1": by_http1, "h2": by_http2, "h3": by_http3}
    with https_host(tmp_path / "data", certificate, key, folder) as (running, port):

        async def use(mark: str) -> None:
            async with ways[mark](f"{running.ready['url']}/versions/mcp", certificate) as post:
                await call_stream_and_cancel(post, running.ready["token"], running.home("versions"), mark)

        for mark in ways:
            asyncio.run(use(mark))
        connection = NamedConnection("localhost", port, certificate)
        headers, _ = message("hold", running.ready["token"])
        connection.request("POST", "/versions/mcp", b" " * (BODY_BYTES + 1), headers)
        assert connection.getresponse().status == 413, "the gate's limit of a body"
        connection.close()


def test_a_call_sent_before_the_handshake_is_complete_which_anybody_could_replay_is_refused(tmp_path: Path) -> None:
    certificate, key = write_pair(tmp_path / "pair", "localhost")
    folder = tmp_path / "early"
    folder.mkdir()
    (folder / "server.py").write_text(SERVER)

    async def use(port: int, token: str) -> None:
        url, tickets, asked = f"https://localhost:{port}/early/mcp", list[SessionTicket](), message("count", token)
        async with http3("localhost", port, certificate, tickets) as client:
            async with client.post(url, *asked) as (status, _):
                assert status == 200
            await asyncio.to_thread(eventually, lambda: tickets)
        async with http3("localhost", port, certificate, tickets) as client:
            async with client.post(url, *asked, early=True) as (status, pieces):
                assert (status, b"".join([piece async for piece in pieces]).decode()) == (425, EARLY)
            async with client.post(url, *asked) as (status, _):
                assert status == 200

    with https_host(tmp_path / "data", certificate, key, folder) as (running, port):
        (running.home("early") / "go").touch()
        asyncio.run(use(port, running.ready["token"]))
