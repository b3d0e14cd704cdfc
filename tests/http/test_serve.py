"""The listener over raw sockets: answers, refusals, deadlines and the stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import stat
import struct
import subprocess
import sys
import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING

import pytest

from portway.http import serve
from portway.http.event_stream import EventStream
from portway.http.request_body import ClientDisconnected, read_body
from portway.http.response import send_bytes
from portway.http.serve import Bind, LifespanError, ListenError
from tests.http.running_listener import Plain, read_all, read_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from portway.http.asgi import Message, Receive, Scope, Send

TEXT = [(b"content-type", b"text/plain")]


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    assert scope["type"] == "http"
    body = await read_body(None, receive, 1_000_000)
    await send_bytes(send, 200, scope["method"].encode() + b" " + scope["path"].encode() + b" " + body, TEXT)


def get(path: bytes = b"/", *headers: bytes, close: bool = True) -> bytes:
    lines = [b"GET " + path + b" HTTP/1.1", b"Host: localhost", *headers, *([b"Connection: close"] if close else [])]
    return b"\r\n".join([*lines, b"", b""])


def post(*headers: bytes, body: bytes = b"", target: bytes = b"/mcp") -> bytes:
    return b"\r\n".join([b"POST " + target + b" HTTP/1.1", b"Host: localhost", *headers, b"", b""]) + body


CHUNKED = b"1\r\nh\r\n1;x=y\r\ni\r\n0\r\nHost: evil\r\n\r\n"
H2C = (b"Connection: Upgrade, HTTP2-Settings, close", b"Upgrade: h2c", b"HTTP2-Settings: AA")
REFUSED = {
    "content-length with chunked": (post(b"Content-Length: 4", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"), 400),
    "two content-lengths": (post(b"Content-Length: 1", b"Content-Length: 2", body=b"ab"), 400),
    "a signed content-length": (post(b"Content-Length: +1", body=b"a"), 400),
    "chunked that is not last": (post(b"Transfer-Encoding: chunked, identity", body=b"0\r\n\r\n"), 400),
    "an unknown coding before chunked": (post(b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n"), 501),
    "an unknown coding": (post(b"Transfer-Encoding: br"), 501),
    "an unknown coding in a line of its own": (
        post(b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
        501,
    ),
    "HTTP/2 in the request line": (get(b"/").replace(b"HTTP/1.1", b"HTTP/2.0"), 505),
    "HTTP/2, kept alive": (get(b"/", b"Connection: keep-alive").replace(b"HTTP/1.1", b"HTTP/2.0"), 505),
    "HTTP/0.9 with a version": (get(b"/").replace(b"HTTP/1.1", b"HTTP/0.9"), 505),
    "a space before the colon": (post(b"Content-Length : 1", body=b"a"), 400),
    "a chunk size that is not hex": (post(b"Transfer-Encoding: chunked", body=b"zz\r\nab\r\n0\r\n\r\n"), 400),
    "a chunk longer than its size": (post(b"Transfer-Encoding: chunked", body=b"1\r\nabc\r\n0\r\n\r\n"), 400),
    "a folded header": (post(b"X-A: b", b" folded"), 400),
    "a NUL in a header": (post(b"X-A: b\0c"), 400),
    "an absolute target of another scheme": (post(target=b"ftp://localhost/mcp"), 400),
    "an absolute target without a host": (post(target=b"http:///mcp"), 400),
    "an asterisk as target": (post(target=b"*"), 400),
    "an authority target": (b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    "a tunnel to a path": (b"CONNECT /mcp HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    "a fragment in the target": (get(b"/mcp#x"), 400),
    "the preface of HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00", 400),
    "headers over the bound": (get(b"/", b"X: " + b"a" * 70_000), 431),
    "a header that never ends": (b"GET / HTTP/1.1\r\nX: " + b"a" * 70_000, 431),
    "too many headers": (get(b"/", *[b"X: 1"] * 300), 431),
    "a target over the bound": (get(b"/" + b"a" * 70_000), 431),
    "empty lines without end": (b"\r\n" * 40_000, 431),
}


@pytest.mark.parametrize(("request_bytes", "status"), REFUSED.values(), ids=REFUSED.keys())
def test_an_invalid_request_is_refused_and_the_connection_ends(listen, request_bytes: bytes, status: int) -> None:
    answer = listen(echo).talk(request_bytes)
    head, _, sentence = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status), answer
    assert b"connection: close" in head
    assert sentence.endswith(b".\n")
    assert answer.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize(
    ("request_bytes", "expected"),
    [
        (get(b"/a%20b?c=d"), b"GET /a b "),
        (post(b"Content-Length: 2", b"Connection: close", body=b"hi"), b"POST /mcp hi"),
        (post(b"Transfer-Encoding: chunked", b"Connection: close", body=CHUNKED), b"POST /mcp hi"),
        (b"GET /old HTTP/1.0\r\n\r\n", b"GET /old "),
        (get(b"http://other.example/a%20b?c=d"), b"GET /a b "),
        (get(b"HTTPS://other.example"), b"GET / "),
        (get(b"http://other.example?c"), b"GET / "),
        (post(*H2C, b"Content-Length: 2", body=b"hi"), b"POST /mcp hi"),
    ],
    ids=["escaped path", "sized body", "chunked body with a trailer", "HTTP/1.0", "absolute target",
         "absolute target without a path", "absolute target with only a query", "h2c offer with a body"],
)  # fmt: skip
def test_a_valid_request_is_answered(listen, request_bytes: bytes, expected: bytes) -> None:
    answer = listen(echo).talk(request_bytes)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n"), answer
    assert answer.endswith(b"\r\n\r\n" + expected)


async def stream(scope: Scope, receive: Receive, send: Send) -> None:
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": int(scope["path"][1:]), "headers": []})
    await send({"type": "http.response.body", "body": b"a", "more_body": True})
    await send({"type": "http.response.body"})


@pytest.mark.parametrize(
    ("request_bytes", "framing", "body"),
    [
        (get(b"/200"), b"transfer-encoding: chunked\r\nconnection: close\r\n", b"1\r\na\r\n0\r\n\r\n"),
        (b"GET /200 HTTP/1.0\r\n\r\n", b"connection: close\r\n", b"a"),
        (b"GET /200 HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n", b"connection: close\r\n", b"a"),
        (post(b"Expect: 100-continue", target=b"/200").replace(b"1.1", b"1.0"), b"connection: close\r\n", b"a"),
        (get(b"/200").replace(b"GET", b"HEAD", 1), b"connection: close\r\n", b""),
        (get(b"/204"), b"connection: close\r\n", b""),
    ],
    ids=["chunked", "HTTP/1.0: until the end", "and so with an upgrade", "and with an expectation", "HEAD", "204"],
)
def test_a_response_of_unknown_length_is_framed_for_its_client(
    listen, request_bytes: bytes, framing: bytes, body: bytes
) -> None:
    assert listen(stream).talk(request_bytes).partition(b"\r\n")[2] == framing + b"\r\n" + body


def test_head_is_answered_without_a_body_and_with_its_length(listen) -> None:
    answer = listen(echo).talk(get(b"/x").replace(b"GET", b"HEAD", 1))
    assert b"content-length: 8" in answer
    assert answer.endswith(b"\r\n\r\n")


def test_100_continue_is_sent_when_the_app_reads_the_body(listen) -> None:
    with listen(echo).connect() as sock:
        sock.sendall(post(b"Content-Length: 2", b"Expect: 100-continue", b"Connection: close"))
        assert read_until(sock, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(b"hi")
        assert read_all(sock).endswith(b"POST /mcp hi")


def test_an_answer_instead_of_100_continue_ends_the_connection(listen) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        await send_bytes(send, 413, b"no", TEXT)

    answer = listen(app).talk(post(b"Content-Length: 2", b"Expect: 100-continue"))
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"\r\nconnection: close\r\n" in answer


def test_pipelined_requests_are_answered_in_order_and_an_invalid_one_last(listen) -> None:
    answer = listen(echo).talk(
        get(b"/1", close=False) + get(b"/2", close=False) + post(b"Content-Length: 1", body=b"3") + b"\0bad"
    )
    at = [answer.index(mark) for mark in (b"GET /1", b"GET /2", b"POST /mcp 3", b"HTTP/1.1 400")]
    assert at == sorted(at)


def test_a_body_cut_by_invalid_bytes_never_reaches_the_app_as_complete(listen) -> None:
    seen: list[object] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        try:
            seen.append(await read_body(None, receive, 1000))
        except ClientDisconnected:
            seen.append("cut")

    listener = listen(app)
    with listener.connect() as sock:
        sock.sendall(post(b"Transfer-Encoding: chunked", body=b"1\r\na\r\n"))
        sock.sendall(b"zz\r\n")
        assert read_all(sock).startswith(b"HTTP/1.1 400 ")
    listener.stop()
    listener.join()
    assert seen == ["cut"]


@pytest.mark.parametrize(
    ("piece", "status"),
    [(b"GET / HTTP/1.1\r\nHost:", b"408"), (post(b"Content-Length: 5", body=b"a"), b"408"), (b"", b"")],
    ids=["slow headers", "slow body", "silence"],
)
def test_a_client_that_stalls_is_refused_with_408(listen, piece: bytes, status: bytes) -> None:
    answer = listen(echo, header_seconds=0.1, stall_seconds=0.1).talk(piece)
    assert answer[9:12] == status


def test_a_client_that_resets_its_connection_at_the_end_of_an_answer_is_no_fault(listen, caplog) -> None:
    done = threading.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok", "more_body": True})
        # At once, so that the listener has not heard of it when it closes its side after the last piece.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        try:
            await send({"type": "http.response.body", "body": b""})
        finally:
            done.set()

    listener = listen(app)
    with listener.connect() as client:
        client.sendall(post(b"Content-Length: 10", b"Connection: close"))
        assert done.wait(120)
    listener.stop()
    listener.join()
    assert not caplog.records


def test_an_idle_connection_is_closed_without_an_answer(listen) -> None:
    with listen(echo, idle_seconds=0.1).connect() as sock:
        sock.sendall(get(b"/x", close=False))
        assert read_all(sock).endswith(b"GET /x ")


def test_a_client_that_does_not_read_pauses_the_app_and_is_disconnected(listen) -> None:
    ended = threading.Event()
    sent = 0

    async def flood(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal sent
        assert scope["type"] == "http"
        stream = EventStream(send)
        cut = asyncio.ensure_future(_disconnect(receive))
        while not cut.done():
            await stream.event(b"a" * 60_000)
            sent += 60_000
            await asyncio.sleep(0)
        ended.set()

    listener = listen(flood, stall_seconds=0.2)
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", int(listener.url.rpartition(":")[2])))
        sock.sendall(get(b"/"))
        assert ended.wait(120)
    assert sent < 50_000_000


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def test_connections_over_the_limit_get_503_until_one_ends(listen) -> None:
    listener = listen(echo, connections=1)
    with listener.connect() as first:
        first.sendall(get(b"/1", close=False))
        read_until(first, b"GET /1 ")
        assert listener.talk(get()).startswith(b"HTTP/1.1 503 ")
        first.sendall(get(b"/2"))
        read_all(first)
    assert listener.talk(get()).startswith(b"HTTP/1.1 200 ")


def test_a_client_that_keeps_sending_can_read_its_refusal(listen) -> None:
    answer = listen(echo).talk(b"\0" + b"x" * 200_000, b"y" * 200_000)
    assert answer.startswith(b"HTTP/1.1 400 ")


def test_an_app_that_fails_is_a_500_without_details(listen) -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError("secret")

    answer = listen(broken).talk(get())
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b"secret" not in answer


def start(*headers: tuple[bytes, bytes]) -> Message:
    return {"type": "http.response.start", "status": 200, "headers": headers}


BODY: Message = {"type": "http.response.body", "body": b"ab"}
FAULTS = {
    "a line break in a header": ([start((b"x", b"1\r\ny: 2"))], "a header whose value holds a line break or a NUL"),
    "a NUL in a header": ([start((b"x", b"\0"))], "a header whose value holds a line break or a NUL"),
    "a header name that is none": ([start((b"x y", b"1"))], "a header whose name is not valid: b'x y'"),
    "more than was stated": ([start((b"content-length", b"1")), BODY], "not as long as its content-length says"),
    "less than was stated": ([start((b"content-length", b"3")), BODY], "not as long as its content-length says"),
    "a body first": ([BODY], "'http.response.body' out of turn"),
    "two starts": ([start(), start()], "'http.response.start' out of turn"),
    "two lengths": (
        [start((b"content-length", b"2"), (b"Transfer-Encoding", b"chunked")), BODY],
        "the length of its body twice",
    ),
    "an unknown coding": (
        [start((b"transfer-encoding", b"gzip")), BODY],
        "twice, or in an unknown way",
    ),
    "a fault after a 204": ([{**start(), "status": 204}, start()], "out of turn"),
    "a start and no body": ([start()], "returned without completing its response"),
    "nothing": ([], "returned without completing its response"),
}


@pytest.mark.parametrize(("messages", "said"), FAULTS.values(), ids=FAULTS.keys())
def test_an_app_that_breaks_asgi_is_a_logged_500_and_nothing_of_its_response_is_sent(
    listen, caplog: pytest.LogCaptureFixture, messages: list[Message], said: str
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        for message in messages:
            await send(message)

    answer = listen(app).talk(get())
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert answer.endswith(b"\r\n\r\nInternal Server Error")
    assert answer.count(b"HTTP/1.1") == 1
    assert said in caplog.text


def test_a_response_that_fails_in_its_body_is_cut(listen) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        await send(start())
        await send({**BODY, "more_body": True})
        raise ValueError

    assert listen(app).talk(get(close=False)).endswith(b"\r\n\r\n2\r\nab\r\n")


def test_a_failed_response_that_the_client_does_not_read_ends_with_its_connection(listen) -> None:
    disconnected = threading.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        if scope["path"] == "/":
            await send(start())
            await send({**BODY, "body": b"a" * 60_000, "more_body": True})  # less than what makes the listener wait
            raise ValueError
        await send_bytes(send, 200, b"", TEXT)
        disconnected.set()

    listener = listen(app, connections=1, stall_seconds=0.1)
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", int(listener.url.rpartition(":")[2])))
        sock.sendall(get(b"/", close=False))
        while not disconnected.is_set():
            with contextlib.suppress(OSError):
                listener.talk(get(b"/next"))


def test_no_request_sees_the_context_of_the_one_before_it_on_the_connection(listen) -> None:
    who: ContextVar[bytes] = ContextVar("who", default=b"nobody")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        before, body = who.get(), b""
        who.set(b"somebody")
        while len(body) < int(scope["path"][1:]):
            body += (await receive())["body"]  # which lets the listener read again, in this context
        await send_bytes(send, 200, before, TEXT)

    large = post(b"Content-Length: 300000", target=b"/300000", body=b"a" * 300_000)
    last = post(b"Content-Length: 1", b"Connection: close", target=b"/1", body=b"a")
    answer = listen(app).talk(large, large + last)
    assert answer.count(b"nobody") == 3


def test_a_refusal_waits_for_a_long_answer_without_a_deadline(listen) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        await _disconnect(receive)

    listener = listen(app, stall_seconds=0.1, idle_seconds=0.1)
    with listener.connect() as sock:
        sock.sendall(get(close=False) + post(b"Transfer-Encoding: chunked", body=b"1\r\na\r\nzz\r\n"))
        for _ in range(3):
            assert b" 408 " in listener.talk(post(b"Content-Length: 5", body=b"a"))


def test_a_client_paused_for_the_app_is_not_taken_for_slow(listen) -> None:
    gate = Gate()
    listener = listen(gate, header_seconds=0.1)
    with listener.connect() as sock, listener.connect() as other:
        request = get(close=False)
        sock.sendall(request * 2 + request[:9])
        assert gate.entered.wait(120)
        assert read_all(other) == b""  # cut for its silence, later than the other would have been
        assert gate.loop is not None
        gate.loop.call_soon_threadsafe(gate.release.set)
        read_until(sock, b"done")
        sock.sendall(request[9:])
        assert b" 408 " not in read_until(sock, b"done")


def test_a_cancelled_receive_loses_no_message_and_every_receive_learns_of_the_end(listen) -> None:
    seen: list[object] = []
    done = threading.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(receive(), 0.01)
        await send(start())
        await send({**BODY, "more_body": True})
        seen.append((await receive())["body"])
        seen.extend(message["type"] for message in await asyncio.gather(receive(), receive()))
        done.set()

    with listen(app).connect() as sock:
        sock.sendall(post(b"Content-Length: 1"))
        read_until(sock, b"ab\r\n")
        sock.sendall(b"1")
        sock.shutdown(socket.SHUT_WR)
        assert done.wait(120)
    assert seen == [b"1", "http.disconnect", "http.disconnect"]


def test_an_answer_sent_before_the_body_is_read_reaches_a_client_that_still_sends(listen) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        await send_bytes(send, 413, b"no", TEXT)

    answer = listen(app).talk(post(b"Content-Length: 900000", b"Connection: close", body=b"x" * 1000), b"x" * 200_000)
    assert answer.endswith(b"\r\n\r\nno")


def test_a_request_costs_few_calls_and_its_answer_does_not_wait(listen) -> None:
    calls, seen = 0, []

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal calls
        assert scope["type"] == "http"
        seen.append(calls)
        calls = 0
        sys.setprofile(count if len(seen) < 5 else None)
        await send_bytes(send, 200, await read_body(None, receive, 10), TEXT)

    with listen(app, header_seconds=1000, stall_seconds=1000, idle_seconds=1000).connect() as sock:
        for _ in range(5):
            sock.sendall(post(b"Content-Length: 2", body=b"ab"))
            read_until(sock, b"\r\n\r\nab")
    assert min(seen[1:]) <= 60


class Gate:
    """An app whose requests wait until the test releases them."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.release = asyncio.Event()
        self.loop: asyncio.AbstractEventLoop | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        self.loop = asyncio.get_running_loop()
        self.entered.set()
        await self.release.wait()
        await send_bytes(send, 200, b"done", TEXT)


