"""Legacy sessions through the gate: whose they are, where they live, their ids, their streams."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests.gate.running_gate import STREAM, Rig, Seen, Upstream, call, chunk, echo, event, modern, reply, result, rig

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from pathlib import Path

    from portway.http.http_client import Response

SESSION = b"mcp-session-id"


def run(test: Coroutine[object, object, None]) -> None:
    asyncio.run(test)


def message(method: str, request_id: object = None, **params: object) -> bytes:
    told = {"jsonrpc": "2.0", "method": method, "params": params}
    return json.dumps(told if request_id is None else told | {"id": request_id}).encode()


def minting(upstream_id: bytes, otherwise: Any = echo, both: asyncio.Barrier | None = None) -> Any:
    """A script that mints a session of that id, with the `both`; everything else is answered by `otherwise`."""

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        if seen.body and seen.message.get("method") == "initialize":
            if both is not None:
                await both.wait()
            head = b"\r\nMCP-Session-Id: %b\r\n" % upstream_id
            writer.write(result(seen, {}).replace(b"\r\n", head, 1))
        else:
            await otherwise(seen, writer)

    return script


@dataclass
class Client:
    """Somebody with a session."""

    gate: Rig
    token: str
    session: bytes

    async def post(self, body: bytes, *headers: tuple[bytes, bytes], **options: str) -> Response:
        return await self.gate.post(body, (SESSION, self.session), *headers, token=self.token, **options)

    async def answer(self, body: bytes, *headers: tuple[bytes, bytes], **options: str) -> tuple[int, dict[str, Any]]:
        response = await self.post(body, *headers, **options)
        return response.status, json.loads(await response.read(100_000))

    async def ask(self, method: str, *headers: tuple[bytes, bytes], path: str = "/a/mcp") -> Response:
        sent = [(SESSION, self.session), (b"authorization", b"Bearer " + self.token.encode()), *headers]
        return await self.gate.client.request(method, path, sent)


async def initialize(gate: Rig, token: str = "secret") -> Client:
    response = await gate.post(message("initialize", 0, protocolVersion="2025-11-25"), token=token)
    await response.read(1000)
    return Client(gate, token, dict(response.headers)[SESSION])


async def text_until(response: Response, end: bytes) -> bytes:
    """The body as far as `end`."""
    text = b""
    chunks = response.chunks()
    while end not in text:
        text += await anext(chunks)
    return text


def data_of(text: bytes) -> list[Any]:
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith(b"data: {")]


def test_a_session_stays_with_the_instance_that_minted_it(tmp_path: Path) -> None:
    async def test() -> None:
        both = asyncio.Barrier(2)
        upstreams = [Upstream(minting(b"zero", both=both)), Upstream(minting(b"one", both=both))]
        async with rig(tmp_path, *upstreams) as gate:
            clients = await asyncio.gather(initialize(gate), initialize(gate))
            for client in clients * 3:
                assert (await client.answer(call(1)))[0] == 200
                assert (await client.ask("GET")).status == 202
            for client in clients:
                assert (await client.ask("DELETE")).status == 204
        for upstream, own in zip(upstreams, (b"zero", b"one"), strict=True):
            for seen in upstream.requests:
                told = seen.headers.get("mcp-session-id")
                assert (told is None) if b"initialize" in seen.body else (told == own.decode())
        assert [len(upstream.requests) for upstream in upstreams] == [1 + 6 + 1] * 2

    run(test())


def test_a_session_is_its_callers_alone(tmp_path: Path) -> None:
    async def test() -> None:
        upstream = Upstream(minting(b"own"))
        async with rig(tmp_path, upstream) as gate:
            alice = await initialize(gate)
            count = len(upstream.requests)
            mine = alice.session
            assert b"own" in mine
            stolen = [
                Client(gate, "other", mine),
                Client(gate, "secret", b"own"),
                Client(gate, "secret", mine[:-3] + b"two"),
                Client(gate, "secret", mine.replace(b".i0.", b".i1.")),
                Client(gate, "secret", bytes([mine[0] ^ 1]) + mine[1:]),
                Client(gate, "secret", b"\xff" * 5000),
                Client(gate, "secret", b"..own"),
            ]
            for thief in stolen:
                status, body = await thief.answer(call("x"))
                assert (status, body["id"], "another caller: initialize a new one" in body["error"]["message"]) == (
                    404,
                    "x",
                    True,
                )
                assert [(await thief.ask(method)).status for method in ("GET", "DELETE")] == [404, 404]
            status, _ = await Client(gate, "", mine).answer(call("x"), path="/p/mcp")
            assert status == 404, "nor is it good for another app"
            status, _ = await alice.gate.answer(call("x"), (SESSION, mine), (SESSION, mine))
            assert status == 400, "one of them is not the instance's"
            assert len(upstream.requests) == count
            assert (await alice.answer(call("x")))[0] == 200
            body, headers = modern()
            assert (await gate.answer(body, *headers, (SESSION, b"anything")))[0] == 200, "a modern client has none"
            assert "mcp-session-id" not in upstream.requests[-1].headers

    run(test())


def test_an_instance_may_repeat_or_change_the_id_of_a_session_and_gives_none_outside_one(tmp_path: Path) -> None:
    async def test() -> None:
        named = b"own"

        async def repeating(seen: Seen, writer: asyncio.StreamWriter) -> None:
            writer.write(result(seen, {}).replace(b"\r\n", b"\r\nMcp-Session-Id: %b\r\n" % named, 1))

        async with rig(tmp_path, Upstream(minting(b"own", repeating))) as gate:
            client = await initialize(gate)
            assert dict((await client.post(call())).headers)[SESSION] == client.session
            named = b"changed"
            changed = dict((await client.post(call())).headers)[SESSION]
            assert changed != client.session
            assert (await Client(gate, "secret", changed).answer(call()))[0] == 200
            for body, headers in ((call(), []), modern()):
                assert SESSION not in dict((await gate.post(body, *headers)).headers)

    run(test())


def test_eight_sessions_with_one_id_each_get_their_own_answer(tmp_path: Path) -> None:
    async def test() -> None:
        barrier = asyncio.Barrier(8)

        async def held(seen: Seen, writer: asyncio.StreamWriter) -> None:
            await barrier.wait()
            await echo(seen, writer)

        upstream = Upstream(minting(b"all-the-same", held))
        async with rig(tmp_path, upstream) as gate:
            clients = [await initialize(gate) for _ in range(8)]
            answers = await asyncio.gather(*(client.answer(call(1, n=n)) for n, client in enumerate(clients)))
        assert [body["result"]["echo"]["arguments"] for _, body in answers] == [{"n": n} for n in range(8)]
        assert {body["id"] for _, body in answers} == {1}
        assert len({seen.message["id"] for seen in upstream.requests if b"tools/call" in seen.body}) == 8

    run(test())


@pytest.mark.parametrize("request_id", [0, -1, 2**53, "", 'é".\\', "1"])
def test_a_resumed_stream_brings_the_reply_under_the_clients_id_also_through_a_gate_started_since(
    tmp_path: Path, request_id: object
) -> None:
    async def test() -> None:
        fresh = ""

        async def stream(seen: Seen, writer: asyncio.StreamWriter) -> None:
            nonlocal fresh
            writer.write(STREAM)
            if seen.body:
                fresh = seen.message["id"]
                writer.write(chunk(b"id: s-1\ndata: \n\n") + chunk(b"retry: 250\n\n"))
            else:
                assert seen.headers["last-event-id"] == "s-1"
                assert seen.head.lower().count(b"last-event-id") == 1
                late = {"jsonrpc": "2.0", "id": fresh, "result": {"n": 1}}
                writer.write(chunk(b"event: message\nid: s-2\ndata: %b\n\n" % json.dumps(late).encode()))
            writer.write(b"0\r\n\r\n")

        upstream = Upstream(minting(b"own", stream))
        async with rig(tmp_path, upstream) as gate:
            client = await initialize(gate)
            response = await client.post(call(request_id))
            text = await response.read(1000)
            event_id = text.partition(b"id: ")[2].partition(b"\n")[0]
            assert text == b":\n\nid: %b\ndata: \n\nretry: 250\n\n" % event_id
        assert gate.lines()[-1]["outcome"] == "deferred"
        async with rig(tmp_path, upstream) as gate:
            again = Client(gate, "secret", client.session)
            text = await (await again.ask("GET", (b"last-event-id", event_id))).read(1000)
            last = text.partition(b"id: ")[2].partition(b"\n")[0]
            assert (await again.ask("GET", (b"last-event-id", last))).status == 204, "nothing comes after the reply"
        (late,) = data_of(text)
        assert late == {"jsonrpc": "2.0", "id": request_id, "result": {"n": 1}}
        assert type(late["id"]) is type(request_id)

    run(test())


def test_a_clients_cancellation_reaches_its_own_call(tmp_path: Path) -> None:
    async def test() -> None:
        asked, go = asyncio.Semaphore(0), asyncio.Event()

        async def held(seen: Seen, writer: asyncio.StreamWriter) -> None:
            if b"tools/call" in seen.body:
                asked.release()
                await go.wait()
            await echo(seen, writer)

        upstream = Upstream(minting(b"same", held))
        async with rig(tmp_path, upstream) as gate:
            first, second = await initialize(gate), await initialize(gate, "other")
            tasks = [asyncio.create_task(client.answer(call(7, n=n))) for n, client in enumerate((first, second))]
            for _ in tasks:
                await asked.acquire()
            for unknown in (8, "7"):
                assert (await second.post(message("notifications/cancelled", requestId=unknown))).status == 202
            assert (await second.post(message("notifications/cancelled", requestId=7, reason="no"))).status == 202
            go.set()
            await asyncio.gather(*tasks)
            assert (await second.post(message("notifications/cancelled", requestId=7))).status == 202
            assert (await second.post(message("notifications/cancelled", requestId=9))).status == 202
            overtaken = [(await client.answer(call(9)))[1] for client in (first, second, second)]
            assert [each.get("error", {}).get("code") for each in overtaken] == [None, -32800, None]
        (told,) = [seen.message for seen in upstream.requests if b"notifications/cancelled" in seen.body]
        (meant,) = [seen for seen in upstream.requests if b"tools/call" in seen.body and b'"n": 1' in seen.body]
        assert told["params"] == {"requestId": meant.message["id"], "reason": "no"}
        assert "id" not in told

    run(test())


def test_an_answer_reaches_the_instance_that_asked_even_as_it_drains(tmp_path: Path) -> None:
    async def test() -> None:
        answered = asyncio.Event()

        async def asks(seen: Seen, writer: asyncio.StreamWriter) -> None:
            if "method" not in seen.message:
                answered.set()
                await echo(Seen(seen.head, b"", seen.connection), writer)
            else:
                question = {"jsonrpc": "2.0", "id": "q\u00e9", "method": "elicitation/create", "params": {}}
                writer.write(STREAM + event(question))
                await answered.wait()
                writer.write(event({"jsonrpc": "2.0", "id": seen.message["id"], "result": {}}) + b"0\r\n\r\n")

        old, new = Upstream(minting(b"old", asks)), Upstream(minting(b"new"))
        async with rig(tmp_path, old, new) as gate:
            client = await initialize(gate)
            response = await client.post(call(3))
            question = await text_until(response, b"\n\ndata")
            question_id = data_of(question)[0]["id"]
            table = json.loads(gate.paths.routes.read_text())
            table["apps"]["a"]["instances"] = table["apps"]["a"]["instances"][1:]
            gate.paths.routes.write_text(json.dumps(table))
            await gate.op(op="table")
            assert (await client.answer(call(4)))[0] == 200, "a new call goes to the new instance"
            answer = {"jsonrpc": "2.0", "id": question_id, "result": {"action": "accept"}}
            assert (await client.post(json.dumps(answer).encode())).status == 202
            assert data_of(await response.read(1000))[-1] == {"jsonrpc": "2.0", "id": 3, "result": {}}
        assert old.requests[-1].message == answer | {"id": "qé"}
        assert len(new.requests) == 1

    run(test())


def forever(closed: asyncio.Semaphore) -> Any:
    """A script that keeps a stream open until the other side closes it, which it tells by `closed`."""

    async def script(_seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM + chunk(b'id: 1\ndata: {"jsonrpc":"2.0","method":"notifications/x"}\n\n'))
        while not writer.transport.is_closing():
            await asyncio.get_running_loop().run_in_executor(None, int)
            writer.write(chunk(b":\n\n"))
        closed.release()

    return script


def test_streams_are_bounded_apart_from_calls_and_end_with_their_clients(tmp_path: Path) -> None:
    async def test() -> None:
        closed = asyncio.Semaphore(0)

        async def serve(seen: Seen, writer: asyncio.StreamWriter) -> None:
            await (echo if seen.body else forever(closed))(seen, writer)

        async with rig(tmp_path, Upstream(minting(b"own", serve)), in_flight=1, streams=3) as gate:
            client = await initialize(gate)
            streams = [await client.ask("GET") for _ in range(3)]
            for each in streams:
                assert dict(each.headers)[b"content-type"] == b"text/event-stream"
                await text_until(each, b"id: ")
            refused = await client.ask("GET")
            assert refused.status == 503
            assert "limit of open streams" in json.loads(await refused.read(1000))["error"]["message"]
            counts = (await gate.op(op="stats"))["apps"]["a"]
            assert (counts["in_flight"], counts["streams"]) == (0, 3)
            assert (await client.answer(call()))[0] == 200, "a call finds room"
            await streams.pop().close()
            await closed.acquire()
            while (await gate.op(op="stats"))["apps"]["a"]["streams"] > 2:
                pass
            streams.append(await client.ask("GET"))
            assert (await gate.op(op="drain", instance="i0", seconds=9))["in_flight"] == 0, "nor hold up a deploy"
            for each in streams:
                await each.close()

    run(test())


@pytest.mark.parametrize("request_id", [5, "five"])
def test_a_listen_stream_names_itself_by_the_clients_id_in_every_frame(tmp_path: Path, request_id: object) -> None:
    name = "io.modelcontextprotocol/subscriptionId"

    async def test() -> None:
        async def listen(seen: Seen, writer: asyncio.StreamWriter) -> None:
            own = seen.message["id"]
            quoting = json.dumps({"note": f'"{name}":{own}'})
            writer.write(STREAM)
            for method, subscription in (("subscriptions/acknowledged", own), ("tools/list_changed", str(own))):
                params = {"_meta": {name: subscription}, "quoting": quoting}
                writer.write(event({"jsonrpc": "2.0", "method": f"notifications/{method}", "params": params}))
            final = json.dumps({"jsonrpc": "2.0", "id": own, "result": {"_meta": {name: own}}}).replace("/", "\\/")
            writer.write(chunk(b"data: %b\n\n" % final.encode()) + b"0\r\n\r\n")

        meta = {f"io.modelcontextprotocol/{key}": value for key, value in (("protocolVersion", "2026-07-28"),)}
        meta["io.modelcontextprotocol/clientCapabilities"] = {}  # type: ignore[assignment]
        upstream = Upstream(listen)
        headers = [(b"mcp-protocol-version", b"2026-07-28"), (b"mcp-method", b"subscriptions/listen")]
        headers.append((b"mcp-param-x", b"passes"))
        async with rig(tmp_path, upstream, in_flight=1) as gate:
            body = message("subscriptions/listen", request_id, notifications={}, _meta=meta)
            text = await (await gate.post(body, *headers)).read(10_000)
        ack, note, final = data_of(text)
        for params in (ack["params"], note["params"], final["result"]):
            assert params["_meta"] == {name: request_id}
            assert type(params["_meta"][name]) is type(request_id)
        assert final["id"] == request_id
        assert str(upstream.requests[0].message["id"]) in ack["params"]["quoting"], "text is no member"
        assert upstream.requests[0].headers["mcp-param-x"] == "passes"

    run(test())


@pytest.mark.parametrize("status", [b"204 No Content", b"405 Method Not Allowed"])
def test_an_ended_session_is_gone_also_where_the_instance_cannot_end_one(tmp_path: Path, status: bytes) -> None:
    async def test() -> None:
        async def ends(_seen: Seen, writer: asyncio.StreamWriter) -> None:
            writer.write(reply(b"", status=status) if status[:3] != b"204" else b"HTTP/1.1 204 No Content\r\n\r\n")

        upstream = Upstream(minting(b"own", ends))
        async with rig(tmp_path, upstream) as gate:
            client, another = await initialize(gate), await initialize(gate, "other")
            assert (await client.ask("DELETE")).status == 204
            assert (await client.answer(call(1)))[0] == 404
            assert [(await client.ask(method)).status for method in ("GET", "DELETE")] == [404, 404]
            assert (await another.ask("DELETE")).status == 204
        assert len(upstream.requests) == 4

    run(test())


@pytest.mark.parametrize("status", [b"404 Not Found", b"400 Bad Request"])
def test_what_the_instance_refuses_in_a_session_is_refused_so(tmp_path: Path, status: bytes) -> None:
    async def test() -> None:
        async def refuses(_seen: Seen, writer: asyncio.StreamWriter) -> None:
            body = b'{"jsonrpc":"2.0","id":"server-error","error":{"code":-32600,"message":"gone"}}'
            writer.write(reply(body, status=status))

        async with rig(tmp_path, Upstream(minting(b"own", refuses))) as gate:
            client = await initialize(gate)
            got, body = await client.answer(call(9))
            assert (got, body["id"], body["error"]["message"]) == (int(status[:3]), 9, "gone")
            for method in ("GET", "DELETE"):
                response = await client.ask(method)
                assert response.status == int(status[:3])
                assert json.loads(await response.read(1000))["error"]["message"] == "gone"

    run(test())


def test_a_stream_that_is_cut_breaks_off_and_a_gate_that_stops_ends_it(tmp_path: Path) -> None:
    async def test() -> None:
        go, cut = asyncio.Event(), True

        async def breaks(_seen: Seen, writer: asyncio.StreamWriter) -> None:
            writer.write(STREAM + chunk(b"id: 1\ndata: \n\n"))
            if cut:
                writer.close()
            else:
                await go.wait()

        async with rig(tmp_path, Upstream(minting(b"own", breaks))) as gate:
            client = await initialize(gate)
            with pytest.raises(Exception, match="before the reply was whole"):
                await (await client.ask("GET")).read(1000)
            cut = False
            response = await client.ask("GET")
            await text_until(response, b"id: ")
            gate.end_streams()
            assert await response.read(1000) == b""
            go.set()

    run(test())


def test_a_resumable_call_whose_client_leaves_is_let_go_for_it_to_come_back(tmp_path: Path) -> None:
    async def test() -> None:
        closed = asyncio.Semaphore(0)

        async def stream(seen: Seen, writer: asyncio.StreamWriter) -> None:
            await (forever(closed) if "id" in seen.message else echo)(seen, writer)

        upstream = Upstream(minting(b"own", stream))
        async with rig(tmp_path, upstream) as gate:
            client = await initialize(gate)
            response = await client.post(call("gone"))
            await text_until(response, b"id: ")
            await response.close()
            await closed.acquire()
            assert (await client.post(message("notifications/cancelled", requestId="gone"))).status == 202
            while b"notifications/cancelled" not in upstream.requests[-1].body:
                pass
        assert upstream.requests[-1].message["params"]["requestId"].endswith('."gone"')

    run(test())
