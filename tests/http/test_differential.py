"""Our listener and uvicorn are given the same bytes, and must give the same requests and the same answers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import socket
from dataclasses import dataclass, field
from operator import eq
from typing import TYPE_CHECKING

import pytest
import uvicorn
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from portway.http.connection import PIPELINE_LIMIT, Connection, HttpServer
from portway.http.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from portway.http.asgi import App, Receive, Scope, Send

    Compare = Callable[[list[bytes], bool], tuple["Seen", "Seen"]]

COUNTS = [500, pytest.param(20_000, marks=[pytest.mark.slow, pytest.mark.timeout(900)])]
QUIET = 6  # turns of the loop in which nothing happens, after which nothing will
LIMITS = Limits(header_bytes=8000, header_count=20)

# What we refuse and uvicorn accepts: our sentence, and the reason.
REFUSED = {
    "The request target must be a path that starts with '/'.": "RFC 9112 3.2: no form that an origin server serves",
    "The Transfer-Encoding of the request is not supported: only chunked is.": "RFC 9112 6.1: unknown codings",
    "HTTP/0.9 is not supported here. Send HTTP/1.1.": "RFC 9110 15.6.6: another major version",
    "HTTP/2.0 is not supported here. Send HTTP/1.1.": "RFC 9110 15.6.6: another major version",
    "The request has more than 20 headers.": "a bound of ours",
    "The request headers are larger than 8000 bytes.": "a bound of ours; chunk extensions and trailers count as well",
    f"More than {PIPELINE_LIMIT} requests wait on this connection.": "a bound of ours",
}
# Bytes of a request at which the comparison ends, because uvicorn is no example: a pattern, and the reason.
NOT_COMPARED = [
    (rb"(?i:\nupgrade)", "RFC 9110 7.8: an upgrade nobody makes is ignored; uvicorn loses the body and what follows"),
    (rb"CONNECT", "RFC 9110 9.3.6: no origin server tunnels; uvicorn gives it to the app"),
    (rb"#", "RFC 9112 3.2: a target has no fragment; uvicorn drops it"),
    (rb"(?i: https?://)", "RFC 9112 3.2.2: an absolute target's authority replaces Host; uvicorn keeps Host"),
    (rb"(?i:\nexpect)", "RFC 9110 10.1.1: not to HTTP/1.0, and an early answer ends the connection; see test_serve"),
]
UVICORN_REFUSAL = 400, b"Invalid HTTP request received."
NOT_COMPARED_AT = re.compile(b"|".join(pattern for pattern, _ in NOT_COMPARED))


@dataclass
class Seen:
    """What one server made of the bytes: requests and answers."""

    requests: list[list[object]] = field(default_factory=list)
    answers: bytearray = field(default_factory=bytearray)
    closed: bool = False
    closed_first: bool = False  # before the client was done
    faults: list[object] = field(default_factory=list)

    def app(self) -> App:
        """Return an app that records each request and echoes it; the path chooses the kind of response."""

        async def echo(scope: Scope, receive: Receive, send: Send) -> None:
            kept = "type", "http_version", "method", "scheme", "path", "raw_path", "query_string", "root_path", "server"
            seen: list[object] = [*(scope[key] for key in (*kept, "client")), list(scope["headers"]), b"", ""]
            self.requests.append(seen)
            body, more, sized = b"", b"/early" not in scope["raw_path"], b"/stream" not in scope["raw_path"]
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    seen[-1] = "cut"
                    return
                body += message["body"]
                more = message["more_body"]
            seen[-2:] = body, "whole"
            headers = [(b"x-method", scope["method"].encode()), (b"x-empty", b"")]
            if b"/204" in scope["raw_path"]:
                await send({"type": "http.response.start", "status": 204, "headers": headers})
                await send({"type": "http.response.body"})
                return
            headers += [(b"content-length", b"%d" % len(body))] if sized else []
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            if not sized:
                await send({"type": "http.response.body", "body": b"piece", "more_body": True})
            await send({"type": "http.response.body", "body": body})

        return echo

    def parsed(self) -> list[tuple[int, bytes]]:
        """Return status and body of each answer, with a mark on a body that is cut."""
        rest, found = bytes(self.answers), []
        while rest:
            head, end, rest = rest.partition(b"\r\n\r\n")
            assert end, f"half a head: {head!r}"
            status = int(head[9:12])
            if status in (100, 204) or b"x-method: HEAD" in head:
                body = b""
            elif b"transfer-encoding: chunked" in head:
                body, rest = _unchunked(rest)
            elif length := re.search(rb"content-length: (\d+)", head):
                body, rest = rest[: int(length[1])], rest[int(length[1]) :]
            else:
                body, rest = rest, b""
            found.append((status, body))
        return found


def _unchunked(rest: bytes) -> tuple[bytes, bytes]:
    body = b""
    while True:
        size, end, rest = rest.partition(b"\r\n")
        if not end:
            return body + b" (cut)", b""
        length = int(size, 16)
        body, rest = body + rest[:length], rest[length + 2 :]
        if not length:
            return body, rest


@pytest.fixture
def compare() -> Iterator[Compare]:
    """Send each piece to both servers once the one before has no more effect; then end or leave the connection."""
    loop = asyncio.new_event_loop()
    quiet = {"log_config": None, "access_log": False, "ws": "none", "lifespan": "off"}
    faults: list[object] = []
    loop.set_exception_handler(lambda _, context: faults.append(context))
    refused, failed = logging.getLogger("uvicorn.error"), logging.Handler()
    refused.disabled = True
    failed.emit = faults.append  # type: ignore[method-assign,assignment]
    logging.getLogger("portway.http").addHandler(failed)

    async def drive(pieces: list[bytes], leaves: bool) -> tuple[Seen, Seen]:
        ours, theirs = Seen(), Seen()
        server = HttpServer(ours.app(), LIMITS, loop)
        config, state = uvicorn.Config(theirs.app(), **quiet), ServerState()  # type: ignore[arg-type]
        clients = []
        for seen, make in (
            (ours, lambda: Connection(server)),
            (theirs, lambda: HttpToolsProtocol(config, state, {}, loop)),
        ):
            near, far = socket.socketpair()
            near.setblocking(False)
            await loop.connect_accepted_socket(make, far)
            clients.append((near, seen))
        for piece in pieces:
            for near, _ in clients:
                with contextlib.suppress(OSError):
                    near.sendall(piece)
            await settle(clients)
        for near, seen in clients:
            seen.closed_first = seen.closed
            with contextlib.suppress(OSError):
                near.close() if leaves else near.shutdown(socket.SHUT_WR)
        await settle([] if leaves else clients)
        for near, _ in clients:
            near.close()
        await settle([])
        left = len(server.connections), len(server.leaving), len(server.running)
        assert left == (0, 0, 0), "the ending left something behind"
        if server._timer is not None:
            server._timer.cancel()
        assert not faults, faults
        return ours, theirs

    async def settle(clients: list[tuple[socket.socket, Seen]]) -> None:
        idle = 0
        while idle < QUIET:
            await asyncio.sleep(0)
            idle += 1
            for near, seen in clients:
                with contextlib.suppress(BlockingIOError):
                    try:
                        got = near.recv(1 << 20)
                    except ConnectionResetError:
                        got = b""
                    idle = 0 if got or not seen.closed else idle
                    seen.answers += got
                    seen.closed = seen.closed or not got

    yield lambda pieces, leaves: loop.run_until_complete(drive(pieces, leaves))
    refused.disabled = False
    logging.getLogger("portway.http").removeHandler(failed)
    loop.close()


def judge(stream: bytes, ours: Seen, theirs: Seen) -> None:
    """Assert that both are the same, up to the first difference that has a reason above."""
    mine, other = ours.parsed(), theirs.parsed()
    refusal = mine[-1] if mine and mine[-1][0] in (400, 408, 431, 501, 505) else None
    sentence = refusal[1].decode().strip() if refusal else ""
    if stop := NOT_COMPARED_AT.search(stream):
        event("not compared to the end")
        # The last may be the one in question; what looks like a request in a body is none.
        whole = len(re.findall(rb"(?<!/in )HTTP/\d\.\d\r\n", stream[: stop.start()])) - 1
        mine, other = mine[: max(whole, 0)], other[: max(whole, 0)]
        if refusal in mine or UVICORN_REFUSAL in other:
            return
        assert mine == other
        return
    if sentence in REFUSED:
        event(REFUSED[sentence])
        assert other[: len(mine) - 1] == mine[:-1] or other[-1][0] == 400
    elif refusal:
        event("refused by both")
        # uvicorn refuses at once and drops the answers that it owes; ours go out first.
        assert other, refusal
        assert other[-1][0] == 400, (mine, other)
        assert other[:-1] == mine[: len(other) - 1]
    elif other and other[-1] == UVICORN_REFUSAL and ours.closed_first and b"connection: close" in ours.answers:
        event("refused by uvicorn only: what comes after the last answer of a connection is not looked at")
        assert other[:-1] == mine[: len(other) - 1]
    elif b"/early" in stream and len(stream) > LIMITS.header_bytes:
        event("a bound of ours: of a body that nobody will read, only so much is let pass")
        assert all(map(eq, mine, other))
    else:
        event(f"{len(mine)} answers")
        assert mine == other
        assert ours.closed_first == theirs.closed_first
        assert len(ours.requests) == len(theirs.requests)
    for one, two in zip(ours.requests, theirs.requests, strict=False):
        *scope, headers, body, end = one
        *their_scope, their_headers, their_body, their_end = two
        assert scope == their_scope
        assert isinstance(headers, list)
        assert isinstance(their_headers, list)
        assert (b"x-t", b"1") not in headers, "a trailer is not a header"
        assert their_headers[: len(headers)] == headers
        if len(their_headers) > len(headers):  # uvicorn adds trailers to the headers: RFC 9110 6.5.1 says not to
            assert (b"transfer-encoding", b"chunked") in [(name, value.lower()) for name, value in headers]
        if not refusal:
            assert (body, end) == (their_body, their_end)


TARGETS = [
    b"/", b"/a%20b?c=d&e=%41", b"//x/y", b"/%C3%A9", b"/%ff%zz%", b"/a?b?c", b"/?", b"/a;b=c", b"/early", b"/stream",
    b"/204",
]  # fmt: skip
HOSTILE_TARGETS = [
    b"*", b"x", b"/\xc3\xa9", b"http://h/p?q", b"http://h", b"/a#b", b"h:1", b"/" + b"a" * 8100, b"/../x", b"/a b",
    b"",
]  # fmt: skip
METHODS = [b"GET", b"POST", b"PUT", b"HEAD", b"OPTIONS", b"DELETE", b"QUERY"]
HOSTILE_METHODS = [b"CONNECT", b"BREW", b"get", b"", b"PRI"]
VERSIONS = [b"HTTP/1.1"] * 12 + [b"HTTP/1.0"]
HOSTILE_VERSIONS = [b"HTTP/0.9", b"HTTP/2.0", b"HTTP/1.2", b"http/1.1", b"HTTP/1", b""]
FIELDS = [
    b"Host: h", b"X: y", b"X:", b"X: ", b"X:\t y \t", b"x-A: \xc3\xa9\xff", b"Cookie: a=b\r\nCookie: c=d",
    b"Keep-Alive: 1", b"TE: trailers",
]  # fmt: skip
HOSTILE_FIELDS = [
    b"X: a\x01", b"X: a\0b", b"X : y", b": y", b"X", b" folded", b"X: a\r\n b", b"X: " + b"a" * 8100, b"X: a\ny: b",
    b"X: a\ry: b", b"Connection: close", b"Connection: Keep-Alive", b"Connection: x, CLOSE", b"Connection:",
    b"Connection: upgrade\r\nUpgrade: h2c", b"Upgrade: websocket", b"Expect: x", b"Host: a\r\nHost: b",
    b"Content-Length: 0", b"Content-Length: 5", b"Content-Length: 5, 5", b"Content-Length: +5", b"Content-Length: 0x5",
    b"Content-Length:", b"Content-Length: 99999999999999999999", b"Content-Length: 5 ", b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: Chunked ", b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: x",
    b"Transfer-Encoding: chunked, x", b"Transfer-Encoding:", b"Transfer-Encoding: \x0bchunked",
    b"Transfer-encoding: identity",
]  # fmt: skip
ENDS = [b"\r\n"] * 6 + [b"\n", b"\r", b"\r\r\n"]
LEADS = [b""] * 6 + [b"\r\n", b"\n", b"\r\n" * 4100]
SIZES = [
    b"%x", b"0%x", b"%X;a=b", b'%x;a="\r"', b"%x ;a", b" %x", b"%x;" + b"a" * 300, b"-%x", b"0x%x", b"%xg",
    b"fffffffffffffffff%x",
]  # fmt: skip
TRAILERS = [b"", b"", b"X-T: 1\r\n", b"Content-Length: 3\r\nHost: evil\r\n", b"bad\r\n", b"X: " + b"a" * 8100 + b"\r\n"]
BODIES = [b"", b"a", b"hello", b"GET /in HTTP/1.1\r\nHost: h\r\n\r\n", b"\0\xff\r\n", b"b" * 3000]


def either(common: list[bytes], rare: list[bytes]) -> dict[bool, st.SearchStrategy[bytes]]:
    """Return the strategies for valid and for hostile requests. They are made once, since making one is slow."""
    return {False: st.sampled_from(common), True: st.sampled_from([*common, *rare])}


TARGET, METHOD, VERSION = (
    either(TARGETS, HOSTILE_TARGETS),
    either(METHODS, HOSTILE_METHODS),
    either(VERSIONS, HOSTILE_VERSIONS),
)
FIELD, SIZE = (
    {key: st.lists(one, max_size=4) for key, one in either(FIELDS, HOSTILE_FIELDS).items()},
    either([b"%x"], SIZES),
)
BODY, TRAILER, END, LEAD = map(st.sampled_from, (BODIES, TRAILERS, ENDS, LEADS))
PERSISTENCE = st.sampled_from([b""] * 6 + [b"Connection: close", b"Connection: keep-alive", b"Expect: 100-continue"])
FRAMING = st.sampled_from(["none", "none", "length", "chunked", "both"])
CHUNKS, CUTS = st.lists(st.sampled_from(BODIES[1:]), max_size=3), st.lists(st.integers(0, 10_000), max_size=4)
HARM = st.sampled_from(["none"] * 20 + ["cut short"] * 5 + ["changed"] * 5 + ["repeated"])
IS_HOSTILE = st.sampled_from([False, False, False, True])
BYTES = st.binary(min_size=1, max_size=2)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """A mostly valid request, so that those after it are read too."""
    hostile = draw(IS_HOSTILE)
    lines = [b" ".join([draw(METHOD[hostile]), draw(TARGET[hostile]), draw(VERSION[hostile])]), *draw(FIELD[hostile])]
    framing, body = draw(FRAMING), b""
    if framing == "length" or (framing == "both" and hostile):
        body = draw(BODY)
        lines.append(b"Content-Length: %d" % len(body))
    if framing == "chunked" or (framing == "both" and hostile):
        lines.append(b"Transfer-Encoding: chunked")
        size = SIZE[hostile]
        body = b"".join(draw(size) % len(piece) + b"\r\n" + piece + b"\r\n" for piece in draw(CHUNKS))
        body += draw(size) % 0 + b"\r\n" + draw(TRAILER) + b"\r\n"
    if persistence := draw(PERSISTENCE):
        lines.append(persistence)
    return (draw(LEAD) if hostile else b"") + (draw(END) if hostile else b"\r\n").join([*lines, b"", b""]) + body


@st.composite
def streams(draw: st.DrawFn) -> list[bytes]:
    """The requests of one connection in pieces, perhaps with changed bytes or without the end."""
    stream = b"".join(draw(REQUESTS))
    harm, places = draw(HARM), [place % (len(stream) + 1) for place in draw(CUTS)]
    if harm == "cut short":
        stream = stream[: places[0] if places else -1]
    elif harm == "changed" and places:
        stream = stream[: places[0]] + draw(BYTES) + stream[places[0] + 1 :]
    elif harm == "repeated":
        stream *= 40
    elif len(places) == 1 and len(stream) < 400:
        places = list(range(len(stream)))  # slow bytes
    cuts = sorted(places)
    return [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True) if start < end]


REQUESTS = st.lists(requests(), min_size=1, max_size=4)


@pytest.mark.parametrize("count", COUNTS)
def test_the_same_bytes_give_the_same_requests_and_answers(compare: Compare, count: int) -> None:
    @settings(max_examples=count, deadline=None, suppress_health_check=list(HealthCheck))
    @given(streams(), st.booleans())
    def check(pieces: list[bytes], leaves: bool) -> None:
        judge(b"".join(pieces), *compare(pieces, leaves))

    check()
