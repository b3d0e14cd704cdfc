"""A gate that may open few files refuses what is over, and goes on."""

from __future__ import annotations

import asyncio
import resource
import socket
import sys
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.gate.running_gate import Seen, Upstream, call, echo, prepare
from tests.support import clean_env

if TYPE_CHECKING:
    from pathlib import Path

BODY = call()
REQUEST = b"POST /p/mcp HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"


@pytest.mark.parametrize(("files", "clients"), [(64, 100), (256, 600)])
def test_connections_over_a_low_limit_of_open_files_are_answered_503(tmp_path: Path, files: int, clients: int) -> None:
    async def test() -> None:
        go, asked = asyncio.Event(), asyncio.Semaphore(0)

        async def held(seen: Seen, writer: asyncio.StreamWriter) -> None:
            asked.release()
            await go.wait()
            await echo(seen, writer)

        async def ask(port: int) -> bytes:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(REQUEST % (len(BODY), BODY))
            answer = await reader.readuntil(b"\r\n")
            if b" 503 " in answer:
                go.set()
            writer.close()
            return answer.split(b" ")[1]

        server = await asyncio.start_server(Upstream(held).serve, "127.0.0.1", 0)
        paths = prepare(tmp_path, [f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"])
        limit = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({files}, {files}))"
        with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
            main = f"{limit}; import runpy; runpy.run_module('portway.host.gate', run_name='__main__')"
            arguments = ("-c", main, "--data", str(paths.data), "--fd", str(listener.fileno()))
            gate = await asyncio.create_subprocess_exec(
                sys.executable,
                *arguments,
                pass_fds=[listener.fileno()],
                env=clean_env(),
                stderr=asyncio.subprocess.PIPE,
            )
            port = listener.getsockname()[1]
            statuses = Counter(await asyncio.gather(*(ask(port) for _ in range(clients))))
            assert statuses.keys() == {b"200", b"503"}
            assert statuses[b"200"] >= files // 8
            assert await ask(port) == b"200"
            gate.terminate()
            log = (await gate.communicate())[1].decode()
        server.close()
        assert "Too many open files" not in log

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
    try:
        asyncio.run(test())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
