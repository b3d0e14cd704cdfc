"""A client's session with a server that is not Portway's outlives the instance whose memory it is in."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from portway.host.gate import session_records
from tests.gate.running_gate import STREAM, Rig, Seen, Upstream, call, chunk, event, reply, result, rig, running
from tests.gate.test_draining import deploy
from tests.gate.test_sessions import Client, message, run

OPENING = {
    "protocolVersion": "2025-11-25",
    "capabilities": {"extensions": {"com.example/x": {"deep": [1.50]}}},
    "clientInfo": {"name": "c", "version": "1"},
    "_meta": {"com.example/trace": "t"},
}
VERSION = (b"mcp-protocol-version", b"2025-11-25")
UNKNOWN = (b"404 Not Found", {"jsonrpc": "2.0", "error": {"code": -32001, "message": "Session not found"}})
UNKNOWN_TO_EXPRESS = (
    b"400 Bad Request",
    {"jsonrpc": "2.0", "error": {"code": -32000, "message": "Bad Request: No valid session ID provided"}, "id": None},
)


CANCELLED = {"code": -32800, "message": "Request cancelled"}


class Instance:
    """An instance with sessions in its memory, which `forget` loses. It answers a call with what it knows of it."""

    def __init__(self, name: str, unknown: tuple[bytes, object] = UNKNOWN, version: str = "2025-11-25") -> None:
        self.name, self.unknown, self.version = name, unknown, version
        self.sessions: dict[str, list[dict[str, Any]]] = {}
        self.refuses = b""  # the status of `initialize`
        self.streams = False  # answers by events
        self.stateless = False
        self.upstream = Upstream(self.script)

    def forget(self) -> None:
        self.sessions.clear()

    def opened(self) -> list[list[dict[str, Any]]]:
        """What each of its sessions got, without ids."""
        return [
            [{"method": each["method"], **each.get("params", {})} for each in told] for told in self.sessions.values()
        ]

    async def script(self, seen: Seen, writer: asyncio.StreamWriter) -> None:
        asked: dict[str, Any] = seen.message if seen.body else {"method": seen.head.split(b" ")[0].decode()}
        session = seen.headers.get("mcp-session-id", "")
        if asked["method"] == "initialize":
            if self.refuses:
                writer.write(reply(b"{}", status=self.refuses))
                return
            session = f"{self.name}-{len(self.upstream.requests)}"
            self.sessions[session] = [asked]
            answer = result(seen, {"protocolVersion": self.version, "capabilities": {}, "serverInfo": {}})
            if self.streams:
                answer = STREAM + event({"jsonrpc": "2.0", "method": "notifications/message"})
                answer += event({"jsonrpc": "2.0", "id": asked["id"], "result": {"protocolVersion": self.version}})
            if not self.stateless:
                answer = answer.replace(b"\r\n", b"\r\nmcp-session-id: %b\r\n" % session.encode(), 1)
            writer.write(answer)
        elif session not in self.sessions and not self.stateless:
            status, body = self.unknown
            writer.write(reply(json.dumps(body).encode(), status=status))
        elif asked["method"] == "GET":
            writer.write(STREAM + chunk(b": hello\n\n"))
        elif "id" not in asked:
            self.sessions.setdefault(session, []).append(asked)
            writer.write(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n")
        else:
            self.sessions.setdefault(session, []).append(asked)
            writer.write(result(seen, {"by": self.name, "session": session}))


async def open_session(gate: Rig, opening: dict[str, Any] = OPENING) -> Client:
    response = await gate.post(message("initialize", 0, **opening))
    await response.read(10_000)
    client = Client(gate, "secret", dict(response.headers)[b"mcp-session-id"])
    assert (await client.post(message("notifications/initialized"), VERSION)).status == 202
    return client


async def answered_by(client: Client) -> str:
    status, answer = await client.answer(call(7), VERSION)
    assert status == 200, answer
    assert answer["id"] == 7
    return str(answer["result"]["by"])


async def use_settings(client: Client) -> None:
    """Set a level and subscribe, changing one's mind."""
    settings = [("logging/setLevel", {"level": "debug"}), ("logging/setLevel", {"level": "error"})]
    settings += [("resources/subscribe", {"uri": uri, "_meta": {"k": 1}}) for uri in ("a:1", "a:2")]
    settings += [("resources/unsubscribe", {"uri": "a:1"})]
    for number, (method, params) in enumerate(settings):
        assert (await client.answer(message(method, number, **params), VERSION))[0] == 200


