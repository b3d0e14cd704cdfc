"""MCP over stdio, seen by the official client and by raw lines through real pipes."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

from portway.transport.pipes import Lines
from tests.support import clean_env, eventually
from tests.transport.stdio_client import ENVELOPE, Pipes, call, cancel, command, request

COMMAND = command("stdio_server.py")
ERAS = pytest.mark.parametrize("modern", [False, True], ids=["legacy", "modern"])


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_the_official_client_lists_and_calls(mode: str) -> None:
    async def scenario() -> None:
        parameters = StdioServerParameters(command=COMMAND[0], args=COMMAND[1:])
        async with Client(stdio_client(parameters), mode=mode) as client:  # type: ignore[arg-type]
            assert "echo" in [tool.name for tool in (await client.list_tools()).tools]
            result = await client.call_tool("echo", {"text": "é"})
            assert result.structured_content == {"result": "é"}

    asyncio.run(scenario())


def test_what_the_author_and_their_children_print_goes_to_stderr() -> None:
    with Pipes(*COMMAND) as pipes:
        assert pipes.ask(call("noisy", id=7))["id"] == 7
        assert pipes.close_input() == 0
        assert pipes.process.stderr
        told = pipes.process.stderr.read().decode()
    assert {"from import", "from print", "from child"} <= set(told.splitlines())
    assert "fixture on stdio (stdio: as asked)" in told


@ERAS
def test_a_waiting_handler_holds_up_nobody(modern: bool) -> None:
    with Pipes(*COMMAND) as pipes:
        pipes.initialize()
        pipes.send(call("wait", id="slow", modern=modern), call("wait_on_a_thread", id="thread", modern=modern))
        assert pipes.ask(call("echo", id=2, modern=modern, text="x"))["id"] == 2


@ERAS
def test_a_cancelled_request_is_stopped_and_gets_no_reply(modern: bool) -> None:
    with Pipes(*COMMAND) as pipes:
        pipes.initialize()
        pipes.send(call("wait", id=5, modern=modern), cancel(5), cancel("unknown"))
        assert pipes.ask(call("waiting", id=6, modern=modern))["result"]["structuredContent"] == {"result": 0}


def test_a_handler_that_exits_or_cancels_itself_is_answered_and_the_server_goes_on() -> None:
    with Pipes(*COMMAND) as pipes:
        pipes.initialize()
        for cancel_itself in (True, False):
            assert pipes.ask(call("leave", id=1, cancel=cancel_itself))["result"]["isError"] is True


@ERAS
def test_progress_comes_before_the_result(modern: bool) -> None:
    with Pipes(*COMMAND) as pipes:
        pipes.initialize()
        pipes.send(call("count", id=3, modern=modern, progress="p", to=2))
        seen = [pipes.receive() for _ in range(3)]
    assert [m.get("params", {}).get("progress") for m in seen] == [1, 2, None]
    assert [m.get("params", {}).get("progressToken") for m in seen[:2]] == ["p", "p"]
    assert seen[2]["id"] == 3


@pytest.fixture(scope="module")
def open_pipes() -> Iterator[Pipes]:
    """A server with no legacy session, for several tests in turn."""
    with Pipes(*COMMAND) as pipes:
        yield pipes


BARE = request("tools/list", id=9)
LISTING = request("tools/list", {"_meta": ENVELOPE}, id=9)
UNKNOWN_VERSION = {**ENVELOPE, "io.modelcontextprotocol/protocolVersion": "2099-01-01"}


@pytest.mark.parametrize(
    ("line", "code", "request_id"),
    [
        (b"{not json", -32700, None),
        (b'{"jsonrpc":"2.0","id":1,"method":"\xff"}', -32700, 1),
        (rb'{"method":"tools/call","params":{"arguments":{"a":"\ud800"}},"jsonrpc":"2.0","id":"x"}', -32700, "x"),
        (rb'{"jsonrpc":"2.0","id":"\ud800","method":"ping"}', -32700, None),
        (b'{"jsonrpc":"2.0","id":5,"method":"ping","params":{"a":"\1"}}', -32700, 5),
        (b"[]", -32600, None),
        (b'"text"', -32600, None),
        (b'{"jsonrpc":"2.0","id":4}', -32600, 4),
        (b" " * 17_000_000, -32600, None),
        (BARE, -32602, 9),
        (request("tools/list", {"_meta": UNKNOWN_VERSION}, id=9), -32022, 9),
        (request("ping", {"_meta": ENVELOPE}, id=9), -32601, 9),
        (call("no_such_tool", id=9), -32602, 9),
    ],
    ids=lambda value: None if isinstance(value, int) else str(value)[:30].strip() or "oversize",
)
def test_a_bad_message_is_answered_and_the_next_is_served(
    open_pipes: Pipes, line: bytes | dict[str, Any], code: int, request_id: int | None
) -> None:
    open_pipes.send(line)
    answer = open_pipes.receive()
    assert (answer["error"]["code"], answer.get("id")) == (code, request_id)
    assert "result" in open_pipes.ask(LISTING)


def test_what_needs_no_answer_gets_none(open_pipes: Pipes) -> None:
    quiet: list[dict[str, Any] | bytes] = [
        b"",
        b"  \r",
        {"jsonrpc": "2.0", "method": "notifications/unheard_of"},
        {"jsonrpc": "2.0", "id": 3, "result": {}},
        {"jsonrpc": "2.0", "id": 3, "error": {"code": 1, "message": "x"}},
    ]
    open_pipes.send(*quiet)
    assert open_pipes.ask(request("ping", id="p")) == {"jsonrpc": "2.0", "id": "p", "result": {}}


@given(st.lists(st.sampled_from([b"a", b"b", b"\n"]), max_size=40), st.integers(1, 9), st.integers(0, 6))
def test_lines_are_the_same_however_the_bytes_arrive(pieces: list[bytes], size: int, limit: int) -> None:
    data = b"".join(pieces)
    lines: list[bytes | None] = []
    splitter = Lines(limit, lines.append, lambda: lines.append(None))
    for start in range(0, len(data), size):
        splitter.feed(data[start : start + size])
    splitter.finish()
    expected = [line if len(line) <= limit else None for line in data.split(b"\n")]
    assert lines == (expected if expected[-1] != b"" else expected[:-1])


def test_an_id_in_flight_is_not_taken_twice() -> None:
    with Pipes(*COMMAND) as pipes:
        pipes.send(call("wait", id=1))
        assert pipes.ask(call("echo", id=1, text="x"))["error"]["code"] == -32600


def test_a_batch_is_answered_as_one_in_a_2025_03_26_session_only() -> None:
    batch: list[Any] = [
        call("echo", id=1, modern=False, text="a"),
        {"jsonrpc": "2.0", "method": "notifications/unheard_of"},
        request("ping", id=2),
        request("initialize", id=3),
        {"jsonrpc": "2.0", "id": 4},
    ]
    with Pipes(*COMMAND) as pipes:
        pipes.initialize("2025-03-26")
        pipes.send(batch)
        answers = {answer["id"]: answer for answer in pipes.receive()}
        assert {i: "result" in answer for i, answer in answers.items()} == {1: True, 2: True, 3: False, 4: False}
        pipes.send([{"jsonrpc": "2.0", "method": "notifications/unheard_of"}], [])
        assert pipes.receive()["error"]["code"] == -32600
        pipes.initialize("2025-11-25")
        pipes.send(batch)
        assert pipes.receive()["error"]["code"] == -32600


def test_a_client_that_writes_all_before_it_reads_gets_all() -> None:
    with Pipes(*COMMAND) as pipes:
        for number in range(30):  # far more than a pipe holds, in both directions
            pipes.send(call("repeat", id=number, text="y" * 20_000, times=5))
        assert sorted(pipes.receive()["id"] for _ in range(30)) == list(range(30))


def test_at_the_end_of_input_what_is_quick_is_answered_and_the_rest_is_cancelled() -> None:
    with Pipes(*COMMAND) as pipes:
        pipes.send(call("wait", id=1), call("wait_on_a_thread", id=2))
        assert pipes.process.stdin
        pipes.process.stdin.write(json.dumps(call("echo", id=3, text="last")).encode())  # without a line break
        assert pipes.close_input() == 0
        assert pipes.process.stdout
        assert [json.loads(line)["id"] for line in pipes.process.stdout] == [3]


def test_input_from_a_file_is_served_to_its_end(tmp_path: Path) -> None:
    file = tmp_path / "requests"
    file.write_text("".join(json.dumps(call("echo", id=i, text="x")) + "\n" for i in range(3)))
    with file.open() as stdin:
        done = subprocess.run(COMMAND, stdin=stdin, capture_output=True, env=clean_env(), timeout=120, check=True)
    assert [json.loads(line)["id"] for line in done.stdout.splitlines()] == [0, 1, 2]


@pytest.mark.slow
def test_a_client_that_leaves_ends_a_server_whose_handler_blocks_the_loop() -> None:
    with Pipes(*COMMAND) as pipes:
        pipes.ask(LISTING)
        pipes.send(call("block"))
        assert pipes.close_input() == 0


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="only Linux tells of a parent's death beside the pipe")
def test_a_server_ends_with_its_parent_even_while_others_hold_its_input() -> None:
    parent = (
        "import signal, subprocess, sys; print(subprocess.Popen(sys.argv[1:]).pid, file=sys.stderr); signal.pause()"
    )
    with Pipes(sys.executable, "-c", parent, *COMMAND) as pipes:
        assert pipes.process.stderr
        server = int(pipes.process.stderr.readline())
        assert "result" in pipes.ask(LISTING)
        pipes.process.kill()
        pipes.process.wait()
        eventually(lambda: ended(server))


def ended(pid: int) -> bool:
    """Return whether a process has ended; a zombie has."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z"
