"""Calls whose clients have left give their places to others, and no caller keeps the others out."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from portway.host.gate import in_flight
from tests.gate.running_gate import Rig, Seen, Upstream, call, echo, modern, rig
from tests.gate.test_endings import settle
from tests.gate.test_sessions import SESSION, Client, initialize, message, minting, run

if TYPE_CHECKING:
    from pathlib import Path


class Silent:
    """An instance whose tool `never` does not answer until it is cancelled by a notification or a closed request."""

    def __init__(self) -> None:
        self.came, self.left = asyncio.Semaphore(0), asyncio.Semaphore(0)
        self.cancelled: list[Any] = []
        self.upstream = Upstream(minting(b"own", self.script))

    async def script(self, seen: Seen, writer: asyncio.StreamWriter) -> None:
        if b'"never"' in seen.body:
            self.came.release()
            await seen.connection.read()
            self.left.release()
        else:
            if b"notifications/cancelled" in seen.body:
                self.cancelled.append(seen.message["params"]["requestId"])
            if seen.body:
                await echo(seen, writer)
            else:
                writer.write(b"HTTP/1.1 405 No\r\ncontent-length: 0\r\n\r\n")

    def ids(self) -> list[Any]:
        """The ids of the calls that came, in order."""
        return [seen.message["id"] for seen in self.upstream.requests if b'"never"' in seen.body]


async def taken(gate: Rig) -> int:
    return int((await gate.op(op="stats"))["apps"]["a"]["in_flight"])


async def leave(gate: Rig, silent: Silent, asked: Any) -> None:
    """Make a call, close its request, and return once the gate has seen it."""
    before = await taken(gate)
    task = asyncio.ensure_future(asked)
    await silent.came.acquire()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    while await taken(gate) > before:
        pass


@pytest.mark.slow
def test_clients_that_leave_give_their_places_back_and_the_calls_over_the_bound_are_cancelled(tmp_path: Path) -> None:
    async def test() -> None:
        silent = Silent()
        async with rig(tmp_path, silent.upstream, in_flight=3) as gate:
            client, other = await initialize(gate), await initialize(gate, "other")
            await leave(gate, silent, other.post(call("other", "never")))
            for number in range(7):
                await leave(gate, silent, client.post(call(number, "never")))
            assert (await client.answer(call("after")))[0] == 200
            while len(silent.cancelled) < 5:
                await gate.op(op="stats")
            ids = silent.ids()
            assert silent.cancelled == ids[1:6], "the oldest of the caller that holds the most"
            assert (await gate.op(op="drain", instance="i0", seconds=5))["in_flight"] == 3
            assert (await client.ask("DELETE")).status == 204
            assert (await other.ask("DELETE")).status == 204
            while len(silent.cancelled) < 8:
                await gate.op(op="stats")
            assert sorted(silent.cancelled) == sorted(ids)

    run(test())


def test_a_call_without_its_client_ends_after_a_time_and_its_instance_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(in_flight, "_DETACHED", 0.05)

    async def test() -> None:
        silent = Silent()
        async with rig(tmp_path, silent.upstream) as gate:
            client = await initialize(gate)
            for session in (client.session, b""):
                header = [(SESSION, session)] if session else []
                await leave(gate, silent, gate.post(call("mine", "never"), *header))
                await silent.left.acquire()
                await settle(gate)
            assert silent.cancelled == silent.ids()[:1], "without a session its request is closed"
        assert [line["outcome"] for line in gate.lines()[2:4]] in (["cancelled", "ok"], ["cancelled", "cancelled"])

    run(test())


def test_a_cancelled_call_that_its_instance_never_answers_is_answered_by_the_gate_and_gives_its_place_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(in_flight, "_CANCEL_SECONDS", 0.05)

    async def test() -> None:
        silent = Silent()
        async with rig(tmp_path, silent.upstream) as gate:
            client = await initialize(gate)
            waiting = asyncio.ensure_future(client.answer(call(1, "never")))
            await silent.came.acquire()
            assert (await client.post(message("notifications/cancelled", requestId=1))).status == 202
            error = {"code": -32800, "message": "Request cancelled"}
            assert await waiting == (200, {"jsonrpc": "2.0", "id": 1, "error": error})
            await settle(gate)
            assert silent.cancelled == silent.ids()

    run(test())


@pytest.mark.slow
def test_a_batch_whose_client_has_left_gives_its_place_back(tmp_path: Path) -> None:
    async def test() -> None:
        silent = Silent()
        async with rig(tmp_path, silent.upstream, in_flight=2) as gate:
            version = (b"mcp-protocol-version", b"2025-03-26")
            task = asyncio.ensure_future(gate.post(b"[%b]" % call(1, "never"), version))
            await silent.came.acquire()
            assert await taken(gate) == 2
            task.cancel()
            while await taken(gate) > 1:
                pass
            assert (await gate.answer(call(2)))[0] == 200

    run(test())


@pytest.mark.slow
def test_two_hundred_and_sixty_two_connections_that_closed_hold_up_nobody(tmp_path: Path) -> None:
    async def test() -> None:
        silent = Silent()
        async with rig(tmp_path, silent.upstream) as gate:
            client = await initialize(gate)
            body, headers = modern(1, "never")
            for batch in (lambda: client.post(call(1, "never")), lambda: gate.post(body, *headers)):
                tasks = [asyncio.ensure_future(batch()) for _ in range(262)]
                for _ in range(256):
                    await silent.came.acquire()
                assert (await gate.answer(call("late")))[0] == 429
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                while await taken(gate):
                    pass
                assert (await gate.answer(call("after")))[0] == 200

    run(test())


@pytest.mark.slow
@pytest.mark.parametrize("app", ["a", "p"])
def test_a_caller_that_holds_every_place_does_not_keep_the_others_out(tmp_path: Path, app: str) -> None:
    async def test() -> None:
        silent = Silent()
        async with rig(tmp_path, silent.upstream, in_flight=4) as gate:

            async def refused(token: str) -> int:
                response = await gate.post(call("late"), token=token, path=f"/{app}/mcp")
                assert "limit of calls" in json.loads(await response.read(1000))["error"]["message"]
                return response.status

            path = f"/{app}/mcp"
            held = [asyncio.ensure_future(gate.post(call(n, "never"), path=path)) for n in range(4)]
            for _ in held:
                await silent.came.acquire()
            assert await refused("secret") == 429
            if app == "a":
                held += [asyncio.ensure_future(gate.post(call(n, "never"), token="other")) for n in range(2)]
                for _ in range(2):
                    await silent.came.acquire()
                assert await refused("other") == 429, "half is an equal share of two"
                assert await refused("secret") == 429
            for task in held:
                task.cancel()
            await asyncio.gather(*held, return_exceptions=True)

    run(test())


def test_streams_of_one_caller_leave_room_for_those_of_another(tmp_path: Path) -> None:
    async def test() -> None:
        async def stream(seen: Seen, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
            await seen.connection.read()

        async with rig(tmp_path, Upstream(minting(b"own", stream)), streams=4) as gate:
            one, other = await initialize(gate), await initialize(gate, "other")

            async def opened(client: Client) -> int:
                return (await client.ask("GET")).status

            assert [await opened(one) for _ in range(5)] == [200, 200, 200, 200, 503]
            assert [await opened(other) for _ in range(3)] == [200, 200, 503]

    run(test())