SET = ["logging/setLevel", "resources/subscribe"]


def test_a_session_is_opened_again_on_another_instance_with_all_that_its_client_has_set(tmp_path: Path) -> None:
    async def test() -> None:
        old, new = Instance("old"), Instance("new")
        async with rig(tmp_path, old.upstream, new.upstream, foreign=True) as gate:
            client = await open_session(gate)
            await use_settings(client)
            assert await answered_by(client) == "old"
            await deploy(gate)
            assert await asyncio.gather(*(answered_by(client) for _ in range(3))) == ["new"] * 3
            stream = await client.ask("GET", VERSION)
            assert stream.status == 200
            await stream.close()
        (told,) = new.opened()
        opened = ["initialize", "notifications/initialized", *SET]
        assert [each["method"] for each in told] == [*opened, *("tools/call",) * 3]
        assert told[0] == {"method": "initialize"} | OPENING
        assert (told[2]["level"], told[3]["uri"], told[3]["_meta"]) == ("error", "a:2", {"k": 1})

    run(test())


def test_what_a_caller_may_not_watch_any_more_is_not_watched_at_the_next_instance(tmp_path: Path) -> None:
    async def test() -> None:
        old, new = Instance("old"), Instance("new")
        async with rig(tmp_path, old.upstream, new.upstream, foreign=True) as gate:
            client = await open_session(gate)
            await use_settings(client)
            table = json.loads(gate.paths.routes.read_text())
            table["apps"]["a"]["policies"] = {"rules": [{"resource": "a:*", "scopes": ["admin"]}]}
            gate.paths.routes.write_text(json.dumps(table))
            await deploy(gate)
            assert await answered_by(client) == "new"
        (told,) = new.opened()
        opened = ["initialize", "notifications/initialized", "logging/setLevel", "tools/call"]
        assert [each["method"] for each in told] == opened

    run(test())


@pytest.mark.parametrize("by", ["call", "stream"])
def test_a_session_of_a_portway_server_gets_its_level_and_subscriptions_at_the_next_instance(
    tmp_path: Path, by: str
) -> None:
    async def test() -> None:
        old, new = Instance("old"), Instance("new")
        new.stateless = True  # it takes the id that the old one gave
        async with rig(tmp_path, old.upstream, new.upstream) as gate:
            client, other = await open_session(gate), await open_session(gate)
            await use_settings(client)
            await deploy(gate)
            if by == "stream":
                stream = await client.ask("GET", VERSION)
                assert stream.status == 200
                await stream.close()
            assert await asyncio.gather(*(answered_by(client) for _ in range(3))) == ["new"] * 3
            assert await answered_by(other) == "new"
        mine, others = ([each for each in new.upstream.requests if seen_in(each, name)] for name in old.sessions)
        methods = [each.message["method"] if each.body else "GET" for each in mine]
        assert methods == [*SET, *(["GET"] if by == "stream" else []), *("tools/call",) * 3]
        assert mine[0].message["params"] == {"level": "error"}
        assert mine[1].message["params"] == {"uri": "a:2", "_meta": {"k": 1}}
        assert {each.headers["mcp-protocol-version"] for each in mine} == {"2025-11-25"}
        assert len(others) == 1, "one that has set nothing costs nothing"

    run(test())


def seen_in(seen: Seen, session: str) -> bool:
    return seen.headers.get("mcp-session-id") == session


@pytest.mark.parametrize("unknown", [UNKNOWN, UNKNOWN_TO_EXPRESS], ids=["404", "400"])
def test_an_instance_that_has_lost_a_session_gets_it_again_and_if_it_loses_that_too_the_session_has_ended(
    tmp_path: Path, unknown: tuple[bytes, object]
) -> None:
    async def test() -> None:
        instance = Instance("one", unknown)
        instance.streams = True
        async with rig(tmp_path, instance.upstream, foreign=True) as gate:
            client = await open_session(gate)
            instance.forget()
            assert await answered_by(client) == "one"
            instance.forget()
            stream = await client.ask("GET", VERSION)
            assert stream.status == 200
            await stream.close()
            instance.forget()
            instance.upstream.script = refusing(instance, unknown)
            status, answer = await client.answer(call(1), VERSION)
            assert (status, answer["id"]) == (404, 1)
            count = len(instance.upstream.requests)
            assert (await client.answer(call(1), VERSION))[0] == 404
            assert len(instance.upstream.requests) == count, "it has ended for good"

    run(test())


