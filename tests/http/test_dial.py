"""Connections whose sockets another process hands out: here of this very network namespace."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest

from portway.http.http_client import ConnectFailed, HttpClient

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


@contextmanager
def handing_out(path: Path, *families: int) -> Iterator[list[int]]:
    """Hand out sockets at `path`; yield a list with an entry for each time."""
    times: list[int] = []

    def serve() -> None:
        while True:
            try:
                asking, _ = listener.accept()
            except OSError:
                return
            times.append(1)
            offered = [socket.socket(family) for family in families]
            socket.send_fds(asking, [b"\0"], [each.fileno() for each in offered])
            for each in (asking, *offered):
                each.close()

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield times
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_connection_is_dialed_once_and_kept_for_the_next_requests(host: str, tmp_path: Path) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readline():
            await reader.readuntil(b"\r\n\r\n")
            writer.write(OK)
        writer.close()
        ended.set()

    ended = asyncio.Event()

    async def use(times: list[int]) -> None:
        server = await asyncio.start_server(serve, host, 0)
        port = server.sockets[0].getsockname()[1]
        async with HttpClient(f"dial://{quote(str(tmp_path / 'a:%b'), safe='')}:{port}", "app.localhost") as client:
            for _ in range(20):
                assert await (await client.request("GET", "/")).read(10) == b"ok"
            assert len(times) == 1
        await ended.wait()
        server.close()

    with handing_out(tmp_path / "a:%b", socket.AF_INET, socket.AF_INET6) as times:
        asyncio.run(use(times))


def test_a_port_where_nobody_listens_and_a_socket_that_is_gone_are_told_and_leave_nothing(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"dial://{quote(str(tmp_path / 'dial'), safe='')}:{unused.getsockname()[1]}"

        async def use(reason: str) -> None:
            with pytest.raises(ConnectFailed, match=reason):
                await HttpClient(address).request("GET", "/")

        asyncio.run(use("No such file or directory"))
        before = len(os.listdir("/dev/fd"))
        with handing_out(tmp_path / "dial", socket.AF_INET):
            asyncio.run(use("Connection refused"))
        (tmp_path / "dial").unlink()
        with handing_out(tmp_path / "dial"):
            asyncio.run(use("cannot connect to"))
        assert len(os.listdir("/dev/fd")) == before
