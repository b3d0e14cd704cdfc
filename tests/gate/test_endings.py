"""Every way a request can end: nothing stays counted, nothing is kept, and the record has its one line."""

from __future__ import annotations

import asyncio
import gc
import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from portway.host.gate.reply_stream import RelayedStream
from tests.gate.running_gate import META, STREAM, Rig, Seen, Upstream, call, chunk, echo, event, modern, result, rig
from tests.gate.test_sessions import SESSION, Client, initialize, message, minting, run, text_until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

NOTE = {"jsonrpc": "2.0", "method": "notifications/x", "params": {}}
LISTEN = [(b"mcp-protocol-version", b"2026-07-28"), (b"mcp-method", b"subscriptions/listen")]


class Instance:
    """An instance that does what the name of the tool says; `left` is released when a stream's other side closes."""

    def __init__(self) -> None:
        self.left = asyncio.Semaphore(0)
        self.came = asyncio.Semaphore(0)

    async def script(self, seen: Seen, writer: asyncio.StreamWriter) -> None:
        asked = seen.message if seen.body else {"method": "GET"}
        params = asked.get("params", {})
        what = params.get("name") or params.get("what") or seen.headers.get("last-event-id", "")
        if what == "dies":
            writer.transport.abort()
        elif what == "hangs":
            self.came.release()
            await seen.connection.read()  # to its end
            self.left.release()
        elif what == "405":
            writer.write(b"HTTP/1.1 405 No\r\ncontent-length: 0\r\n\r\n")
        elif what:
            await self.stream(what, asked.get("id"), writer)
        elif asked["method"] == "DELETE":
            writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        else:
            await echo(seen, writer)

    async def stream(self, what: str, own: object, writer: asyncio.StreamWriter) -> None:
        reply = event({"jsonrpc": "2.0", "id": own, "result": {}})
        writer.write(STREAM + event(NOTE))
        if what in PIECES:
            writer.write(PIECES[what])
        elif what == "primes":
            writer.write(chunk(b"id: 1\ndata:\n\n"))
        if what in ("open", "primes"):
            while not writer.transport.is_closing():
                await asyncio.get_running_loop().run_in_executor(None, int)
                writer.write(chunk(b":\n\n"))
            self.left.release()
        elif what == "cuts":
            await writer.drain()
            writer.transport.abort()
        elif what != "ends":
            writer.write(reply)
        if not writer.transport.is_closing():
            writer.write(b"0\r\n\r\n")


PIECES = {
    "odd": chunk(
        b"id: 1\0 2\nretry: 1e9\nevent: \xff\ndata:\ndata\n\n:" + b"x" * 9000 + b"\n\n\n\n\nretry: 99999999999\n\n"
    ),
    "flood": chunk(b":\n" * 40_000 + b"id: x\n\n" * 9000) + event(NOTE) * 500,
    "endless line": chunk(b":" + b"y" * 65_000) * 280,
    "short lines": chunk(b"data: a\n" * 400_000),
    "foreign reply": event({"jsonrpc": "2.0", "id": 7, "result": {}}),
    "no JSON": chunk(b"data: hello\n\n"),
}
STREAMS = {
    "replies": (b'"result"', "ok"),
    "ends": (b"without the reply", "cut"),
    "cuts": (b"before the reply was whole", "cut"),
    "odd": (b'"result"', "ok"),
    "flood": (b'"result"', "ok"),
    "endless line": (b"larger than 16777216 bytes", "cut"),
    "short lines": (b"larger than 16777216 bytes", "cut"),
    "foreign reply": (b"not the reply to this request", "cut"),
    "no JSON": (b"not JSON-RPC", "cut"),
}


async def settle(gate: Rig) -> None:
    """Return once nothing is counted any more."""
    while True:
        counts = (await gate.op(op="stats"))["apps"]["a"]
        busy = (await gate.op(op="drain", instance="i0", seconds=0))["in_flight"]
        if (counts["in_flight"], counts["streams"], busy) == (0, 0, 0):
            return


def check(gate: Rig, outcomes: list[str]) -> None:
    """The record says so, in order and without a gap, and no stream is still looked after."""
    lines = gate.lines()
    assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))
    assert [line["outcome"] for line in lines[1:]] == outcomes
    gc.collect()
    assert not [found for found in gc.get_objects() if type(found) is RelayedStream]