def test_a_stop_closes_idle_connections_and_lets_a_running_request_finish(listen) -> None:
    gate = Gate()
    listener = listen(gate)
    with listener.connect() as idle, listener.connect() as busy:
        busy.sendall(get(close=False))
        assert gate.entered.wait(120)
        listener.stop()
        assert read_all(idle) == b""
        with pytest.raises(ConnectionRefusedError):
            listener.connect()
        assert gate.loop is not None
        gate.loop.call_soon_threadsafe(gate.release.set)
        assert read_all(busy).endswith(b"done")
    listener.join()


def test_a_stop_does_not_wait_for_clients_that_have_left(listen) -> None:
    gate = Gate()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await (gate if scope["path"] == "/busy" else echo)(scope, receive, send)

    listener = listen(app)
    with listener.connect() as busy, listener.connect() as idle, listener.connect() as leaver:
        for sock in (idle, leaver):
            sock.sendall(get(close=False))
            read_until(sock, b"GET / ")
        busy.sendall(get(b"/busy", close=False))
        assert gate.entered.wait(120)
        listener.stop(just_before=leaver.close)
        assert read_all(idle) == b""
        assert gate.loop is not None
        gate.loop.call_soon_threadsafe(gate.release.set)
        assert read_all(busy).endswith(b"done")
    listener.join()


