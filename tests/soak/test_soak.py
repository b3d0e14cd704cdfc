"""Minutes of calls in both eras by clients that connect, leave and disconnect: no reply is lost, nothing leaks."""

from __future__ import annotations

import http.client
import json
import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from tests.support import SCRIPTS, WEATHER, eventually, started

MINUTES = float(os.environ.get("PORTWAY_SOAK_MINUTES", "1"))
CLIENTS = 4
CALLS_PER_CONNECTION = 200
WARM_SHARE = 0.2
GROWTH = 4 * 1024 * 1024  # bytes that the allocator may still take after the warm-up
META = {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}
HEADERS = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
MODERN = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": "get_weather"}
LEGACY = {"MCP-Protocol-Version": "2025-11-25"}


def request(number: int) -> tuple[str, bytes, dict[str, str]]:
    """Return city, body and headers of the call of that number; the eras alternate."""
    city, modern = f"city-{number}", number % 2
    params = {"name": "get_weather", "arguments": {"city": city}} | ({"_meta": META} if modern else {})
    message = {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}
    return city, json.dumps(message).encode(), HEADERS | (MODERN if modern else LEGACY)


def call_until(deadline: float, port: int) -> int:
    """Call in sequence, `CALLS_PER_CONNECTION` per connection, and leave the last reply of each unread."""
    number = 0
    while time.monotonic() < deadline:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        for _ in range(CALLS_PER_CONNECTION):
            number += 1
            city, body, headers = request(number)
            connection.request("POST", "/mcp", body, headers)
            answer = json.loads(connection.getresponse().read())
            assert answer["id"] == number
            assert answer["result"]["structuredContent"]["city"] == city
        connection.request("POST", "/mcp", body, headers)
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # close with a reset
        connection.close()
    return number


def load(minutes: float, port: int) -> int:
    """Call with `CLIENTS` clients for that time; return the number of calls."""
    deadline = time.monotonic() + minutes * 60
    with ThreadPoolExecutor(CLIENTS) as pool:
        return sum(pool.map(lambda _: call_until(deadline, port), range(CLIENTS)))


@pytest.mark.soak
@pytest.mark.timeout(MINUTES * 60 + 120)
def test_a_server_answers_for_minutes_without_leaking_memory_or_descriptors() -> None:
    command = (SCRIPTS / "portway", "run", WEATHER, "--transport", "http", "--host", "127.0.0.1", "--port", "0")
    with started(*command, ready=r"http://127\.0\.0\.1:(\d+)") as child:
        assert child.match
        port, process = int(child.match[1]), psutil.Process(child.process.pid)
        idle = process.num_fds()
        assert load(MINUTES * WARM_SHARE, port) > 0
        warm = process.memory_info().rss
        assert load(MINUTES * (1 - WARM_SHARE), port) > 0
        assert process.memory_info().rss <= warm * 1.05 + GROWTH
        assert eventually(lambda: process.num_fds() <= idle)
        assert len(child.lines) == 1, "a client's behaviour does not belong in the log"
        child.process.terminate()
        assert child.process.wait(120) == 0
