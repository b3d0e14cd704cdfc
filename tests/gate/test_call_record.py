"""The call record: complete, gap-free, without secrets, and whole again after a crash. And the gate as a process."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from portway.auth.tokens import digest
from portway.host.gate.call_record import CallRecord, Line
from portway.host.gate.record_files import Retention, record_files
from portway.host.token_table import Token, TokenChange
from portway.http.http_client import HttpClient
from portway.oauth import refused_tokens
from tests.docs.test_wire_errors import pattern
from tests.gate.running_gate import JSON, Seen, Upstream, call, echo, modern, prepare, record, result, rig, running
from tests.support import clean_env, eventually

if TYPE_CHECKING:
    from pathlib import Path


def test_each_call_is_one_line_that_tells_what_happened_and_holds_no_secret(tmp_path: Path) -> None:
    async def test() -> None:
        async def fails(seen: Seen, writer: asyncio.StreamWriter) -> None:
            name = seen.message["params"]["name"]
            writer.write(result(seen, {"content": [], "isError": name == "bad"}))

        async with rig(tmp_path, Upstream(fails)) as gate:
            await gate.answer(call(1, name="good", password="hunter2"))
            await gate.answer(call(2, name="bad", password="hunter2"))
            await gate.answer(call(2, name="bad"), token="unknown-token")
            body, headers = modern(3, name="good", password="other")
            await gate.answer(body, *headers)
            stats = await gate.op(op="stats")
            text = (await gate.op(op="metrics"))["text"]
        lines = gate.lines()
        assert [line["seq"] for line in lines] == [1, 2, 3, 4]
        assert lines[0]["event"] == "gate-started"
        told = [
            [
                line[key]
                for key in ("app", "release", "instance", "principal", "era", "method", "name", "outcome", "status")
            ]
            for line in lines[1:]
        ]
        assert told == [
            ["a", 1, "i0", "alice", "legacy", "tools/call", "good", "ok", 200],
            ["a", 1, "i0", "alice", "legacy", "tools/call", "bad", "isError", 200],
            ["a", 1, "i0", "alice", "modern", "tools/call", "good", "ok", 200],
        ]
        assert lines[1]["arguments"] == lines[2]["arguments"] != lines[3]["arguments"]
        assert lines[1]["bytes_in"] == len(call(1, name="good", password="hunter2"))
        everything = json.dumps(lines) + json.dumps(stats) + text
        assert not [secret for secret in ("hunter2", "secret", "unknown-token") if secret in everything]
        assert stats["apps"]["a"] == {"in_flight": 0, "streams": 0, "calls": 3, "errors": 1}
        assert 'portway_gate_call_seconds_count{app="a",method="tools/call",name="good"} 2.0' in text
        assert "portway_gate_unauthorized_total 1.0" in text
        assert "portway_gate_calls_dropped_total 0.0" in text

    asyncio.run(test())


def test_the_log_says_why_requests_are_refused_for_their_token_in_a_line_for_each_app_and_reason(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told() -> list[str]:
        return [each.getMessage() for each in caplog.records if " was refused: " in each.getMessage()]

    async def test() -> None:
        async with rig(tmp_path, Upstream(echo)) as gate:
            gate.routes.callers.change([TokenChange(Token(digest("of-b"), "b", "ci", 9))])
            for number in range(5):
                for path in ("/a/mcp", f"/made-up-{number}/mcp"):
                    for token in ("", f"mistyped-{number}", "of-b"):
                        assert (await gate.answer(call(), path=path, token=token))[0] == 401
            lines = [
                f"a request for {app} was refused: {why}"
                for app in ("a", "no app of this host")
                for why in (
                    "it brings no token",
                    "its token is unknown here, has expired or was revoked",
                    "its token is one of the app 'b'",
                )
            ]
            assert (await gate.answer(call()))[0] == 200, "on the same connection, so what was before has ended"
            assert told() == lines
            monkeypatch.setattr(refused_tokens, "_SECONDS", 0.0)
            assert (await gate.answer(call(), token=""))[0] == 401
            assert (await gate.answer(call()))[0] == 200
            assert told() == [*lines, f"{lines[0]} (4 others like it before)"]
            assert "portway_gate_unauthorized_total 31.0" in (await gate.op(op="metrics"))["text"]
            assert not [given for given in ("mistyped", "of-b", "made-up") if given in caplog.text]

    monkeypatch.setattr(refused_tokens, "_SECONDS", 3600.0)
    asyncio.run(test())


def test_what_a_client_names_is_cut_in_the_record_and_the_metrics(tmp_path: Path) -> None:
    async def test() -> None:
        async with rig(tmp_path, Upstream(echo)) as gate:
            status, answer = await gate.answer(call().replace(b"tools/call", b"m" * 200_000), path="/p/mcp", token="")
            assert (status, answer["error"]["code"]) == (404, -32601)
            assert len(answer["error"]["message"]) < 200
            name = "t" * 200_000
            _, answer = await gate.answer(call(name=name), path="/p/mcp", token="")
            assert answer["result"]["echo"]["name"] == name, "the instance gets all of it"
            gate.client._host_header = b"host: p.localhost"
            page = await gate.client.request("GET", "/" + "p" * 5000)
            await page.read(1000)
            text = (await gate.op(op="metrics"))["text"]
        labels = re.findall('(?:method|name)="([^"]*)"', text)
        assert {"tools/call", "t" * 256, "m" * 256} < {*labels}
        assert max(map(len, labels)) == 256
        assert [len(line["name"]) for line in gate.lines()[2:]] == [256, 256]
        files = list(gate.paths.calls.glob("*.jsonl"))
        assert sum(file.stat().st_size for file in files) < 4096

    asyncio.run(test())


class GateProcess:
    """`python -m portway.host.gate` on a listening socket that outlives it."""

    def __init__(self, data: Path, listener: socket.socket) -> None:
        arguments = ["--data", str(data), "--fd", str(listener.fileno())]
        command = [sys.executable, "-m", "portway.host.gate", *arguments]
        self.process = subprocess.Popen(
            command, env=clean_env(), pass_fds=[listener.fileno()], stderr=subprocess.PIPE, text=True
        )

    def end(self, number: signal.Signals) -> tuple[int, str]:
        self.process.send_signal(number)
        _, log = self.process.communicate(timeout=120)
        return self.process.returncode, log


def test_numbers_go_on_without_a_gap_after_a_kill_and_no_connection_is_refused_meanwhile(tmp_path: Path) -> None:
    async def test() -> None:
        upstream = Upstream(echo)
        server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
        paths = prepare(tmp_path, [f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"])
        with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
            async with HttpClient(f"http://127.0.0.1:{listener.getsockname()[1]}") as client:

                async def ask(number: int) -> int:
                    headers = [JSON, (b"authorization", b"Bearer secret")]
                    return (await client.request("POST", "/a/mcp", headers, call(number))).status

                gate = GateProcess(paths.data, listener)
                assert [await ask(number) for number in range(5)] == [200] * 5
                await asyncio.to_thread(eventually, lambda: len(record(paths)) == 6)
                gate.end(signal.SIGKILL)
                file = next(paths.calls.glob("*.jsonl"))
                with file.open("ab") as torn:
                    torn.write(b'{"seq":7,"time":"2026-')
                waiting = asyncio.create_task(ask(5))  # the kernel holds it until there is a gate again
                gate = GateProcess(paths.data, listener)
                assert await waiting == 200
                code, log = await asyncio.to_thread(gate.end, signal.SIGTERM)
        server.close()
        assert code == 0
        assert "half a line" in log
        assert "secret" not in log
        lines = record(paths)
        assert [line["seq"] for line in lines] == list(range(1, 9))
        assert [number for number, line in enumerate(lines) if line.get("event") == "gate-started"] == [0, 6]

    asyncio.run(test())


def test_sigterm_lets_a_call_in_flight_end(tmp_path: Path) -> None:
    async def test() -> None:
        asked, go = asyncio.Event(), asyncio.Event()

        async def held(seen: Seen, writer: asyncio.StreamWriter) -> None:
            asked.set()
            await go.wait()
            await echo(seen, writer)

        server = await asyncio.start_server(Upstream(held).serve, "127.0.0.1", 0)
        paths = prepare(tmp_path, [f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"])
        with socket.create_server(("127.0.0.1", 0)) as listener:
            async with HttpClient(f"http://127.0.0.1:{listener.getsockname()[1]}") as client:
                gate = GateProcess(paths.data, listener)
                answer = asyncio.create_task(client.request("POST", "/p/mcp", [JSON], call()))
                await asked.wait()
                gate.process.terminate()
                go.set()
                assert (await answer).status == 200
                await asyncio.to_thread(gate.process.communicate)
                assert gate.process.returncode == 0
        server.close()
        assert record(paths)[-1]["outcome"] == "ok"

    asyncio.run(test())


def test_control_has_a_new_table_put_in_force_and_an_instance_drained(tmp_path: Path) -> None:
    async def test() -> None:
        asked, go = asyncio.Event(), asyncio.Event()

        async def held(seen: Seen, writer: asyncio.StreamWriter) -> None:
            asked.set()
            await go.wait()
            await echo(seen, writer)

        async with rig(tmp_path, Upstream(held)) as gate:
            old = asyncio.create_task(gate.answer(call("old")))
            await asked.wait()
            file = json.loads(gate.paths.routes.read_text())
            fresh = Upstream(echo)
            server = await asyncio.start_server(fresh.serve, "127.0.0.1", 0)
            file["version"] = 2
            file["apps"]["a"] |= {
                "release": 2,
                "instances": [{"id": "new", "address": f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"}],
            }
            del file["apps"]["p"]
            gate.paths.routes.write_text(json.dumps(file))
            assert await gate.op(op="table") == {"ok": True, "version": 2}
            assert (await gate.answer(call("new")))[0] == 200
            assert (await gate.answer(call(), path="/p/mcp", token=""))[0] == 401
            assert len(fresh.requests) == 1
            assert await gate.op(op="drain", instance="i0", seconds=0) == {"ok": True, "in_flight": 1}
            drained = asyncio.create_task(gate.op(op="drain", instance="i0", seconds=10))
            go.set()
            assert await drained == {"ok": True, "in_flight": 0}
            assert (await old)[0] == 200
            gate.paths.routes.write_text("{damaged")
            text = "The routing table is missing or damaged; the last one stays in use."
            assert await gate.op(op="table") == {"ok": False, "error": text}
            gate.paths.routes.unlink()
            assert await gate.op(op="table") == {"ok": False, "error": text}
            assert (await gate.op(op="nonsense"))["ok"] is False
            assert (await gate.answer(call("new")))[0] == 200  # the last good table stays in force
            server.close()

    asyncio.run(test())


def test_a_gate_without_a_table_asks_callers_to_wait_and_serves_the_next_one(tmp_path: Path) -> None:
    async def test() -> None:
        upstream = Upstream(echo)
        async with rig(tmp_path, upstream) as gate:
            table = gate.paths.routes.read_bytes()
        for damaged in (b"", b"{", None):
            gate.paths.routes.write_bytes(damaged or b"")
            if damaged is None:
                gate.paths.routes.unlink()
            async with running(gate.paths) as again:
                status, answer = await again.answer(call())
                assert (status, answer["error"]["message"]) == (503, "The host is starting; try again soon.")
                gate.paths.routes.write_bytes(table)
                await again.op(op="table")
                assert (await again.answer(call(), token="wrong"))[0] == 401

    asyncio.run(test())


def test_no_call_is_taken_while_the_record_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        broken = True
        write = os.write

        def refusing(descriptor: int, data: bytes) -> int:
            if broken and data.startswith(b'{"seq"'):
                raise OSError(28, "No space left on device")
            return write(descriptor, data)

        monkeypatch.setattr("portway.host.gate.call_record.os.write", refusing)
        monkeypatch.setattr("portway.host.gate.call_record._MOST_WAITING", 3)
        upstream = Upstream(echo)
        async with rig(tmp_path, upstream) as gate:
            while (answer := await gate.answer(call("x")))[0] == 200:
                pass
            assert (answer[0], answer[1]["id"]) == (503, "x")
            assert "call record" in answer[1]["error"]["message"]
            refused = 1
            while refused < 9:
                refused += (await gate.answer(call("x")))[0] == 503
            broken = False
            while (await gate.answer(call("y")))[0] != 200:
                refused += 1
        lines = gate.lines()
        assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))  # what the disk refused was kept
        assert sum(line.get("count", 1) for line in lines if line.get("status") == 503) == refused, "none is forgotten"
        assert sum(line.get("event") == "omitted" for line in lines) == 1

    asyncio.run(test())


def test_files_follow_one_another_by_size_and_are_named_for_their_first_number(tmp_path: Path) -> None:
    for _ in range(3):
        log = CallRecord(tmp_path, b"k", Retention(file_bytes=1))
        log.open()
        log.add(Line())
        log.close()
    files = sorted(tmp_path.iterdir())
    numbers = [json.loads(line)["seq"] for file in files for line in file.read_text().splitlines()]
    assert numbers == [1, 2, 3, 4, 5, 6]
    assert [int(file.stem) for file in files] == [json.loads(file.read_text().splitlines()[0])["seq"] for file in files]
    assert len(files) >= 3


def numbers_in(directory: Path) -> list[int]:
    return [json.loads(line)["seq"] for path in record_files(directory) for line in path.read_text().splitlines()]


def fill(directory: Path, retention: Retention, starts: int = 4) -> int:
    """Write two lines at each of some starts of a gate; return how many lines were dropped in all."""
    for _ in range(starts):
        log = CallRecord(directory, b"k", retention)
        log.open()
        log.add(Line(app="a"))
        log.close()
    return log.dropped


def test_the_oldest_files_go_when_the_record_is_too_large_and_their_lines_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "portway.gate")
    dropped = fill(tmp_path, Retention(bytes=300))
    kept = numbers_in(tmp_path)
    assert dropped
    assert kept == list(range(dropped + 1, 9)), "whole files of the oldest lines are gone, and numbers go on"
    assert f"{dropped} in all" in caplog.text
    assert fill(tmp_path, Retention(), starts=1) == dropped, "the next gate knows of them"


def test_files_go_when_their_newest_line_is_too_old_but_the_newest_file_stays(tmp_path: Path) -> None:
    fill(tmp_path, Retention())
    *old, recent, last = record_files(tmp_path)
    for path in (*old, last):
        os.utime(path, (0, 0))
    assert fill(tmp_path, Retention(), starts=1) == len(old) * 2, "what came after a kept file is kept"
    assert recent.exists()
    assert numbers_in(tmp_path) == list(range(len(old) * 2 + 1, 11))


def test_what_cannot_be_deleted_is_said_and_calls_go_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fill(tmp_path, Retention(), starts=2)
    record_files(tmp_path)[0].unlink()
    (tmp_path / "000000000001.jsonl").mkdir()
    fill(tmp_path, Retention(bytes=0), starts=1)
    assert re.search(pattern("old calls of the record cannot be deleted: …"), caplog.text)
    assert [int(path.stem) for path in record_files(tmp_path)] == [1, 3, 5], "calls go on"


def test_a_file_has_one_days_lines(tmp_path: Path) -> None:
    log = CallRecord(tmp_path, b"k", Retention(file_seconds=0))
    log.open()
    eventually(lambda: len(record_files(tmp_path)) == 1)
    log.add(Line(app="a"))
    log.close()
    assert len(record_files(tmp_path)) == 2


@pytest.mark.parametrize("damage", [b'{"seq":3', b"\0" * 100, b"\0\n", b"garbage\n", b"{}\n"])
def test_a_torn_end_is_cut_off_and_the_numbers_go_on(tmp_path: Path, damage: bytes) -> None:
    log = CallRecord(tmp_path, b"k")
    log.open()
    log.add(Line())
    log.close()
    (file,) = tmp_path.iterdir()
    with file.open("ab") as end:
        end.write(damage)
    record = CallRecord(tmp_path, b"k")
    record.open()
    record.close()
    assert [
        json.loads(line)["seq"] for each in sorted(tmp_path.iterdir()) for line in each.read_text().splitlines()
    ] == [1, 2, 3]


def test_the_same_arguments_have_the_same_digest_only_under_the_same_key(tmp_path: Path) -> None:
    logs = [CallRecord(tmp_path / str(number), key) for number, key in enumerate((b"k", b"k", b"other"))]
    digests = [log.digest(b'{"a":1}') for log in logs]
    for log in logs:
        log.close()
    assert digests[0] == digests[1] != digests[2]


def test_the_gate_never_imports_the_authors_half_or_the_store() -> None:
    program = "import sys, portway.host.gate.__main__; print(*sys.modules)"
    modules = subprocess.run(
        [sys.executable, "-c", program], env=clean_env(), capture_output=True, text=True, check=True
    ).stdout.split()
    heavy = (
        "portway.server",
        "portway.transport",
        "portway.client",
        "sqlalchemy",
        "pydantic",
        "prometheus_client",
        "click",
    )
    assert not [name for name in modules if name.startswith(heavy)]
