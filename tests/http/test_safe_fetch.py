"""`portway.safe_fetch` against a real server: what it reaches, what it refuses, and what it follows."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from portway import Fetched, FetchError, safe_fetch
from portway.http import http_client
from tests.http.test_web_url import INNER, ODD
from tests.tls.certificates import write_pair


@contextlib.asynccontextmanager
async def answering(
    answer: Callable[[str], bytes], asked: list[str], tls: ssl.SSLContext | None = None
) -> AsyncIterator[int]:
    """Serve `answer` to each request head on a free port of this machine, noting the heads in `asked`."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            asked.append(head)
            writer.write(answer(head) or await reader.read())  # an empty answer is none
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield server.sockets[0].getsockname()[1]


def reply(body: bytes = b"hello", status: str = "200 OK", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def fetch(answer: Callable[[str], bytes], path: str = "/", **options: Any) -> tuple[Fetched, list[str]]:
    """Return what `safe_fetch` gets from a server of this machine, and the heads of the requests it was sent."""
    asked: list[str] = []

    async def run() -> Fetched:
        async with answering(answer, asked) as port:
            return await safe_fetch(f"http://localhost:{port}{path}", private=True, **options)

    return asyncio.run(run()), asked


def without_port(text: str) -> str:
    return re.sub(r"(localhost):\d+/?", r"\1", text)


def refusal(answer: Callable[[str], bytes] = lambda _: reply(), **options: Any) -> str:
    """Return why `safe_fetch` refuses, without the port."""
    with pytest.raises(FetchError) as raised:
        fetch(answer, **options)
    return without_port(str(raised.value))


@pytest.mark.parametrize("host", [host for host in (*INNER, *ODD) if "example" not in host])
def test_no_address_of_this_machine_or_its_network_is_connected_to(host: str) -> None:
    with pytest.raises(FetchError, match=r"has no address on the internet|is not fetched: it is no URL"):
        asyncio.run(safe_fetch(f"http://{host}/"))


def test_a_name_is_looked_up_once_and_connected_to_at_the_checked_address(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = ["127.0.0.1", "127.0.0.2"]  # a name that changes its address (DNS rebinding)

    async def look_up(_loop: object, _host: str, port: int, **_: object) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (answers.pop(0), port))]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", look_up)
    fetched, asked = fetch(lambda _: reply())
    assert (fetched.status, fetched.body) == (200, b"hello")
    assert answers == ["127.0.0.2"]
    assert "host: localhost:" in asked[0]


def test_every_address_of_a_name_is_tried_until_there_is_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    async def look_up(_loop: object, _host: str, port: int, **_: object) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in ("127.9.9.9", "127.0.0.1")]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", look_up)
    fetched, asked = fetch(lambda _: reply())
    assert (fetched.body, len(asked)) == (b"hello", 1)


def test_a_name_with_one_inner_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async def look_up(_loop: object, _host: str, port: int, **_: object) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in ("1.1.1.1", "10.0.0.1")]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", look_up)
    with pytest.raises(FetchError, match=r"^mixed\.example has no address on the internet\.$"):
        asyncio.run(safe_fetch("https://mixed.example/"))


def test_each_redirect_is_checked_and_a_few_are_followed() -> None:
    def answer(head: str) -> bytes:
        if head.startswith("POST /a"):
            return reply(b"", "302 Found", "location: /b?q=1#frag")
        return reply(b"there") if head.startswith("GET /b?q=1 ") else reply(b"", "302 Found", "location: /again")

    fetched, asked = fetch(answer, "/a", method="POST", body=b"x", headers={"Authorization": "s", "Content-Type": "t"})
    assert (fetched.body, fetched.url.rpartition("/")[2]) == (b"there", "b?q=1")
    assert "authorization: s" in asked[1]
    assert "content-type" not in asked[1]
    with pytest.raises(FetchError, match=r"leads on more than 2 times\.$"):
        fetch(answer, redirects=2)
    assert fetch(answer, redirects=0)[0].status == 302


def test_a_redirect_takes_no_credentials_to_another_host_and_none_leaves_the_allowed_hosts() -> None:
    def answer(head: str) -> bytes:
        port = head.partition("host: localhost:")[2].split("\r\n")[0]
        return reply(b"", "307 Found", f"location: http://127.0.0.1:{port}/b") if port else reply(b"there")

    fetched, asked = fetch(answer, headers={"Authorization": "s", "x-kept": "k"})
    assert fetched.body == b"there"
    assert "authorization: s" in asked[0]
    assert "authorization" not in asked[1]
    assert "x-kept: k" in asked[1]
    with pytest.raises(FetchError, match=r"^http://127\.0\.0\.1:\d+ is not of an allowed host: localhost\.$"):
        fetch(answer, hosts=["localhost"])
    leaving = refusal(lambda _: reply(b"", "302 Found", "location: file:///etc/passwd"))
    assert leaving == "file:///etc/passwd is not fetched: it is no URL as in https://example.com/path."


def test_size_and_time_are_bounded() -> None:
    assert refusal(max_bytes=4) == "http://localhost could not be fetched: the reply is longer than 4 bytes."
    assert refusal(lambda _: b"", timeout=0.05) == "http://localhost did not answer within 0.05 seconds."


def test_no_header_can_change_the_request() -> None:
    no_token = "http://localhost could not be fetched: the method or the name of a header is none of HTTP."
    for wrong in ({"Host": "x"}, {"Transfer-Encoding": "chunked"}, {"a b": "c"}):
        assert refusal(headers=wrong) == no_token
    assert refusal(method="GET /x HTTP/1.1\r\nevil: 1\r\n\r\nGET") == no_token
    assert "a character that HTTP has not: encode it" in refusal(headers={"X": "\u044b"})
    assert "holds a line break" in refusal(headers={"a": "b\r\nc: d"})


def test_no_redirect_leads_from_https_to_http(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate, key = write_pair(tmp_path, "localhost")
    of_server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    of_server.load_cert_chain(certificate, key)
    monkeypatch.setattr(http_client, "_tls_context", lambda: ssl.create_default_context(cafile=str(certificate)))

    async def run() -> None:
        async with answering(lambda _: reply(b"", "302 Found", "location: http://localhost/"), [], of_server) as port:
            await safe_fetch(f"https://localhost:{port}/", private=True)

    with pytest.raises(FetchError) as raised:
        asyncio.run(run())
    assert without_port(str(raised.value)) == "https://localhost leads from https to http, which is not followed."
