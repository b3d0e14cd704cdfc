"""Limits of tools at the gate, for any server: decided before the instance hears of a call."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from portway.host import routing_table
from portway.policy.rules import Limit, PolicyRule, ToolHints
from tests.gate.running_gate import Rig, Seen, Upstream, call, echo, modern, prepare, result, running
from tests.support import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

RULES = [
    PolicyRule(tool="read_*", arguments={"path": Limit(under="/data"), "mode": Limit(allow=["text"], required=True)}),
    PolicyRule(tool="send", rate="2/hour"),
    PolicyRule(tool="slow", concurrency=1),
    PolicyRule(tool="any_*", rate="1/day"),
]
TOOLS = {name: ToolHints() for name in ("read_file", "send", "slow", "any_a", "any_b", "free")}
SAID = (
    "read_file may not be called with these arguments: path: it must be an absolute path at or below /data, without "
    '".."; mode: it must be given'
)


@asynccontextmanager
async def limiting(directory: Path, upstream: Upstream, rules: list[PolicyRule] = RULES) -> AsyncIterator[Rig]:
    """A gate whose apps have the rules."""
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
    paths = prepare(directory, [f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"])
    write(paths.routes, rules, 2)
    async with server, running(paths) as gate:
        yield gate


def write(routes: Path, rules: list[PolicyRule], version: int) -> None:
    table, policies = routing_table.load(routes), routing_table.AppPolicies(rules, TOOLS)
    apps = {name: msgspec.structs.replace(app, policies=policies) for name, app in table.apps.items()}
    routing_table.save(routes, msgspec.structs.replace(table, version=version, apps=apps))


def run(directory: Path, upstream: Upstream, steps: Any) -> None:
    async def main() -> None:
        async with limiting(directory, upstream) as gate:
            await steps(gate)

    asyncio.run(main())


def test_arguments_out_of_the_limits_are_a_result_that_the_model_reads_and_reach_no_instance(tmp_path: Path) -> None:
    upstream = Upstream(echo)

    async def steps(gate: Rig) -> None:
        bad = {"path": "/data/../etc/s3cret"}
        body, headers = modern(1, "read_file", **bad)
        said = {"content": [{"type": "text", "text": SAID}], "isError": True}
        assert await gate.answer(body, *headers) == (
            200,
            {"jsonrpc": "2.0", "id": 1, "result": said | {"resultType": "complete"}},
        )
        for version in ("2025-03-26", "2025-06-18", "2025-11-25"):
            reply = await gate.answer(call("x", "read_file", **bad), (b"mcp-protocol-version", version.encode()))
            assert reply == (200, {"jsonrpc": "2.0", "id": "x", "result": said})
        batch = b"[%b,%b]" % (call(1, "read_file", **bad), call(2, "free", **bad))
        status, replies = await gate.answer(batch)
        assert (status, replies[0]["result"]) == (200, said)
        notice = json.dumps(
            {"jsonrpc": "2.0", "method": "tools/call", "params": {"name": "read_file", "arguments": bad}}
        )
        assert (await gate.post(notice.encode())).status == 400
        twice = call(3, "read_file").replace(b"{}", b'{"path":"/data/a","mode":"text","path":"/etc"}')
        assert "two members of one name" in str(await gate.answer(twice))
        twice = call(3, "read_file").replace(
            b'"arguments": {}', b'"arguments":{"path":"/data/a","mode":"text"},"arguments":{"path":"/etc"}'
        )
        assert (await gate.answer(twice))[1]["result"]["isError"]
        arguments = b'{"path":"/etc","path":"/data/a","mode":"text"}'
        body = b'{"jsonrpc":"2.0","id":[],"id":4,"method":"tools/call","params":{%b,"name":"read_file","arguments":%b}}'
        for member in (b'"cursor":5', b'"uri":5', b'"requestId":{}', b'"protocolVersion":1'):  # another method's
            assert "two members of one name" in str(await gate.answer(body % (member, arguments)))
        long = call(4, "read_file", path="/" + "x" * 100_000, mode="text")
        assert (await gate.answer(long))[1]["result"]["isError"]
        assert [seen.message["params"]["name"] for seen in upstream.requests] == ["free"]
        good = call(5, "read_file", path="/data/a", mode="text")
        assert (await gate.answer(good))[1]["result"]["echo"]["arguments"] == {"path": "/data/a", "mode": "text"}
        await asyncio.to_thread(eventually, lambda: len(gate.lines()) == 17)
        refused = [line for line in gate.lines() if line.get("name") == "read_file" and line.get("outcome") is None]
        assert len(refused) == 13  # the outcome "refused" is the default, which a line leaves out
        assert "s3cret" not in str(gate.lines())

    run(tmp_path, upstream, steps)


def test_a_call_too_many_is_refused_with_429_for_its_caller_alone(tmp_path: Path) -> None:
    upstream = Upstream(echo)

    async def steps(gate: Rig) -> None:
        async def send(
            token: str, request: tuple[bytes, list[Any]] | bytes, **options: str
        ) -> tuple[int, Any, dict[bytes, bytes]]:
            body, headers = (request, []) if isinstance(request, bytes) else request
            response = await gate.post(body, *headers, token=token, **options)
            return response.status, json.loads(await response.read(9999)), dict(response.headers)

        assert [(await send("secret", call(1, "send")))[0], (await send("secret", modern(1, "send")))[0]] == [200, 200]
        for request in (call(7, "send"), modern(7, "send")):
            status, body, headers = await send("secret", request)
            wait = int(headers[b"retry-after"])
            assert (status, 1790 <= wait <= 1800) == (429, True)
            text = f"send takes at most 2 calls per hour of a caller; call again in {wait} s."
            assert body == {
                "jsonrpc": "2.0",
                "id": 7,
                "error": {"code": 1000, "message": text, "data": {"retryAfter": wait}},
            }
        assert (await send("other", call(1, "send")))[0] == 200
        assert (await send("secret", call(1, "free")))[0] == 200
        # Tools that one rule is for are counted apart; those that the app does not list, together.
        asked = ["any_a", "any_b", "any_a", "any_x1", "any_x2", "ANY_B", " any_b"]
        assert [(await send("secret", call(1, name)))[0] for name in asked] == [200, 200, 429, 200, 429, 429, 429]
        # The rule goes on with its counts when others come.
        write(gate.paths.routes, [*RULES, PolicyRule(tool="z", scopes=["z"])], 3)
        await gate.op(op="table")
        assert gate.routes.version == 3
        assert (await send("secret", call(1, "send")))[0] == 429
        # Callers without a token are their addresses.
        assert [(await send("", call(1, "send"), path="/p/mcp"))[0] for _ in range(3)] == [200, 200, 429]
        await asyncio.to_thread(eventually, lambda: sum(line.get("status") == 429 for line in gate.lines()) == 8)
        assert (
            'portway_gate_errors_total{app="a",method="tools/call",name="send"} 3.0'
            in (await gate.op(op="metrics"))["text"]
        )

    run(tmp_path, upstream, steps)


def test_each_caller_has_only_so_many_calls_of_a_tool_at_a_time(tmp_path: Path) -> None:
    arrived, go = asyncio.Event(), asyncio.Event()

    async def waiting(seen: Seen, writer: asyncio.StreamWriter) -> None:
        arrived.set()
        await go.wait()
        writer.write(result(seen, {"content": []}))

    async def steps(gate: Rig) -> None:
        first = asyncio.create_task(gate.answer(call(1, "slow")))
        await arrived.wait()
        response = await gate.post(call(2, "slow"))
        assert (response.status, response.header(b"retry-after")) == (429, b"1")
        text = "slow takes at most 1 call of a caller at a time; call again when one of them has ended."
        assert json.loads(await response.read(9999))["error"]["message"] == text
        other = asyncio.create_task(gate.answer(call(1, "slow"), token="other"))
        go.set()
        assert ((await first)[0], (await other)[0]) == (200, 200)
        assert (await gate.answer(call(3, "slow")))[0] == 200

    run(tmp_path, Upstream(waiting), steps)


def test_limits_that_cannot_be_checked_let_nothing_pass(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        rules = [PolicyRule(tool="send", rate="often"), PolicyRule(tool="slow", arguments={"a": Limit(pattern="(")})]
        async with limiting(tmp_path, Upstream(echo), rules) as gate:
            for name in ("send", "slow"):
                status, body = await gate.answer(call(1, name))
                said = f"{name} has limits that its host cannot check; the host's log says why."
                assert (status, body["error"]["message"]) == (503, said)
            assert (await gate.answer(call(1, "free")))[0] == 200

    asyncio.run(main())
    assert "a policy of send lets no call pass: 'often' is no rate as in 10/minute" in caplog.text