def test_a_request_that_arrives_at_the_stop_is_answered_as_the_last(listen) -> None:
    listener = listen(echo)
    with listener.connect() as idle:
        idle.sendall(get(close=False))
        read_until(idle, b"GET / ")
        listener.stop(just_before=lambda: idle.sendall(get(b"/last", close=False)))
        answer = read_all(idle)
    assert answer.endswith(b"GET /last ")
    assert b"\r\nconnection: close\r\n" in answer
    listener.join()


def test_a_request_that_outlasts_the_grace_period_is_cancelled_and_answered_503(listen, caplog) -> None:
    gate = Gate()
    listener = listen(gate, shutdown_seconds=0.05)
    with listener.connect() as busy:
        busy.sendall(get(close=False))
        assert gate.entered.wait(120)
        listener.stop()
        assert read_all(busy).startswith(b"HTTP/1.1 503 ")
    listener.join()
    assert listener.failure is None
    assert not caplog.records


def test_the_lifespan_begins_before_and_ends_after_requests(listen) -> None:
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append("request")
        await send_bytes(send, 200, b"answer", TEXT)

    @contextlib.asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        seen.append("entered")
        yield
        seen.append("left")

    listener = listen(Plain(app, lifespan))
    assert listener.talk(get()).endswith(b"answer")
    listener.stop()
    listener.join()
    assert seen == ["entered", "request", "left"]