def test_every_end_of_a_stream_is_the_end_of_it(tmp_path: Path) -> None:
    async def test() -> None:
        instance = Instance()
        async with rig(tmp_path, Upstream(instance.script)) as gate:
            for what, (end, _) in STREAMS.items():
                body, headers = modern(1, what)
                text = await (await gate.post(body, *headers)).read(20_000_000)
                assert end in text.splitlines()[-2], what
                assert b'"id":1,' in text.splitlines()[-2]
                await settle(gate)
        check(gate, [outcome for _, outcome in STREAMS.values()])

    run(test())


def listen(what: str) -> bytes:
    return message("subscriptions/listen", 1, notifications={}, what=what, _meta=META)


async def post(gate: Rig, client: Client, what: str) -> Any:
    return await client.post(call(1, what))


async def post_modern(gate: Rig, client: Client, what: str) -> Any:
    body, headers = modern(1, what)
    return await gate.post(body, *headers)


async def post_listen(gate: Rig, client: Client, what: str) -> Any:
    return await gate.post(listen(what), *LISTEN)


async def get(gate: Rig, client: Client, what: str) -> Any:
    return await client.ask("GET", (b"last-event-id", what.encode()))


@pytest.mark.parametrize(
    ("ask", "what", "outcome"),
    [
        (post_modern, "open", "cancelled"),
        (post_modern, "hangs", "cancelled"),
        (post, "primes", "cancelled"),
        (post_listen, "open", "ok"),
        (post_listen, "hangs", "ok"),
        (get, "open", "ok"),
        (get, "hangs", "ok"),
    ],
)
def test_a_client_that_leaves_is_the_end_of_its_request(
    tmp_path: Path, ask: Callable[..., Awaitable[Any]], what: str, outcome: str
) -> None:
    async def test() -> None:
        instance = Instance()
        async with rig(tmp_path, Upstream(minting(b"own", instance.script))) as gate:
            client = await initialize(gate)
            asked = asyncio.ensure_future(ask(gate, client, what))
            if what == "hangs":
                await instance.came.acquire()
                asked.cancel()
                await asyncio.gather(asked, return_exceptions=True)
            else:
                await text_until(await asked, b"id: " if what == "primes" else b"notifications/x")
                await (await asked).close()
            await instance.left.acquire()
            if what == "primes":  # it goes on, for its client to fetch the reply, until the session ends
                assert (await gate.op(op="drain", instance="i0", seconds=0))["in_flight"] == 1
                assert (await client.ask("DELETE")).status == 204
            await settle(gate)
        check(gate, ["ok", outcome, *(["ok"] if what == "primes" else [])])

    run(test())


