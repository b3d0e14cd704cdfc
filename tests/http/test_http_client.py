"""The HTTP client against peers that send scripted bytes over real sockets: valid, invalid, late or none."""

from __future__ import annotations

import asyncio
import socket
import sys
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import pytest
import uvloop

from portway.http.http_client import BrokenResponse, ConnectFailed, HttpClient
from tests.support import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from tests.http.running_listener import NewLoop

    Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


@asynccontextmanager
async def peer(script: Script) -> AsyncIterator[HttpClient]:
    """Run a server that runs `script` on each connection, and yield a client of it."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await script(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    client = HttpClient(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    try:
        yield client
    finally:
        await client.close()
        server.close()


async def request_of(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
    return head + await reader.readexactly(int(length or 0))


def replies(*parts: bytes) -> Script:
    """Answer the first request with `parts`, then close."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        for part in parts:
            writer.write(part)
            await writer.drain()

    return script


@pytest.mark.parametrize(
    ("reply", "status", "body"),
    [
        (OK, 200, b"ok"),
        (b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n", 202, b""),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n1;x=y\r\nc\r\n0\r\n\r\n", 200, b"abc"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x\r\n\r\n1\r\na\r\n0\r\nx: 1\r\n\r\n", 200, b"a"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" + OK, 200, b"ok"),
        (b"HTTP/1.0 200 OK\r\n\r\nuntil the end", 200, b"until the end"),
        (b"HTTP/1.1 500 Oh\r\nconnection: close\r\ncontent-length: 1\r\n\r\n!", 500, b"!"),
    ],
)
def test_a_valid_response_is_read_whole_whatever_its_framing_and_pieces(reply: bytes, status: int, body: bytes) -> None:
    async def run() -> None:
        for parts in ([reply], [reply[i : i + 1] for i in range(len(reply))]):
            async with peer(replies(*parts)) as client:
                response = await client.request("POST", "/mcp", [(b"x-a", b"1")], b"{}")
                assert (response.status, await response.read(1000)) == (status, body)
                assert all(
                    name in (b"content-length", b"connection", b"transfer-encoding", b"trailer")
                    for name, _ in response.headers
                )

    asyncio.run(run())


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"HTTP/1.1 200",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\nab\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nx: " + b"a" * 400_000,
        b"HTTP/1.1 200 OK\r\nx: " + b"a" * 70_000 + b"\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\nx: " + b"a" * 400_000,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 20_000,
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx : y\r\ncontent-length: 0\r\n\r\n",
    ],
)
def test_a_broken_or_endless_response_raises(reply: bytes) -> None:
    async def run() -> None:
        async with peer(replies(reply)) as client:
            with pytest.raises(BrokenResponse):
                await (await client.request("POST", "/", body=b"{}")).read(1_000_000)

    asyncio.run(run())


def test_connections_are_reused_until_the_peer_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        connections = 0

        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal connections
            connections += 1
            while True:
                target = (await request_of(reader)).split()[1]
                extra = {b"/stated": b"keep-alive: timeout=1\r\n", b"/close": b"connection: close\r\n"}.get(target, b"")
                writer.write(OK.replace(b"\r\n\r\n", b"\r\n" + extra + b"\r\n"))

        async with peer(script) as client:
            for target, expected in (("/", 1), ("/", 1), ("/close", 1), ("/", 2), ("/stated", 2), ("/", 3)):
                assert await (await client.request("GET", target)).read(10) == b"ok"
                assert connections == expected
        monkeypatch.setattr("portway.http.http_client.IDLE_SECONDS", 0.0)
        async with peer(script) as client:
            for _ in range(2):
                await (await client.request("GET", "/")).read(10)
        assert connections == 5

    asyncio.run(run())


def test_unexpected_bytes_close_the_connection_and_never_answer_the_next_request() -> None:
    async def run() -> None:
        async with peer(replies(OK + OK.replace(b"ok", b"no"))) as client:
            for _ in range(3):
                assert await (await client.request("GET", "/")).read(10) == b"ok"

    asyncio.run(run())


