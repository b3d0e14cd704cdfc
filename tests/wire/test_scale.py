"""The cost of ten thousand idle streams, and of large arguments and results."""

from __future__ import annotations

import json
import resource
import socket
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.support import ROOT, SCRIPTS, started
from tests.wire.conversation import INITIALIZE
from tests.wire.http_server import LEGACY, MODERN, VERSIONS, Client, request

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support import Started

pytestmark = pytest.mark.slow
STREAMS = 10_000
STREAM_BYTES = 20 * 1024
SIZES = (1024 * 1024, 4_000_000)  # bytes, both larger than a processor's cache, which makes smaller ones cheaper


@contextmanager
def running(file: Path) -> Iterator[tuple[Started, int]]:
    command = (SCRIPTS / "portway", "run", file, "--transport", "http", "--host", "127.0.0.1", "--port", "0")
    with started(*command, ready=r"http://127\.0\.0\.1:(\d+)") as child:
        assert child.match
        yield child, int(child.match[1])


def open_stream(client: Client, version: str) -> socket.socket:
    """Open a connection with a modern subscription, or with the GET stream of a new legacy session."""
    if version == MODERN:
        message, headers = request(MODERN, "subscriptions/listen", {"notifications": {"toolsListChanged": True}})
        verb, body, opened = "POST", json.dumps(message).encode(), b"acknowledged"
    else:
        session = client.ask(LEGACY, "initialize", INITIALIZE).headers["mcp-session-id"]
        verb, body, opened = "GET", b"", b"data: \n\n"
        _, headers = request(LEGACY, "", session=session)
    lines = {"Host": client.authority, "Content-Length": str(len(body))} | headers
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    connection = socket.create_connection(("127.0.0.1", int(client.authority.rpartition(":")[2])), timeout=120)
    connection.sendall(f"{verb} /mcp HTTP/1.1\r\n{head}\r\n".encode() + body)
    read_until(connection, opened)
    return connection


def read_until(connection: socket.socket, what: bytes) -> None:
    received = b""
    while what not in received:
        piece = connection.recv(65536)
        assert piece, received
        received += piece


@pytest.mark.parametrize("version", VERSIONS)
def test_ten_thousand_idle_streams_take_20_kb_each_and_all_get_a_change(version: str) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = STREAMS + 1500
    if hard != resource.RLIM_INFINITY and hard < needed:
        pytest.skip(f"one process may open {hard} files here, and {STREAMS} connections need {needed}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))
    try:
        with running(ROOT / "examples" / "everything" / "server.py") as (child, port), ExitStack() as connections:
            process = psutil.Process(child.process.pid)
            client = Client(f"http://127.0.0.1:{port}", validated=False)
            kept = [connections.enter_context(open_stream(client, version)) for _ in range(500)]
            before = process.memory_info().rss
            kept += [connections.enter_context(open_stream(client, version)) for _ in range(STREAMS)]
            each = (process.memory_info().rss - before) / STREAMS
            client.ask(MODERN, "tools/call", {"name": "test_trigger_tool_change"})
            client.close()
            for connection in kept:
                read_until(connection, b"tools/list_changed")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert each <= STREAM_BYTES, f"{each / 1024:.1f} KB each"


def usage(client: Client) -> tuple[float, float, float]:
    seconds, resident, peak = client.ask(LEGACY, "tools/call", {"name": "cost"}).last["result"]["structuredContent"][
        "result"
    ]
    return seconds, resident, peak


def cost(client: Client, version: str, tool: str, size: int) -> float:
    """Return the CPU seconds of one call."""
    arguments = {"text": "x" * size} if tool == "take" else {"size": size}
    message, headers = request(version, "tools/call", {"name": tool, "arguments": arguments})
    body = json.dumps(message).encode()
    calls = max(5, 10_000_000 // (size + 10_000))
    started_at = usage(client)[0]
    for _ in range(calls):
        assert client.send(body, headers).status == 200
    return (usage(client)[0] - started_at) / calls


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process's memory is read from /proc")
@pytest.mark.parametrize("tool", ["take", "make"])
@pytest.mark.parametrize("version", VERSIONS)
def test_time_grows_with_the_payload_and_memory_stays_within_eight_times_of_it(version: str, tool: str) -> None:
    with running(Path(__file__).with_name("memory_server.py")) as (_, port):
        client = Client(f"http://127.0.0.1:{port}", validated=False)
        client.ask(version, "tools/call", {"name": tool, "arguments": {"text": "x"} if tool == "take" else {"size": 1}})
        _, resident, _ = usage(client)
        seconds = {size: min(cost(client, version, tool, size) for _ in range(4)) for size in SIZES}
        smaller, largest = SIZES
        for _ in range(120):  # other load only adds to a measurement, so the minimum counts; it may last for seconds
            if seconds[largest] / largest <= 1.3 * seconds[smaller] / smaller:
                break
            seconds[largest] = min(seconds[largest], cost(client, version, tool, largest))
        _, _, peak = usage(client)
        client.close()
    nanoseconds = {size: round(1e9 * each / size, 1) for size, each in seconds.items()}
    assert nanoseconds[largest] <= 1.3 * nanoseconds[smaller], f"nanoseconds a byte: {nanoseconds}"
    assert peak - resident <= 8 * largest
