"""A thousand clients that only listen, each over TLS. What they cost in memory is in benchmarks/RESULTS.md."""

from __future__ import annotations

import asyncio
import json
import ssl
from pathlib import Path

import pytest

from tests.tls.certificates import write_pair
from tests.tls.https_client import HEADERS, META
from tests.tls.test_own_certificate import NAMES, https_host

pytestmark = pytest.mark.slow
STREAMS, AT_ONCE = 1000, 50
SERVER = """
from portway import Server

server = Server("lists")


@server.tool
def grow() -> None:
    server.tool(lambda: 1, name="grown")
"""
ASKED = {"notifications": {"toolsListChanged": True}}


def request(token: str, method: str, params: dict[str, object]) -> bytes:
    """Return a whole request of the modern era."""
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params | {"_meta": META}})
    headers = HEADERS | {"Host": "localhost", "Authorization": f"Bearer {token}", "Mcp-Method": method}
    headers["Mcp-Name"] = str(params.get("name", ""))
    lines = [f"{name}: {value}" for name, value in headers.items() if value]
    return "\r\n".join(["POST /lists/mcp HTTP/1.1", *lines, f"Content-Length: {len(body)}", "", body]).encode()


async def told(
    port: int, trust: ssl.SSLContext, token: str, place: asyncio.Semaphore, begun: asyncio.Future[None]
) -> bytes:
    """Listen; return what came up to the news that the tools have changed. `begun` is done once the stream is open."""
    async with place:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trust, server_hostname="localhost")
        writer.write(request(token, "subscriptions/listen", ASKED))
        seen = await reader.readuntil(b"notifications/subscriptions/acknowledged")
    begun.set_result(None)
    try:
        return seen + await reader.readuntil(b"notifications/tools/list_changed")
    finally:
        writer.transport.abort()


def test_a_thousand_idle_event_streams_through_tls_are_all_told_of_a_change(tmp_path: Path) -> None:
    certificate, key = write_pair(tmp_path / "pair", *NAMES)
    folder = tmp_path / "lists"
    folder.mkdir()
    (folder / "server.py").write_text(SERVER)
    trust = ssl.create_default_context(cafile=str(certificate))

    async def listen(port: int, token: str) -> list[bytes]:
        begun = [asyncio.get_running_loop().create_future() for _ in range(STREAMS)]
        place = asyncio.Semaphore(AT_ONCE)
        async with asyncio.TaskGroup() as group:
            listening = [group.create_task(told(port, trust, token, place, each)) for each in begun]
            await asyncio.wait_for(asyncio.gather(*begun), 150)
            assert not any(task.done() for task in listening), "they are idle"
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trust, server_hostname="localhost")
            writer.write(request(token, "tools/call", {"name": "grow", "arguments": {}}))
            assert b"200" in await reader.readline()
            writer.transport.abort()
        return [task.result() for task in listening]

    with https_host(tmp_path / "data", certificate, key, folder) as (running, port):
        answers = asyncio.run(listen(port, running.ready["token"]))
        assert len(answers) == STREAMS
        assert all(answer.startswith(b"HTTP/1.1 200") for answer in answers)