@pytest.mark.parametrize("repeatable", [True, False])
def test_a_request_is_sent_again_only_when_the_pooled_connection_closed_unanswered_and_it_is_repeatable(
    repeatable: bool,
) -> None:
    async def run() -> list[bytes]:
        seen: list[bytes] = []

        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            for _ in range(2):
                seen.append((await request_of(reader)).split()[1])
                if seen.count(b"/again") == 1:
                    return  # read, and closed without a word: a crash, or a close that raced
                writer.write(OK)

        async with peer(script) as client:
            await (await client.request("POST", "/first")).read(10)
            if repeatable:
                await (await client.request("POST", "/again", repeatable=True)).read(10)
            else:
                with pytest.raises(BrokenResponse):
                    await client.request("POST", "/again")
        return seen

    assert asyncio.run(run()) == ([b"/first", b"/again", b"/again"] if repeatable else [b"/first", b"/again"])


def test_a_pooled_connection_that_the_peer_has_closed_is_not_used() -> None:
    async def run() -> None:
        sockets: list[socket.socket] = []

        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await request_of(reader)
            writer.write(OK)
            sockets.append(writer.get_extra_info("socket"))
            await reader.read()

        async with peer(script) as client:
            for _ in range(3):
                assert await (await client.request("POST", "/")).read(10) == b"ok"
                sockets.pop().shutdown(2)  # the next request starts before the loop can see it

    asyncio.run(run())


def test_a_slow_reader_pauses_the_peer() -> None:
    async def run() -> None:
        sent, size = 0, 32 * 1024 * 1024

        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal sent
            await request_of(reader)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
            while sent < size:
                writer.write(b"x" * 65536)
                sent += 65536
                await asyncio.wait_for(writer.drain(), 120)

        async with peer(script) as client:
            response = await client.request("GET", "/")
            previous = -1
            while sent != previous:  # until the peer is stuck: a few turns of the loop without progress
                previous = sent
                for _ in range(50):
                    await client_turn()
            assert sent < size
            assert sum([len(chunk) async for chunk in response.chunks()]) == size

    async def client_turn() -> None:
        await asyncio.get_running_loop().run_in_executor(None, int)  # a turn that also lets the kernel move bytes

    asyncio.run(run())


def test_closing_an_unfinished_response_closes_the_connection() -> None:
    async def run() -> None:
        gone, asked = asyncio.Event(), asyncio.Event()

        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            target = (await request_of(reader)).split()[1]
            if target == b"/begin":
                writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n")
            asked.set()
            assert await reader.read() == b""
            gone.set()

        async with peer(script) as client:
            task = asyncio.create_task(client.request("GET", "/never"))
            await asked.wait()
            task.cancel()
            await asyncio.wait_for(gone.wait(), 120)
            gone.clear()
            response = await client.request("GET", "/begin")
            assert await anext(response.chunks()) == b"a"
            await response.close()
            await asyncio.wait_for(gone.wait(), 120)
            with pytest.raises(BrokenResponse):
                await response.read(10)

    asyncio.run(run())


def test_the_end_of_async_with_closes_every_connection_also_when_an_error_ends_it() -> None:
    async def run() -> None:
        gone = asyncio.Semaphore(0)

        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(OK if (await request_of(reader)).split()[1] == b"/whole" else OK[:-1])
            assert await reader.read() == b""
            gone.release()

        async with peer(script) as other:
            with suppress(LookupError):
                async with HttpClient(f"http://{other.authority}") as client:
                    begun = await client.request("GET", "/begun")
                    await (await client.request("GET", "/whole")).read(10)
                    raise LookupError
            for _ in range(2):
                await asyncio.wait_for(gone.acquire(), 120)
            with pytest.raises(BrokenResponse, match="the client was closed"):
                await begun.read(10)

    asyncio.run(run())


