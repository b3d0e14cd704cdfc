"""While an old instance drains: whatever belongs to a call, a question or a stream goes to the instance that has it."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.gate.running_gate import META, STREAM, Rig, Seen, Upstream, call, chunk, event, modern, result, rig
from tests.gate.test_sessions import Client, data_of, initialize, message, minting, run, text_until

if TYPE_CHECKING:
    from pathlib import Path

LOST = "The reply to this call is lost: its instance has ended or no longer keeps it. The call may have run."


class Instance:
    """An instance whose tools ask, hold and leave; `go` ends the held ones, `refuses` makes it refuse answers."""

    def __init__(self, name: str) -> None:
        self.refuses = False
        self.go, self.answered, self.held = asyncio.Event(), asyncio.Event(), asyncio.Semaphore(0)
        self.upstream = Upstream(minting(name.encode(), self.script))

    def told(self, method: str) -> list[Any]:
        """The messages of that method, or of none, that came."""
        messages = [seen.message for seen in self.upstream.requests if seen.body]
        return [each for each in messages if each.get("method", "") == method]

    def verbs(self) -> list[tuple[str, str | None]]:
        """What came without a body, with its Last-Event-ID."""
        bare = [seen for seen in self.upstream.requests if not seen.body]
        return [(seen.head.split(b" ")[0].decode(), seen.headers.get("last-event-id")) for seen in bare]

    async def script(self, seen: Seen, writer: asyncio.StreamWriter) -> None:
        asked = seen.message if seen.body else {}
        tool = asked.get("params", {}).get("name")
        if seen.head.startswith(b"DELETE"):
            writer.write(b"HTTP/1.1 405 No\r\ncontent-length: 0\r\n\r\n")
        elif asked.get("method") == "subscriptions/listen":
            ack = {"jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged", "params": {}}
            writer.write(STREAM + event(ack))
            await self.go.wait()
        elif not asked:
            writer.write(STREAM + chunk(b'id: g-1\ndata: {"jsonrpc":"2.0","method":"notifications/x"}\n\n'))
            await self.go.wait()
            writer.write(b"0\r\n\r\n")
        elif "method" not in asked or "id" not in asked:
            self.answered.set()
            status = b"400 No" if self.refuses else b"202 Accepted"
            writer.write(b"HTTP/1.1 %b\r\ncontent-length: 0\r\n\r\n" % status)
        elif tool == "asks":
            params = {"message": "Sure?", "_meta": {"progressToken": 9}}
            question = {"jsonrpc": "2.0", "id": 5, "method": "elicitation/create", "params": params}
            taken_back = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 5}}
            writer.write(STREAM + event(question) + event(taken_back))
            await self.answered.wait()
            writer.write(event({"jsonrpc": "2.0", "id": asked["id"], "result": {}}) + b"0\r\n\r\n")
        elif tool == "leaves":
            writer.write(STREAM + chunk(b"id: c-1\ndata: \n\n") + b"0\r\n\r\n")
        else:
            if tool == "holds":
                self.held.release()
                await self.go.wait()
            writer.write(result(seen, {}))


async def deploy(gate: Rig) -> None:
    """Take the first instance off the table, as a deploy does."""
    table = json.loads(gate.paths.routes.read_text())
    table["apps"]["a"]["instances"] = table["apps"]["a"]["instances"][1:]
    table["apps"]["p"]["instances"] = []
    gate.paths.routes.write_text(json.dumps(table))
    await gate.op(op="table")


async def busy(gate: Rig, old: Instance, new: Instance) -> tuple[Client, asyncio.Task[Any]]:
    """A session of the old instance, which another caller keeps busy while it drains."""
    new.upstream.script = minting(b"new", new.script)
    one, other = await initialize(gate), await initialize(gate, "other")
    if not old.told("initialize"):
        raise AssertionError
    task = asyncio.ensure_future(other.answer(call(1, "holds")))
    await old.held.acquire()
    await deploy(gate)
    return one, task


@pytest.mark.parametrize("refuses", [False, True])
def test_an_answer_goes_to_the_new_instance_that_asked(tmp_path: Path, refuses: bool) -> None:
    async def test() -> None:
        old, new = Instance("old"), Instance("new")
        async with rig(tmp_path, old.upstream, new.upstream) as gate:
            new.refuses = refuses
            client, task = await busy(gate, old, new)
            response = await client.post(call(3, "asks"))
            question, taken_back = data_of(await text_until(response, b"notifications/cancelled"))
            assert taken_back["params"]["requestId"] == question["id"]
            token = question["params"]["_meta"]["progressToken"]
            assert (await client.post(message("notifications/progress", progressToken=token, progress=1))).status == 202
            answer = {"jsonrpc": "2.0", "id": question["id"], "result": {"action": "accept"}}
            assert (await client.post(json.dumps(answer).encode())).status == 202, "also one that comes too late"
            assert data_of(await response.read(1000))[-1]["id"] == 3
            assert new.told("") == [answer | {"id": 5}]
            assert new.told("notifications/progress")[0]["params"] == {"progressToken": 9, "progress": 1}
            assert not old.told("")
            old.go.set()
            assert (await task)[0] == 200

    run(test())


def test_an_answer_that_is_no_response_fails_its_question_at_once(tmp_path: Path) -> None:
    async def test() -> None:
        instance = Instance("only")
        async with rig(tmp_path, instance.upstream) as gate:
            client = await initialize(gate)
            response = await client.post(call(3, "asks"))
            question, _ = data_of(await text_until(response, b"notifications/cancelled"))
            both = {"jsonrpc": "2.0", "result": {}, "error": {"code": 1, "message": "no"}}
            assert (await client.post(json.dumps(both | {"id": "stray"}).encode())).status == 400
            assert (await client.post(json.dumps(both | {"id": question["id"]}).encode())).status == 202
            (told,) = instance.told("")
            assert (told["id"], told["error"]["code"]) == (5, -32600)

    run(test())


def test_an_answer_to_an_instance_that_has_ended_is_accepted_and_goes_nowhere(tmp_path: Path) -> None:
    async def test() -> None:
        old, new = Instance("old"), Instance("new")
        async with rig(tmp_path, old.upstream, new.upstream) as gate:
            client, task = await busy(gate, old, new)
            for instance in ("gone", "i0"):
                answer = {"jsonrpc": "2.0", "id": f"portway.{instance}.5", "result": {}}
                assert (await client.post(json.dumps(answer).encode())).status == 202
            assert (len(old.told("")), new.told("")) == (1, [])
            old.go.set()
            await task

    run(test())


def test_a_cancellation_goes_to_the_instance_that_has_the_call_and_the_caller_is_told(tmp_path: Path) -> None:
    async def test() -> None:
        old, new = Instance("old"), Instance("new")
        async with rig(tmp_path, old.upstream, new.upstream) as gate:
            client, task = await busy(gate, old, new)
            assert (await client.post(call(4, "leaves"))).status == 200
            assert (await client.post(message("notifications/cancelled", requestId=4))).status == 202
            (told,) = new.told("notifications/cancelled")
            assert told["params"]["requestId"] == new.told("tools/call")[0]["id"]
            assert not old.told("notifications/cancelled")
            held = asyncio.ensure_future(client.answer(call(5, "holds")))
            await new.held.acquire()
            assert (await client.post(message("notifications/cancelled", requestId=5))).status == 202
            new.go.set()
            assert (await held)[1]["id"] == 5
            old.go.set()
            await task

    run(test())


def test_a_cancelled_call_that_its_instance_leaves_unanswered_is_answered_by_the_gate(tmp_path: Path) -> None:
    async def test() -> None:
        go, asked = asyncio.Event(), asyncio.Semaphore(0)

        async def silent(seen: Seen, writer: asyncio.StreamWriter) -> None:
            if "id" in seen.message:
                writer.write(b"" if b'"json"' in seen.body else STREAM + chunk(b"id: 1\ndata: \n\n"))
                asked.release()
                await go.wait()
                go.clear()
                is_json = b'"json"' in seen.body
                writer.write(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n" if is_json else b"0\r\n\r\n")
            else:
                go.set()
                writer.write(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n")

        async with rig(tmp_path, Upstream(minting(b"own", silent))) as gate:
            client = await initialize(gate)
            for request_id, how in enumerate(("json", "stream"), 1):
                waiting = asyncio.ensure_future(client.post(call(request_id, how)))
                await asked.acquire()
                await client.post(message("notifications/cancelled", requestId=request_id))
                response = await waiting
                text = await response.read(1000)
                reply = json.loads(text) if how == "json" else data_of(text)[-1]
                error = {"code": -32800, "message": "Request cancelled"}
                assert (response.status, reply) == (200, {"jsonrpc": "2.0", "id": request_id, "error": error})
            last = text.rpartition(b"id: ")[2].partition(b"\n")[0]
            assert (await client.ask("GET", (b"last-event-id", last))).status == 204, "as clients do after an error"

    run(test())


def test_a_call_is_resumed_where_it_runs_and_the_sessions_own_stream_at_the_new_instance(tmp_path: Path) -> None:
    async def test() -> None:
        old, new = Instance("old"), Instance("new")
        async with rig(tmp_path, old.upstream, new.upstream) as gate:
            client = await initialize(gate)
            left = await (await client.post(call(7, "leaves"))).read(1000)
            own = await client.ask("GET")
            marks = [text.partition(b"id: ")[2].split(b"\n")[0] for text in (left, await text_until(own, b"data"))]
            assert (await gate.op(op="drain", instance="i0", seconds=0))["in_flight"] == 1, "the call goes on"
            await deploy(gate)
            await own.read(1000)  # it ends, for the client to come back
            for mark in marks:
                await text_until(await client.ask("GET", (b"last-event-id", mark)), b"data")
            assert old.verbs() == [("GET", None), ("GET", "c-1")]
            assert new.verbs() == [("GET", None)]
            assert (await client.ask("DELETE")).status == 204
            assert old.verbs()[2:] == [("DELETE", None)]
            while not old.told("notifications/cancelled"):
                await gate.op(op="stats")
            assert (await gate.op(op="drain", instance="i0", seconds=5))["in_flight"] == 0
            old.go.set()
            new.go.set()

    run(test())


def test_a_resumed_stream_ends_with_the_reply_of_its_call_also_if_the_instance_leaves_it_open(tmp_path: Path) -> None:
    async def test() -> None:
        instance = Instance("only")

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            if seen.headers.get("last-event-id") == "c-1":
                (called,) = instance.told("tools/call")
                writer.write(STREAM + event({"jsonrpc": "2.0", "id": called["id"], "result": {}}))
            else:
                await instance.script(seen, writer)

        instance.upstream.script = minting(b"only", script)
        async with rig(tmp_path, instance.upstream) as gate:
            client = await initialize(gate)
            left = await (await client.post(call(7, "leaves"))).read(1000)
            resumed = await client.ask("GET", (b"last-event-id", left.partition(b"id: ")[2].split(b"\n")[0]))
            assert data_of(await resumed.read(1000)) == [{"jsonrpc": "2.0", "id": 7, "result": {}}]

    run(test())


def test_a_resumed_stream_ends_cleanly_when_the_drained_instance_is_stopped(tmp_path: Path) -> None:
    async def test() -> None:
        old, new = Instance("old"), Instance("new")

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            if seen.headers.get("last-event-id") == "c-1":
                writer.write(STREAM + chunk(b": open\n\n"))
                await old.go.wait()
                writer.close()
            else:
                await old.script(seen, writer)

        old.upstream.script = minting(b"old", script)
        async with rig(tmp_path, old.upstream, new.upstream) as gate:
            client = await initialize(gate)
            left = await (await client.post(call(7, "leaves"))).read(1000)
            resumed = await client.ask("GET", (b"last-event-id", left.partition(b"id: ")[2].split(b"\n")[0]))
            await deploy(gate)
            old.go.set()
            assert b"data" not in await resumed.read(1000), "and it is whole"

    run(test())


def test_a_reply_whose_instance_has_ended_is_an_error_under_the_calls_own_id(tmp_path: Path) -> None:
    async def test() -> None:
        old, new = Instance("old"), Instance("new")
        async with rig(tmp_path, old.upstream, new.upstream) as gate:
            client = await initialize(gate)
            left = await (await client.post(call("mine", "leaves"))).read(1000)
            mark = left.partition(b"id: ")[2].split(b"\n")[0]
            gone = await (await client.ask("GET", (b"last-event-id", mark.replace(b"i0.", b"gone.")))).read(1000)
            assert data_of(gone) == [{"jsonrpc": "2.0", "id": "mine", "error": {"code": 1000, "message": LOST}}]
            last = gone.partition(b"id: ")[2].split(b"\n")[0]
            assert (await client.ask("GET", (b"last-event-id", last))).status == 204
            assert not new.verbs()

    run(test())


@pytest.mark.slow
def test_an_answer_finds_its_instance_through_a_gate_started_since(tmp_path: Path) -> None:
    async def test() -> None:
        both = Instance("zero"), Instance("one")
        async with rig(tmp_path, *(each.upstream for each in both)) as gate:
            client = await initialize(gate)
            question = data_of(await text_until(await client.post(call(3, "asks")), b"notifications/cancelled"))[0]
        async with rig(tmp_path, *(each.upstream for each in both)) as gate:
            again = Client(gate, client.token, client.session)
            answer = {"jsonrpc": "2.0", "id": question["id"], "result": {}}
            assert (await again.post(json.dumps(answer).encode())).status == 202
        assert sorted(len(each.told("")) for each in both) == [0, 1]
        assert next(each for each in both if each.told("tools/call")).told("")

    run(test())


def listen(uri: str) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """A modern client's subscription."""
    body = message("subscriptions/listen", 1, notifications={"resourceSubscriptions": [uri]}, _meta=META)
    return body, [(b"mcp-protocol-version", b"2026-07-28"), (b"mcp-method", b"subscriptions/listen")]


