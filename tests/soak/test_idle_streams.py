"""The memory that each of ten thousand idle clients costs the server."""

from __future__ import annotations

import asyncio
import json
import re
import resource
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.support import SCRIPTS, started
from tests.transport.http_client import LEGACY, MODERN, envelope

if TYPE_CHECKING:
    from pathlib import Path

STREAMS, TOGETHER = 10_000, 100
BYTES_EACH = 20 * 1024
SERVER = """
from portway import Server

server = Server("idle", sessions=True)
"""


def request(method: str, body: bytes = b"", **headers: str) -> bytes:
    fields = {"host": "localhost", "accept": "application/json, text/event-stream", "content-type": "application/json"}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()} | {"content-length": str(len(body))}
    head = [f"{method} /mcp HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    return "\r\n".join(head).encode() + body


async def listen(port: int) -> asyncio.StreamWriter:
    """Open a modern client's `subscriptions/listen`."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = envelope("subscriptions/listen", {"notifications": {"toolsListChanged": True}})
    writer.write(request("POST", body, mcp_protocol_version=MODERN, mcp_method="subscriptions/listen"))
    assert b"acknowledged" in await reader.readuntil(b"}}\n\n")
    return writer


async def get(port: int) -> asyncio.StreamWriter:
    """Open the GET stream of a legacy client's session."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    params = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "idle", "version": "1"}}
    initialize = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}
    writer.write(request("POST", json.dumps(initialize).encode()))
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    session, length = (re.search(rf"{name}: (\S+)", head)[1] for name in ("mcp-session-id", "content-length"))  # type: ignore[index]
    await reader.readexactly(int(length))
    writer.write(request("GET", mcp_session_id=session, mcp_protocol_version=LEGACY))
    assert b"200 OK" in await reader.readuntil(b"data: \n\n")
    return writer


@pytest.mark.soak
@pytest.mark.timeout(180)
@pytest.mark.parametrize("open_one", [listen, get])
def test_an_idle_stream_costs_little_memory(tmp_path: Path, open_one: object) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    (tmp_path / "server.py").write_text(SERVER)
    command = (SCRIPTS / "portway", "run", "server.py", "--transport", "http", "--port", "0")

    async def open_all(port: int, process: psutil.Process) -> float:
        opened = [await open_one(port) for _ in range(TOGETHER)]  # type: ignore[operator]
        before = process.memory_info().rss
        for _ in range(STREAMS // TOGETHER):
            opened += await asyncio.gather(*(open_one(port) for _ in range(TOGETHER)))  # type: ignore[operator]
        grown = process.memory_info().rss - before
        for writer in opened:
            writer.close()
        return grown / STREAMS

    with started(*command, ready=r"http://127\.0\.0\.1:(\d+)", cwd=tmp_path) as child:
        assert child.match
        each = asyncio.run(open_all(int(child.match[1]), psutil.Process(child.process.pid)))
    assert each <= BYTES_EACH
