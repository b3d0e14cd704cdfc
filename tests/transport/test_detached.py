"""Calls whose clients have left give their places to others, and no caller keeps the others out."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from portway import Context, Server
from portway.http.limits import Limits
from portway.transport import http_reply
from portway.transport.http_app import HttpApp
from tests.transport.http_client import Events, Legacy, envelope, post, reply, request, served

if TYPE_CHECKING:
    from portway.http.http_client import HttpClient, Response

CANCELLED = {"code": -32800, "message": "Request cancelled"}


class Waiting:
    """An application of `limits` whose tool `wait` ends when it is told to, and says when it starts and stops."""

    def __init__(self, *, sessions: bool = True, calls: int = 1) -> None:
        server = Server("waiting", sessions=sessions)
        self.started: asyncio.Queue[int] = asyncio.Queue()
        self.stopped: asyncio.Queue[int] = asyncio.Queue()
        self.end = asyncio.Event()

        @server.tool
        async def wait(number: int, ctx: Context) -> str:
            await ctx.report_progress(1)
            self.started.put_nowait(number)
            try:
                await self.end.wait()
            finally:
                self.stopped.put_nowait(number)
            return "done"

        self.app = HttpApp(server, limits=Limits(calls=calls))

    async def leave(self, client: Legacy, number: int) -> None:
        """Make a call, close its connection, and return once another call finds a place."""
        response = await client.call("wait", number, number=number)
        assert await self.started.get() == number
        assert await ping(client) == 503
        await response.close()
        await placed(client)


async def ping(client: Legacy) -> int:
    response = await client.send("ping", request_id="ping")
    await response.read(9999)
    return response.status


async def placed(client: Legacy) -> None:
    """Return once there is a place for a call."""
    async with asyncio.timeout(120):
        while await ping(client) == 503:
            pass


def test_calls_without_their_clients_hold_no_places_and_one_too_many_ends_the_oldest() -> None:
    waiting = Waiting()

    async def scenario(_: str, client: HttpClient) -> None:
        one, other = await Legacy(client).initialize(), await Legacy(client).initialize()
        for number in range(20):
            await waiting.leave(one, number)
            if number:
                assert await waiting.stopped.get() == number - 1
        assert (await one.send("notifications/cancelled", {"requestId": 19}, None)).status == 202
        assert await waiting.stopped.get() == 19
        await waiting.leave(other, 20)
        assert (await request(client, "DELETE", **other.headers)).status == 204
        assert await waiting.stopped.get() == 20, "it ended with its session"

    served(scenario, waiting.app)


@pytest.mark.parametrize("sessions", [True, False])
def test_a_call_whose_client_does_not_come_back_ends_after_a_time(
    monkeypatch: pytest.MonkeyPatch, sessions: bool
) -> None:
    monkeypatch.setattr(http_reply, "DETACHED_SECONDS", 0.01)
    waiting = Waiting(sessions=sessions)

    async def scenario(_: str, client: HttpClient) -> None:
        await waiting.leave(await Legacy(client).initialize(), 1)
        assert await waiting.stopped.get() == 1

    served(scenario, waiting.app)


def test_a_call_whose_stream_is_followed_goes_on_however_long_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_reply, "DETACHED_SECONDS", 0)
    waiting = Waiting()

    async def scenario(_: str, client: HttpClient) -> None:
        legacy = await Legacy(client).initialize()
        events = Events(await legacy.call("wait", number=1))
        first = await events.next()
        assert first is not None
        again = Events(await legacy.get(first.id.decode()))
        await again.next()
        await events.leave()
        for _ in range(3):
            await placed(legacy)
        assert waiting.stopped.empty()
        waiting.end.set()
        final = (await again.rest())[-1].data or b""
        assert json.loads(final)["result"]["content"][0]["text"] == "done"

    served(scenario, waiting.app)


def batch(*ids: int) -> list[dict[str, Any]]:
    params = [{"name": "wait", "arguments": {"number": number}} for number in ids]
    calls = [
        {"jsonrpc": "2.0", "id": one["arguments"]["number"], "method": "tools/call", "params": one} for one in params
    ]  # type: ignore[index]
    return [*calls, {"jsonrpc": "2.0", "id": "last", "method": "ping"}]


def test_the_calls_of_a_batch_are_cancelled_one_by_one_started_or_not() -> None:
    waiting = Waiting(calls=2)

    async def scenario(_: str, client: HttpClient) -> None:
        legacy = await Legacy(client, "2025-03-26").initialize()
        asked = asyncio.ensure_future(legacy.raw(batch(1, 2)))
        assert await waiting.started.get() == 1
        for number in (2, 1):
            assert (await legacy.send("notifications/cancelled", {"requestId": number}, None)).status == 202
        assert await waiting.stopped.get() == 1
        first, second, last = await reply(await asked)
        assert (first["error"], second["error"], last["result"]) == (CANCELLED, CANCELLED, {})
        assert waiting.started.empty()

    served(scenario, waiting.app)


def test_a_batch_whose_client_has_left_holds_no_place_and_ends_with_its_session() -> None:
    waiting = Waiting()

    async def scenario(url: str, client: HttpClient) -> None:
        legacy = await Legacy(client, "2025-03-26").initialize()
        asked = asyncio.ensure_future(legacy.raw(batch(1, 2)))
        assert await waiting.started.get() == 1
        assert await ping(legacy) == 503
        asked.cancel()
        await placed(legacy)
        assert (await request(client, "DELETE", **legacy.headers)).status == 204
        assert await waiting.stopped.get() == 1
        await placed(await Legacy(client).initialize())
        assert waiting.started.empty()

    served(scenario, waiting.app)


def test_a_caller_without_a_token_is_its_address_and_keeps_no_other_address_out() -> None:
    waiting = Waiting(sessions=False, calls=4)

    async def from_address(url: str, address: str, number: int) -> tuple[int, asyncio.StreamWriter]:
        """Call the tool from an address of this machine; return the status once there is one."""
        host, port = url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port), local_addr=(address, 0))
        body = json.dumps(
            {
                "jsonrpc": "2.0",
                "id": number,
                "method": "tools/call",
                "params": {"name": "wait", "arguments": {"number": number}, "_meta": {"progressToken": 0}},
            }
        ).encode()
        head = "POST /mcp HTTP/1.1\r\nhost: localhost\r\naccept: */*\r\ncontent-type: application/json\r\n"
        writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        return int((await reader.readline()).split()[1]), writer

    async def scenario(url: str, client: HttpClient) -> None:
        legacy = await Legacy(client).initialize()
        attempts = [("127.0.0.1", 5), ("127.0.0.2", 3), ("127.0.0.1", 1)]
        calls = [await from_address(url, address, number) for address, times in attempts for number in range(times)]
        assert [status for status, _ in calls] == [200] * 4 + [503] + [200] * 2 + [503] + [503]
        for _, writer in calls:
            writer.close()
            await writer.wait_closed()
        await placed(legacy)
        waiting.end.set()

    served(scenario, waiting.app)


def test_the_call_of_a_modern_client_that_leaves_is_cancelled() -> None:
    waiting = Waiting()

    async def scenario(_: str, client: HttpClient) -> None:
        legacy = await Legacy(client).initialize()
        for number in range(3):
            params = {"name": "wait", "arguments": {"number": number}}
            headers = {"mcp_protocol_version": "2026-07-28", "mcp_method": "tools/call", "mcp_name": "wait"}
            asked: asyncio.Task[Response] = asyncio.create_task(
                post(client, envelope("tools/call", params, number), **headers)
            )
            assert await waiting.started.get() == number
            asked.cancel()
            assert await waiting.stopped.get() == number
            await placed(legacy)

    served(scenario, waiting.app)