def test_an_open_event_stream_is_cut_when_the_grace_period_ends(listen) -> None:
    ended: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        await EventStream(send).event(b"1")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    listener = listen(app, shutdown_seconds=0.05)
    with listener.connect() as sock:
        sock.sendall(get())
        read_until(sock, b"data: 1\n\n")
        listener.stop()
        with contextlib.suppress(ConnectionResetError):
            assert read_all(sock) == b""  # no final chunk: the client knows that the stream was cut
    listener.join()
    assert ended == ["cancelled"]


def test_a_lifespan_that_fails_to_start_fails_the_listener_with_its_message(listen) -> None:
    @contextlib.asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        raise LifespanError("no database")
        yield

    failure = listen(Plain(echo, lifespan)).failure
    assert isinstance(failure, LifespanError)
    assert str(failure) == "no database"


def test_an_app_that_does_not_shut_down_is_cancelled(listen, caplog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "LEAVE_SECONDS", 0.05)

    @contextlib.asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        yield
        await asyncio.Event().wait()

    listener = listen(Plain(echo, lifespan))
    listener.stop()
    listener.join()
    assert "the application did not shut down within 0.05 seconds" in caplog.text


def test_a_unix_socket_is_for_its_owner_replaces_a_stale_one_and_goes_with_the_listener(listen, tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    listener = listen(echo, Bind(uds=str(path)))
    assert listener.url == f"unix:{path}"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(ListenError, match="Another process listens"):
        Bind(uds=str(path)).open()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(path))
        sock.sendall(get(b"/x"))
        assert read_all(sock).endswith(b"GET /x ")
    listener.stop()
    listener.join()
    assert not path.exists()


