"""The replies of a host's gate and the lines of its log, in docs/errors-host.md and docs/errors-protocol.md."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from portway.host import routing_table
from portway.host.gate import in_flight, relay
from portway.host.gate.call_record import CallRecord
from portway.host.paths import Paths
from tests.docs.test_wire_errors import pattern
from tests.gate.running_gate import Seen, Upstream, call, echo, rig
from tests.support import clean_env, eventually

PING = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'
INITIALIZE = PING.replace(b"ping", b"initialize")


@pytest.mark.parametrize(
    ("text", "body", "headers", "options"),
    [
        ("There is nothing at this path; the MCP endpoint of an app is /<app>/mcp.", PING, (), {"path": "/a/sse"}),
        (
            "This Origin is not allowed. `portway deploy --allow-origin` names the pages of an app.",
            PING,
            ((b"origin", b"https://evil.test"),),
            {},
        ),
        ("A valid bearer token for this app is needed in the Authorization header.", PING, (), {"token": "planted"}),
        ("The body is larger than … bytes.", b" " * 2000, (), {}),
        ("A batch must be a JSON array of 1 to … messages.", b"[]", (), {}),
        ("initialize must not be part of a batch.", b"[%b]" % INITIALIZE, (), {}),
        (
            "The session has ended, or belongs to another caller: initialize a new one.",
            PING,
            ((b"mcp-session-id", b"x"),),
            {},
        ),
        ("The … header is sent twice.", PING, ((b"content-type", b"application/json"),), {}),
        ("The app … has crashed and is being restarted; try again soon.", call(), (), {"path": "/down/mcp"}),
        ("The app … is starting; try again soon.", call(), (), {"path": "/soon/mcp"}),
        ("The app … fails its health check; try again soon.", call(), (), {"path": "/ill/mcp"}),
        ("The app … cannot be reached; try again soon.", call(), (), {}),
        ("The app … has reached its limit of calls.", call(), (), {"path": "/full/mcp"}),
    ],
)
def test_the_gate_refuses_with_the_documented_text(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    body: bytes,
    headers: tuple[tuple[bytes, bytes], ...],
    options: dict[str, str],
) -> None:
    monkeypatch.setattr(relay, "_START_SECONDS", 0.05)

    async def test() -> None:
        async with rig(tmp_path, addresses=(f"unix:{tmp_path}/none.sock",), body_bytes=1000) as gate:
            table = routing_table.load(gate.paths.routes)
            table.apps["soon"] = routing_table.App("soon", 1, "public", "starting")
            table.apps["ill"] = routing_table.App("ill", 1, "public", "unhealthy")
            table.apps["full"] = routing_table.App("full", 1, "public", limits=routing_table.AppLimits(in_flight=0))
            routing_table.save(gate.paths.routes, routing_table.Table(2, table.domain, table.apps))
            await gate.op(op="table")
            _, answer = await gate.answer(body, *headers, **options)
            found: Any = answer[0] if isinstance(answer, list) else answer
            assert re.fullmatch(pattern(text), found["error"]["message"])

    asyncio.run(test())


def test_other_methods_and_too_many_streams_are_refused_with_the_documented_texts(tmp_path: Path) -> None:
    async def test() -> list[bytes]:
        async with rig(tmp_path, Upstream(echo), streams=0) as gate:
            replies = [await gate.client.request(method, "/p/mcp") for method in ("PUT", "GET")]
            return [await reply.read(1000) for reply in replies]

    method, streams = asyncio.run(test())
    assert b"The MCP endpoint takes POST, GET and DELETE." in method
    assert re.search(pattern("The app … has reached its limit of open streams."), streams.decode())


def test_an_app_that_stays_silent_is_given_up_with_the_documented_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(in_flight, "_SILENCE", 0.05)

    async def test() -> Any:
        async def silent(seen: Seen, writer: asyncio.StreamWriter) -> None:
            await asyncio.Event().wait()

        async with rig(tmp_path, Upstream(silent)) as gate:
            return await gate.answer(call())

    status, answer = asyncio.run(test())
    assert status == 504
    assert re.fullmatch(pattern("The app … did not answer in time."), answer["error"]["message"])


def test_a_record_that_cannot_be_written_stops_calls_and_is_logged_with_the_documented_texts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    is_full = True

    def sync(descriptor: int) -> None:
        if is_full:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fdatasync", sync)

    async def test() -> Any:
        async with rig(tmp_path, Upstream(echo)) as gate:
            await asyncio.to_thread(eventually, lambda: "the call record cannot be written" in caplog.text)
            return (await gate.answer(call()))[1]

    answer = asyncio.run(test())
    assert answer["error"]["message"] == "The host cannot keep its call record and takes no calls until it can."
    assert re.search(pattern("… lines of the call record could not be written"), caplog.text)
    record = CallRecord(tmp_path / "calls", b"key")
    record.open()
    eventually(lambda: caplog.text.count("calls are refused until it can") == 2)
    is_full = False
    eventually(lambda: "the call record is written again; calls are accepted" in caplog.text)
    record.close()


def test_a_record_that_ends_in_half_a_line_is_repaired_with_the_documented_text(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "000000000001.jsonl").write_text('{"seq":1,"time":"t"}\n{"seq":2,"ti')
    record = CallRecord(tmp_path, b"key")
    record.open()
    record.close()
    assert re.search(pattern("the call record ended in half a line: … bytes of … cut"), caplog.text)


def test_a_gate_without_its_data_prints_the_documented_text(tmp_path: Path) -> None:
    Paths(tmp_path, tmp_path / "run").calls.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "portway.host.gate", "--data", tmp_path, "--port", "0"],
        env=clean_env(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert re.search(pattern("the gate cannot start: …"), done.stderr)
    assert "Traceback" not in done.stderr