@pytest.mark.parametrize(
    ("ask", "what", "outcome"),
    [
        (get, "ends", "ok"),
        (get, "cuts", "cut"),
        (get, "405", "status 405"),
        (get, "dies", "cut"),
        (post_listen, "ends", "cut"),
        (post_listen, "cuts", "cut"),
        (post_listen, "dies", "cut"),
        (post, "dies", "cut"),
        (post, "405", "status 405"),
    ],
)
def test_an_instance_that_ends_a_request_ends_it_and_no_application_is_blamed(
    tmp_path: Path, ask: Callable[..., Awaitable[Any]], what: str, outcome: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        async with rig(tmp_path, Upstream(minting(b"own", Instance().script))) as gate:
            client = await initialize(gate)
            response = await ask(gate, client, what)
            if (ask, what) == (get, "cuts"):
                with pytest.raises(Exception, match="before the reply was whole"):
                    await response.read(1000)
            else:
                await response.read(1000)
            await settle(gate)
        check(gate, ["ok", outcome])

    run(test())
    assert "The application" not in caplog.text


def test_a_legacy_call_goes_on_without_its_client_and_the_gates_stop_ends_streams(tmp_path: Path) -> None:
    async def test() -> None:
        instance, go = Instance(), asyncio.Event()

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            if b'"waits"' in seen.body:
                instance.came.release()
                await go.wait()
                writer.write(result(seen, {}))
            else:
                await instance.script(seen, writer)

        async with rig(tmp_path, Upstream(minting(b"own", script))) as gate:
            client = await initialize(gate)
            asked = asyncio.ensure_future(client.post(call(1, "waits")))
            await instance.came.acquire()
            asked.cancel()
            assert (await gate.op(op="stats"))["apps"]["a"]["in_flight"] == 1
            go.set()
            await settle(gate)
            streams = [await get(gate, client, "open"), await post_listen(gate, client, "open")]
            pending = asyncio.ensure_future(post_listen(gate, client, "hangs"))
            await instance.came.acquire()
            for stream in streams:
                await text_until(stream, b"notifications/x")
            gate.end_streams()
            for stream in streams:
                await stream.read(1000)
            assert (await pending).status == 504
            await settle(gate)
        lines = gate.lines()
        assert sorted(line["outcome"] for line in lines[2:]) == ["cut", "ok", "ok", "ok"]
        check(gate, [line["outcome"] for line in lines[1:]])

    run(test())


def test_elements_of_a_batch_are_told_and_asked_on_its_stream(tmp_path: Path) -> None:
    async def test() -> None:
        answered = asyncio.Event()

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            if seen.message.get("params", {}).get("name") == "asks":
                question = {"jsonrpc": "2.0", "id": "q", "method": "elicitation/create", "params": {}}
                writer.write(STREAM + event(question))
                await answered.wait()
                writer.write(event({"jsonrpc": "2.0", "id": seen.message["id"], "result": {}}) + b"0\r\n\r\n")
            else:
                is_answer = "method" not in seen.message
                if is_answer:
                    answered.set()
                await echo(Seen(seen.head, b"", seen.connection) if is_answer else seen, writer)

        version = (b"mcp-protocol-version", b"2025-03-26")
        async with rig(tmp_path, Upstream(minting(b"own", script))) as gate:
            client = await initialize(gate)
            batch = b"[%b,%b,%b,{}]" % (call(1), call(2, "asks"), call(3))
            response = await gate.post(batch, version, (SESSION, client.session))
            assert dict(response.headers)[b"content-type"] == b"text/event-stream"
            text = await text_until(response, b'"elicitation/create"')
            assert (await client.post(b'{"jsonrpc":"2.0","id":"q","result":{}}')).status == 202
            text += await response.read(10_000)
            said = [json.loads(line[6:]) for line in text.splitlines() if line.startswith(b"data: {")]
            assert [entry.get("method") or entry.get("id") for entry in said] == [1, "elicitation/create", 2, 3, None]
            await settle(gate)
        check(gate, [line["outcome"] for line in gate.lines()[1:]])
        assert [line["method"] for line in gate.lines()[2:]].count("tools/call") == 3

    run(test())


def test_a_session_whose_home_is_gone_lives_on_at_one_other_instance(tmp_path: Path) -> None:
    async def test() -> None:
        upstreams = [Upstream(minting(b"own")) for _ in range(3)]
        async with rig(tmp_path, *upstreams) as gate:
            clients = [await initialize(gate) for _ in range(8)]
            table = json.loads(gate.paths.routes.read_text())
            table["apps"]["a"]["instances"] = table["apps"]["a"]["instances"][1:]
            gate.paths.routes.write_text(json.dumps(table))
            await gate.op(op="table")
            counts = [len(upstream.requests) for upstream in upstreams]
            for client in clients:
                for _ in range(4):
                    assert (await client.answer(call()))[0] == 200
            came = [len(upstream.requests) - count for upstream, count in zip(upstreams, counts, strict=True)]
            assert came[0] == 0
            assert sum(came) == 32
            assert came[1] % 4 == 0, "all that one says goes to one, for it may be asked something there"

    run(test())


def test_pipelined_requests_find_the_session_as_those_before_them_left_it(tmp_path: Path) -> None:
    async def test() -> None:
        async with rig(tmp_path, Upstream(minting(b"own", Instance().script))) as gate:
            client = await initialize(gate)
            head = b"host: localhost\r\nauthorization: Bearer secret\r\nmcp-session-id: %b\r\n" % client.session
            ends, follows = (b"%b /a/mcp HTTP/1.1\r\n%b\r\n" % (verb, head) for verb in (b"DELETE", b"GET"))
            body = call(1)
            calls = b"POST /a/mcp HTTP/1.1\r\n%bcontent-length: %d\r\n\r\n%b" % (head, len(body), body)
            last = ends.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")
            reader, writer = await asyncio.open_connection("127.0.0.1", int(gate.url.rpartition(":")[2]))
            writer.write(calls + ends + follows + calls + last)
            answers = await reader.read()
            while piece := await reader.read():
                answers += piece
            writer.close()
            found = re.findall(rb"HTTP/1.1 (\d+)", answers)
            assert found == [b"200", b"204", b"404", b"404", b"404"]
            assert (await initialize(gate)).session == client.session
            assert (await client.post(call(2))).status == 200, "an instance may give an id again"
            await settle(gate)

    run(test())