def test_an_inherited_socket_is_served(listen) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        listener = listen(echo, Bind(fd=os.dup(sock.fileno())))
        assert listener.talk(get(b"/x")).endswith(b"GET /x ")


def test_an_address_that_cannot_be_listened_on_is_one_sentence_that_says_what_to_do(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ListenError, match=rf"Port {port} on 127.0.0.1 is in use\. Choose another"):
            Bind(port=port).open()
    with pytest.raises(ListenError, match="not an address of this machine"):
        Bind(host="no-such-host.invalid", port=0).open()
    with pytest.raises(ListenError, match="shorter directory"):
        Bind(uds=str(tmp_path / ("x" * 120))).open()
    (tmp_path / "file").touch()
    with pytest.raises(ListenError, match="not a socket"):
        Bind(uds=str(tmp_path / "file")).open()


PROCESS = """
import asyncio, contextlib
from portway.http.serve import Bind, Limits, run
class App:
    async def __call__(self, scope, receive, send):
        print("entered", flush=True)
        await asyncio.Event().wait()
    @contextlib.asynccontextmanager
    async def lifespan(self):
        yield
    def end_streams(self):
        print("stopping", flush=True)
run(App(), Bind(port=0), on_ready=lambda url: print(url, flush=True))
"""


LATER = "from portway.http import serve\nserve.ONE_STOP_SECONDS = 0.0  # any second signal is a later one\n"


