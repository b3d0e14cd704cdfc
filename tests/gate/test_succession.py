"""A gate takes the place of another under load: no call is lost, and the record has every one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from portway.host.paths import Paths
from portway.http.bind import Bind
from portway.http.http_client import HttpClient
from tests.gate.running_gate import JSON, Seen, Upstream, call, modern, prepare, record, result
from tests.support import clean_env, eventually


@contextlib.asynccontextmanager
async def gate_process(
    paths: Paths, listening: socket.socket, *options: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A gate as a process of its own."""
    descriptor = listening.fileno()
    command = [sys.executable, "-m", "portway.host.gate", "--data", paths.data, "--fd", str(descriptor), *options]
    process = await asyncio.create_subprocess_exec(*command, pass_fds=[descriptor], env=clean_env())
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def serving_pid(path: Path) -> int:
    """Return the process that listens on a socket, 0 when none does."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as asker:
        asker.connect(str(path))
        return int.from_bytes(asker.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)[:4], sys.byteorder)
    return 0


async def until(path: Path, pid: int) -> None:
    await asyncio.to_thread(eventually, lambda: serving_pid(path) == pid)


class Load:
    """Clients that call without a pause, in both eras, each on a connection that it keeps."""

    def __init__(self, port: int) -> None:
        self.port, self.over, self.answered = port, False, 0

    async def one(self, number: int) -> None:
        async with HttpClient(f"http://127.0.0.1:{self.port}") as client:
            while not self.over:
                body, headers = modern(number) if number % 2 else (call(number), [])
                sent = [JSON, (b"authorization", b"Bearer secret"), *headers]
                response = await client.request("POST", "/a/mcp", sent, body)
                answer = json.loads(await response.read(100_000))
                assert (response.status, answer["id"]) == (200, number), answer
                self.answered += 1


def test_a_gate_takes_over_under_load_while_the_one_before_ends_its_calls(tmp_path: Path) -> None:
    held, go = asyncio.Event(), asyncio.Event()

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        if "id" in seen.message and seen.message["params"]["name"] == "hold":
            held.set()
            await go.wait()
        writer.write(result(seen, {}))

    async def test() -> None:
        upstream = Upstream(script)
        server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
        upstream.address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        paths = prepare(tmp_path, [upstream.address])
        with Bind(port=0).open() as listening:
            port = listening.getsockname()[1]
            address = f"http://127.0.0.1:{port}"
            async with gate_process(paths, listening) as old, HttpClient(address) as holder:
                await until(paths.gate_socket, old.pid)
                load = Load(port)
                callers = [asyncio.create_task(load.one(number)) for number in range(6)]
                sent = [JSON, (b"authorization", b"Bearer secret")]
                holding = asyncio.create_task(holder.request("POST", "/a/mcp", sent, call(99, "hold")))
                await held.wait()
                async with gate_process(paths, listening, "--standby") as new:
                    await until(paths.standby_socket, new.pid)
                    assert serving_pid(paths.gate_socket) == old.pid, "it waits"
                    before = load.answered
                    new.send_signal(signal.SIGUSR2)
                    await until(paths.gate_socket, new.pid)
                    await until(paths.retired_gate_socket, old.pid)
                    await asyncio.to_thread(eventually, lambda: load.answered > before + 50)
                    load.over = True
                    await asyncio.gather(*callers)
                    go.set()
                    response = await holding
                    assert json.loads(await response.read(1000))["id"] == 99, "a call of the old gate ends there"
                    await holder.close()
                    assert await old.wait() == 0
                    assert not paths.retired_gate_socket.exists()
                    new.terminate()
                    assert await new.wait() == 0
        server.close()
        lines = record(paths)
        assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))
        calls = [line for line in lines if "event" not in line]
        assert {line["outcome"] for line in calls} == {"ok"}
        assert len(calls) == load.answered + 1, "also those that ended at the retired gate"
        assert calls[-1]["name"] == "hold"

    asyncio.run(test())