def test_a_pinned_instance_keeps_the_sessions_that_are_open_there_and_gets_nothing_else(tmp_path: Path) -> None:
    async def use(gate: Rig, **members: object) -> None:
        table = json.loads(gate.paths.routes.read_text())
        table["apps"]["a"] |= members
        gate.paths.routes.write_text(json.dumps(table))
        await gate.op(op="table")

    async def test() -> None:
        old, new = Instance("old"), Instance("new")
        new.upstream.script = minting(b"new", new.script)
        async with rig(tmp_path, old.upstream, new.upstream) as gate:
            first, second = json.loads(gate.paths.routes.read_text())["apps"]["a"]["instances"]
            await use(gate, instances=[first])
            client = await initialize(gate)
            own = await client.ask("GET")
            await text_until(own, b"data")
            body, headers = listen("a:1")
            listening = await gate.post(body, *headers)
            await text_until(listening, b"acknowledged")
            await use(gate, instances=[second], pinned=[first])
            (end,) = data_of(await listening.read(1000))
            assert (end["id"], end["result"]["resultType"]) == (1, "complete"), "for the client to listen again"
            late = await initialize(gate)
            told = (len(old.told("tools/call")), len(new.told("tools/call")))
            for each in (client, late, client):
                assert (await each.answer(call(1)))[0] == 200
            body, headers = modern(2)
            assert (await gate.post(body, *headers)).status == 200
            after = (len(old.told("tools/call")), len(new.told("tools/call")))
            assert (after[0] - told[0], after[1] - told[1]) == (2, 2)
            await use(gate, pinned=[])
            await own.read(1000)  # it has been open until now
            assert (await client.answer(call(1)))[0] == 200
            assert len(new.told("tools/call")) == after[1] + 1
            old.go.set()
            new.go.set()

    run(test())