def test_a_signal_ends_an_app_that_has_not_started_yet() -> None:
    code = PROCESS.replace("        yield", "        print('entered', flush=True); await asyncio.Event().wait(); yield")
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "entered\n"
        process.terminate()
        assert process.wait(120) == 1


def test_connections_are_limited_to_the_open_files_of_the_process() -> None:
    code = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (64, 300))\n" + PROCESS
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline().rpartition(":")[2])
        with contextlib.ExitStack() as stack:
            for _ in range(150):
                stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=120))
            with socket.create_connection(("127.0.0.1", port), timeout=120) as sock:
                assert read_all(sock).startswith(b"HTTP/1.1 503 ")
        process.terminate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_a_process_cleanly_and_a_later_one_now(number: signal.Signals) -> None:
    for busy in (False, True):
        with subprocess.Popen(
            [sys.executable, "-c", LATER + PROCESS], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            port = int(process.stdout.readline().rpartition(":")[2])
            with socket.create_connection(("127.0.0.1", port), timeout=120) as sock:
                if busy:
                    sock.sendall(get())
                    assert process.stdout.readline() == "entered\n"
                process.send_signal(number)
                assert process.stdout.readline() == "stopping\n"
                if busy:
                    process.send_signal(number)
                    read_all(sock)
            _, errors = process.communicate(timeout=120)
        assert process.returncode == (1 if busy else 0), errors
        assert errors == ""


ANSWERING = PROCESS.replace(
    "await asyncio.Event().wait()",
    """await asyncio.sleep(0.3)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
        await send({"type": "http.response.body", "body": b"done"})""",
)


def test_signals_at_once_are_one_stop_in_which_requests_end() -> None:
    with subprocess.Popen([sys.executable, "-c", ANSWERING], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline().rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=120) as sock:
            sock.sendall(get())
            assert process.stdout.readline() == "entered\n"
            process.send_signal(signal.SIGTERM)
            assert process.stdout.readline() == "stopping\n"
            process.send_signal(signal.SIGTERM)
            process.send_signal(signal.SIGINT)
            assert read_all(sock).endswith(b"done")
        assert process.wait(120) == 0