def test_a_response_longer_than_the_limit_is_refused_and_its_rest_not_read() -> None:
    async def run() -> None:
        async with peer(replies(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n" + b"x" * 1000)) as client:
            with pytest.raises(BrokenResponse, match="longer than 999"):
                await (await client.request("GET", "/")).read(999)

    asyncio.run(run())


def test_a_response_to_head_has_no_body_whatever_its_headers_say() -> None:
    async def run() -> None:
        async with peer(replies(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n")) as client:
            response = await client.request("HEAD", "/")
            assert (response.status, await response.read(10)) == (200, b"")

    asyncio.run(run())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has O_PATH")
def test_a_link_in_place_of_a_unix_socket_leads_to_no_other_socket(tmp_path: Path) -> None:
    async def main() -> None:
        server = await asyncio.start_unix_server(replies(OK), str(tmp_path / "others"))
        (tmp_path / "own").symlink_to("others")
        with pytest.raises(ConnectFailed, match=r"cannot connect to .*/own: Connection refused"):
            await HttpClient(f"unix:{tmp_path}/own").request("GET", "/")
        server.close()

    asyncio.run(main())


def test_unix_sockets_work_and_dead_addresses_raise(tmp_path: Path) -> None:
    async def run() -> None:
        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            assert b"\r\nhost: localhost\r\n" in await request_of(reader)
            writer.write(OK)
            writer.close()

        server = await asyncio.start_unix_server(script, str(tmp_path / "s"))
        async with HttpClient(f"unix:{tmp_path}/s") as client:
            assert await (await client.request("GET", "/")).read(10) == b"ok"
        server.close()
        for dead in (f"unix:{tmp_path}/none", "http://127.0.0.1:1"):
            with pytest.raises(ConnectFailed, match="cannot connect"):
                await HttpClient(dead).request("GET", "/")

    asyncio.run(run())


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_request_that_is_cancelled_while_it_connects_leaves_no_connection(tmp_path: Path, new_loop: NewLoop) -> None:
    """It is cancelled at each of the first turns of the loop: in one of them the connection is made, not returned."""

    async def run() -> None:
        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()

        unix = await asyncio.start_unix_server(script, str(tmp_path / "s"))
        async with unix, peer(script) as tcp, HttpClient(f"unix:{tmp_path}/s") as other:
            for client in (tcp, other):
                for turns in [*range(12)] * 5:
                    request = asyncio.create_task(client.request("GET", "/"))
                    for _ in range(turns):
                        await asyncio.sleep(0)
                    request.cancel()
                    with pytest.raises(asyncio.CancelledError):
                        await request
                await asyncio.to_thread(eventually, lambda client=client: not client.open)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(run())


def test_line_breaks_in_a_target_or_header_are_refused() -> None:
    async def run() -> None:
        client = HttpClient("http://127.0.0.1:1")
        for target, headers in (
            ("/a\r\nx: y", []),
            ("/a b", []),
            ("/", [(b"x", b"y\r\nz: 1")]),
            ("/", [(b"x\n", b"")]),
        ):
            with pytest.raises(ValueError, match="line break"):
                await client.request("GET", target, headers)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("text", "authority"),
    [
        ("http://a", "a"),
        ("http://a:8080", "a:8080"),
        ("https://a", "a"),
        ("https://a:80", "a:80"),
        ("http://[::1]:9", "[::1]:9"),
        ("unix:/tmp/x", "localhost"),
    ],
)
def test_an_address_has_the_host_header_of_its_url(text: str, authority: str) -> None:
    assert HttpClient(text).authority == authority


@pytest.mark.parametrize(
    "text", ["", "a", "ftp://a", "http://", "unix:", "unix:relative", "http://u:p@a", "http://a:x"]
)
def test_an_invalid_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        HttpClient(text)