def refusing(instance: Instance, unknown: tuple[bytes, object]) -> Any:
    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        if b"tools/call" in seen.body:
            writer.write(reply(json.dumps(unknown[1]).encode(), status=unknown[0]))
        else:
            await instance.script(seen, writer)

    return script


def test_a_session_ends_with_404_when_the_new_server_does_not_take_it(tmp_path: Path) -> None:
    async def test(case: Path, new: Instance, opening: dict[str, Any], *, expected: int, again: int) -> None:
        async with rig(case, Instance("old").upstream, new.upstream, foreign=True) as gate:
            client = await open_session(gate, opening)
            await deploy(gate)
            assert (await client.answer(call(1), VERSION))[0] == expected
            new.refuses = b""
            assert (await client.answer(call(1), VERSION))[0] == again

    for number, (status, expected, again) in enumerate(
        [(b"400 Bad", 404, 404), (b"200 OK", 404, 404), (b"500 Oh", 502, 200)]
    ):
        new = Instance("new")
        new.refuses = status
        run(test(tmp_path / str(number), new, OPENING, expected=expected, again=again))
    run(test(tmp_path / "version", Instance("new", version="2025-06-18"), OPENING, expected=404, again=404))


def test_a_server_that_keeps_no_sessions_any_longer_serves_those_that_were_opened(tmp_path: Path) -> None:
    async def test() -> None:
        new = Instance("new")
        new.stateless = True
        async with rig(tmp_path, Instance("old").upstream, new.upstream, foreign=True) as gate:
            client = await open_session(gate)
            await deploy(gate)
            assert await answered_by(client) == "new"
            assert (await client.ask("DELETE")).status == 204
            assert "mcp-session-id" not in new.upstream.requests[-1].headers

    run(test())


@pytest.mark.parametrize("foreign", [False, True])
def test_a_gate_that_is_started_after_a_kill_knows_a_session_and_what_its_client_has_set(
    tmp_path: Path, foreign: bool
) -> None:
    async def test() -> None:
        old, new = Instance("old"), Instance("new")
        new.stateless = not foreign
        async with rig(tmp_path, old.upstream, new.upstream, foreign=foreign) as gate:
            client, ended = await open_session(gate), await open_session(gate)
            for each in (client, ended):
                await use_settings(each)
            assert (await ended.ask("DELETE", VERSION)).status == 204
            gate.paths.gate_socket.unlink()
            written = gate.paths.sessions.read_bytes()
            assert ended.session not in written
            gate.paths.sessions.write_bytes(b"{damaged\n" + written + written[:20])  # the kill came while it wrote
            async with running(gate.paths) as second:
                client.gate = second
                assert await answered_by(client) == "old"
                await deploy(second)
                second.paths.gate_socket.unlink()
                async with running(gate.paths) as third:
                    client.gate = third
                    assert await answered_by(client) == "new"
        told = [each.message for each in new.upstream.requests]
        opened = ["initialize", "notifications/initialized"] if foreign else []
        assert [each["method"] for each in told] == [*opened, *SET, "tools/call"]
        assert told[-2]["params"]["uri"] == "a:2"
        assert len(gate.paths.sessions.read_bytes().splitlines()) == 2, "what it was, and the move"

    run(test())


def test_the_file_of_sessions_is_replaced_when_most_of_it_is_outdated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_records, "_LEAST_BYTES", 2_000)

    async def test() -> None:
        old, new = Instance("old"), Instance("new")
        async with rig(tmp_path, old.upstream, new.upstream, foreign=True) as gate:
            client, before, after = await open_session(gate), 0, 0
            while after >= before:
                before = after
                for method in ("resources/unsubscribe", "resources/subscribe"):
                    assert (await client.answer(message(method, 1, uri="a:1"), VERSION))[0] == 200
                after = gate.paths.sessions.stat().st_size
            gate.paths.gate_socket.unlink()
            async with running(gate.paths) as second:
                client.gate = second
                await deploy(second)
                assert await answered_by(client) == "new"
        assert [each["method"] for each in new.opened()[0]][2:] == ["resources/subscribe", "tools/call"]

    run(test())


def test_deleting_a_session_ends_it_where_it_is(tmp_path: Path) -> None:
    async def test() -> None:
        old, new = Instance("old"), Instance("new")
        async with rig(tmp_path, old.upstream, new.upstream, foreign=True) as gate:
            moved, idle = await open_session(gate), await open_session(gate)
            await deploy(gate)
            assert await answered_by(moved) == "new"
            count = len(new.upstream.requests)
            for client in (moved, idle):
                assert (await client.ask("DELETE", VERSION)).status in (202, 204)
                assert (await client.answer(call(1), VERSION))[0] == 404
            deletes = [seen for seen in new.upstream.requests[count:] if seen.head.startswith(b"DELETE")]
            assert [seen.headers["mcp-session-id"] for seen in deletes] == list(new.sessions)

    run(test())


def test_what_is_kept_of_sessions_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_records, "_MOST", 2)
    monkeypatch.setattr(session_records, "_MOST_BYTES_EACH", 200)

    async def test() -> None:
        old, new = Instance("old"), Instance("new")
        async with rig(tmp_path, old.upstream, new.upstream, foreign=True) as gate:
            clients = [await open_session(gate) for _ in range(4)]
            level = message("logging/setLevel", 1, level="debug")
            for client in clients[:3]:
                assert (await client.answer(level, VERSION))[0] == 200
            greedy = message("resources/subscribe", 1, uri="a:" + 200 * "x")
            assert (await clients[3].answer(greedy, VERSION))[0] == 200
            huge = await open_session(gate, OPENING | {"_meta": {"x": 10_000 * "x"}})
            await deploy(gate)
            assert (await clients[3].answer(call(1), VERSION))[0] == 404, (
                "with more than is kept, it is not opened again"
            )
            new.refuses = b"200 OK"
            assert (await huge.answer(call(1), VERSION))[0] == 404
            new.refuses = b""
            for client in clients[2::-1]:
                assert await answered_by(client) == "new"
        levels = [any(each["method"] == "logging/setLevel" for each in told) for told in new.opened()]
        assert levels == [True, False, False]

    run(test())


def test_a_session_of_a_portway_server_has_ended_when_a_foreign_one_takes_its_place(tmp_path: Path) -> None:
    async def test() -> None:
        instance = Instance("one")
        async with rig(tmp_path, instance.upstream) as gate:
            response = await gate.post(message("initialize", 0, **OPENING))
            client = Client(gate, "secret", dict(response.headers)[b"mcp-session-id"])
            assert await answered_by(client) == "one"
            table = json.loads(gate.paths.routes.read_text())
            table["apps"]["a"]["foreign"] = True
            gate.paths.routes.write_text(json.dumps(table))
            await gate.op(op="table")
            assert (await client.answer(call(1), VERSION))[0] == 404

    run(test())


def test_a_call_is_cancelled_while_its_session_is_being_opened_and_never_reaches_the_instance(tmp_path: Path) -> None:
    async def test() -> None:
        old, new = Instance("old"), Instance("new")
        opening, go = asyncio.Event(), asyncio.Event()

        async def slow(seen: Seen, writer: asyncio.StreamWriter) -> None:
            if b"initialize" in seen.body:
                opening.set()
                await go.wait()
            await new.script(seen, writer)

        new.upstream.script = slow
        async with rig(tmp_path, old.upstream, new.upstream, foreign=True) as gate:
            client = await open_session(gate)
            await deploy(gate)
            waiting = asyncio.ensure_future(client.answer(call(5), VERSION))
            await opening.wait()
            assert (await client.post(message("notifications/cancelled", requestId=5), VERSION)).status == 202
            assert (await waiting)[1] == {"jsonrpc": "2.0", "id": 5, "error": CANCELLED}
            go.set()
            assert await answered_by(client) == "new"
        called = [seen.message["id"] for seen in new.upstream.requests if b"tools/call" in seen.body]
        assert [each.split(".")[-1] for each in called] == ["7"]

    run(test())
