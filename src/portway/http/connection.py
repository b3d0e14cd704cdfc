"""One client connection: parsing by llhttp (strict), pipelining, keep-alive, deadlines, and refusals of bad requests
(400, 408, 431, 501, 503, 505).

States of a connection, and what moves between them:

    idle      no request. A first byte → head. `idle_seconds`, or the server stops → leaving.
    head      a request's head arrives. Complete → active. Too slow, too large or invalid → refused.
    active    the app answers. Complete → idle, the next pipelined request, or leaving (not kept alive).
    refused   an error waits for the answers before it. They are written → leaving.
    leaving   the answer is written and waits to be read; what still arrives is discarded.
              The client closes, or `LINGER_SECONDS`, `LINGER_BYTES` or `stall_seconds` pass → closed.

A client that ends its side (EOF) or does not read for `stall_seconds` leaves from any state. Reading is paused while
requests wait in the pipeline, while a refusal waits, and while the app is behind with a body.
"""

from __future__ import annotations

import asyncio
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

import httptools

from portway.http.request_cycle import RequestCycle
from portway.http.request_head import INVALID, HeadRefused, check_head, origin_form

if TYPE_CHECKING:
    from portway.http.asgi import App, Headers, Scope
    from portway.http.limits import Limits

PIPELINE_LIMIT = 64  # requests of one connection that wait for their turn
LINGER_SECONDS = 2.0  # for a refused client to read its answer: closing at once would reset the connection
LINGER_BYTES = 16 * 1024 * 1024  # many clients read the answer only after sending all of a body that is too large
_BODY_AHEAD = 65_536  # bytes of body that may wait for the app before the client is paused
_REASONS: Final = {
    400: b"Bad Request",
    408: b"Request Timeout",
    431: b"Request Header Fields Too Large",
    501: b"Not Implemented",
    503: b"Service Unavailable",
    505: b"HTTP Version Not Supported",
}
_NOTED: Final = frozenset((b"connection", b"expect", b"transfer-encoding"))
_UPGRADE_HEADERS: Final = frozenset((b"upgrade", b"http2-settings"))


def _answer(status: int, sentence: str) -> bytes:
    body = sentence.encode() + b"\n"
    head = b"HTTP/1.1 %d %b\r\ncontent-type: text/plain; charset=utf-8\r\n" % (status, _REASONS[status])
    return head + b"content-length: %d\r\nconnection: close\r\n\r\n%b" % (len(body), body)


@dataclass(slots=True, eq=False)
class HttpServer:
    """What the connections of one listening socket share. `now` is the loop's time at the last tick."""

    app: App
    limits: Limits
    loop: asyncio.AbstractEventLoop
    context: Context = field(default_factory=copy_context)  # every request starts with a copy of it
    now: float = 0.0
    stopping: bool = False
    last_call_seconds: float = 0.0  # once it stops, as in `Limits`
    connections: set[Connection] = field(default_factory=set)
    leaving: dict[Connection, None] = field(default_factory=dict)  # the longest first
    running: dict[RequestCycle, asyncio.Task[None]] = field(default_factory=dict)
    emptied: asyncio.Event = field(default_factory=asyncio.Event)  # after a stop: the last connection has closed
    _timer: asyncio.TimerHandle | None = None

    def start_ticking(self) -> None:
        """Start the timer, unless it runs."""
        if self._timer is None:
            self.now = self.loop.time()
            self._timer = self.loop.call_later(self.limits.tick, self._tick)

    def _tick(self) -> None:
        """Check every deadline of every connection. There is no timer while there are no connections."""
        self.now = self.loop.time()
        connections = [*self.connections, *self.leaving]
        self._timer = self.loop.call_later(self.limits.tick, self._tick) if connections else None
        for connection in connections:
            connection.check_deadlines()


class Connection(asyncio.Protocol):
    """One connection of a client. There may be 10,000 of them, so each attribute counts."""

    transport: asyncio.Transport

    def __init__(self, server: HttpServer) -> None:
        self.server = server
        self.write_paused = False
        self._read_paused = False
        self._limits = server.limits
        self._parser = self._new_parser()
        self._url = b""  # of the request whose head is arriving
        self._headers: Headers = []  # of the same
        self._expects_continue = self._says_connection = False
        self._active: RequestCycle | None = None  # the request that the app answers
        self._newest: RequestCycle | None = None  # the latest request
        self._pipeline: list[tuple[RequestCycle, Scope]] = []  # requests that wait for their turn
        self._unread_bytes = 0  # written, and not yet read by the client at the last tick
        self._unused_bytes = 0  # received since the last complete head or piece of body
        self._refusal: bytes | None = None  # waits for the answers before it
        self._is_leaving = False
        self._in_head = False
        self._upgrade = False
        self._since = server.now  # when the client last made progress; every deadline counts from here
        self._idle_limit = server.limits.header_seconds  # shorter before the first request

    def _new_parser(self) -> httptools.HttpRequestParser:
        parser = httptools.HttpRequestParser(self)
        parser.set_dangerous_leniencies(lenient_data_after_close=True)  # such data is refused below
        return parser

    # What asyncio calls

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        server = self.server
        server.connections.add(self)
        self.transport = transport
        local, remote = transport.get_extra_info("sockname"), transport.get_extra_info("peername")
        self._local = local[:2] if isinstance(local, tuple) else (local, None)
        self._remote = remote[:2] if isinstance(remote, tuple) else None
        server.start_ticking()
        self._since = server.now
        limits = self._limits
        taken = len(server.connections) + max(0, len(server.leaving) - limits.leaving)  # each holds an open file
        if server.stopping:  # accepted just before
            self.shutdown()
        elif taken > limits.connections:
            self.refuse(503, "The server has reached its limit of connections. Try again in a moment.")
            if len(server.leaving) > limits.leaving:  # the first has had the most time to read its answer
                oldest = next(iter(server.leaving))
                del server.leaving[oldest]
                oldest.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        server = self.server
        server.connections.discard(self)
        server.leaving.pop(self, None)
        self._pipeline.clear()
        for cycle in (self._active, self._newest):
            if cycle is not None:
                cycle.disconnect()
        self._active = self._newest = None
        del self._parser  # breaks a reference cycle
        if server.stopping and not server.connections and not server.leaving:
            server.emptied.set()

    def data_received(self, data: bytes) -> None:
        self._unused_bytes += len(data)
        if self._is_leaving:
            if self._unused_bytes > LINGER_BYTES:
                self.transport.abort()
            return
        if self._refusal is not None:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._ignore_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserCallbackError as error:
            cause = error.__context__
            self.refuse(*(cause.args if isinstance(cause, HeadRefused) else (400, INVALID)))
        except httptools.HttpParserError:
            self.refuse(400, INVALID)
        else:
            if self._unused_bytes > self._limits.header_bytes:
                self.refuse(431, f"The request headers are larger than {self._limits.header_bytes} bytes.")

    def eof_received(self) -> None:
        """Treat the end of the client's side as its leaving, as ASGI servers do; what is written may still be read."""
        if not self._is_leaving:
            self.leave(linger=False)

    def pause_writing(self) -> None:
        self.write_paused = True
        self._unread_bytes = self.transport.get_write_buffer_size()
        self._since = self.server.now

    def resume_writing(self) -> None:
        self.write_paused = False
        self._since = self.server.now
        if self._active is not None:
            self._active.wake()

    def _pause_reading(self) -> None:
        if not self._read_paused:
            self._read_paused = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Read from the client again."""
        if self._read_paused:
            self._read_paused = False
            self._since = self.server.now  # the client could not make progress while paused
            self.transport.resume_reading()

    # What the parser calls

    def on_message_begin(self) -> None:
        if self._is_leaving:
            raise HeadRefused(400, INVALID)
        self._in_head = True
        self._since = self.server.now
        self._url = b""
        self._headers = []
        self._expects_continue = self._says_connection = False

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name in _NOTED:
            if name == b"connection":
                self._says_connection = True
            elif name == b"expect":
                self._expects_continue = self._expects_continue or value.lower() == b"100-continue"
            elif self._in_head and value.strip(b" \t").lower() != b"chunked":  # outside the head it is a trailer
                raise HeadRefused(501, "The Transfer-Encoding of the request is not supported: only chunked is.")
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        if len(self._pipeline) >= PIPELINE_LIMIT:
            raise HeadRefused(400, f"More than {PIPELINE_LIMIT} requests wait on this connection.")
        check_head(self._url, self._headers, self._limits, self._unused_bytes)
        self._in_head = False
        self._unused_bytes = 0
        parser = self._parser
        method = parser.get_method()
        self._upgrade = parser.should_upgrade()
        if self._upgrade:
            if method == b"CONNECT":
                raise HeadRefused(400, INVALID)
            return
        keep_alive = parser.should_keep_alive()
        # Only HTTP/1.1 is kept alive without a Connection header; asking the parser costs as much as four headers.
        version = "1.1" if keep_alive and not self._says_connection else parser.get_http_version()
        if version not in ("1.1", "1.0"):
            raise HeadRefused(505, f"HTTP/{version} is not supported here. Send HTTP/1.1.")
        is_current = version == "1.1"
        cycle = RequestCycle(
            self,
            is_head=method == b"HEAD",
            keep_alive=keep_alive and is_current and not self.server.stopping,
            knows_chunks=is_current,
            expects_continue=self._expects_continue and is_current,
        )
        url, headers = self._url, self._headers
        if not url.startswith(b"/"):
            url, headers = origin_form(url, headers)
        target, _, query = url.partition(b"?")
        path = target.decode("ascii")
        scope: Scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": version,
            "method": method.decode("ascii"),
            "scheme": "http",
            "path": unquote(path) if "%" in path else path,
            "raw_path": target,
            "query_string": query,
            "root_path": "",
            "headers": headers,
            "server": self._local,
            "client": self._remote,
        }
        self._headers = []  # later headers are trailers, which must not reach the app's list
        self._newest = cycle
        if self._active is None or self._active.response_complete:
            self._active = cycle
            self._start(cycle, scope)
        else:
            self._pipeline.append((cycle, scope))
            self._pause_reading()

    def _start(self, cycle: RequestCycle, scope: Scope) -> None:
        server = self.server
        # Without a context of its own, a request would inherit that of the one before it on this connection.
        task = server.loop.create_task(cycle.run(server.app, scope), context=server.context.copy())
        server.running[cycle] = task

    def on_body(self, body: bytes) -> None:
        self._since = self.server.now
        cycle = self._newest
        if cycle is None:
            return
        if cycle.response_complete:  # the app will not read this body; a small one is let pass
            if self._unused_bytes > self._limits.header_bytes and not self._is_leaving:
                self.leave(linger=True)
            return
        self._unused_bytes = 0
        if cycle.feed(body) > _BODY_AHEAD:
            self._pause_reading()

    def on_message_complete(self) -> None:
        self._unused_bytes = 0
        if self._newest is not None and not self._upgrade:
            self._newest.feed_end()

    def _ignore_upgrade(self, rest: bytes) -> None:
        """Parse the request again without its Upgrade (RFC 9110 section 7.8: a server may ignore it).

        Java's HTTP client offers h2c with its POSTs, and the parser leaves their body to the new protocol.
        """
        lines = [b"%b %b HTTP/%b" % (self._parser.get_method(), self._url, self._parser.get_http_version().encode())]
        for name, value in self._headers:
            if name == b"connection":
                options = [option for option in value.split(b",") if option.strip().lower() not in _UPGRADE_HEADERS]
                lines.append(b"connection:" + b",".join(options))
            elif name not in _UPGRADE_HEADERS:
                lines.append(name + b": " + value)
        self._parser = self._new_parser()
        self.data_received(b"\r\n".join([*lines, b"", rest]))

    # What a request cycle calls

    def on_app_done(self, cycle: RequestCycle) -> None:
        """Forget the task of a cycle."""
        del self.server.running[cycle]

    def on_response_complete(self) -> None:
        """Go on to the next request, or to the refusal that waits."""
        self._since = self.server.now
        self._idle_limit = self._limits.idle_seconds
        if self._active is not None and not self._active.keep_alive:
            # Closing a socket with unread data would reset it, and the client would lose the answer.
            self.leave(linger=self._active.more_body or self._read_paused)
        elif self._pipeline and not self.server.stopping:
            self._active, scope = self._pipeline.pop(0)
            self._start(self._active, scope)
            if not self._pipeline and self._refusal is None:
                self.resume_reading()
        elif self._refusal is not None:
            self.transport.write(self._refusal)
            self.leave(linger=True)
        else:
            self.resume_reading()

    # Refusals and ends

    def refuse(self, status: int, sentence: str) -> None:
        """Answer with `status` and one sentence as plain text, then end the connection.

        The answers to earlier, complete requests are sent first. An incomplete request gets this as its answer.
        """
        answer = _answer(status, sentence)
        if self._is_leaving:
            return
        cycle, owed = self._newest, self._active is not None and not self._active.response_complete
        if owed and cycle is not None and cycle.more_body:
            if cycle is self._active:
                self._end(cycle, answer)
                return
            self._pipeline.pop()  # the newest, which is this one
        if owed:
            self._refusal = answer
            self._pause_reading()
        else:
            self.transport.write(answer)
            self.leave(linger=True)

    def cut(self) -> None:
        """Answer the request in flight with 503 at the end of the stop's time, or cut the answer it has begun."""
        active = self._active
        if active is not None and not active.response_complete:
            self._end(
                active,
                _answer(
                    503, "The server stopped before the answer was complete; the request may have been carried out."
                ),
            )

    def _end(self, cycle: RequestCycle, answer: bytes) -> None:
        """End the request in flight; its app receives a disconnect."""
        cycle.disconnect()
        if cycle.is_silent:
            self.transport.write(answer)
            self.leave(linger=True)
        else:
            self.transport.abort()

    def leave(self, *, linger: bool) -> None:
        """Close once the client has read what is written; with `linger`, discard input until the client closes."""
        self._is_leaving = True
        self._unused_bytes = 0
        self._since = self.server.now
        self._unread_bytes = self.transport.get_write_buffer_size()
        self._pipeline.clear()
        self.server.connections.discard(self)
        self.server.leaving[self] = None
        if linger and self.transport.can_write_eof() and not self.transport.is_closing():
            try:
                self.transport.write_eof()
            except OSError:  # the client has reset the connection
                self.transport.abort()
                return
            self.resume_reading()
        else:
            self.transport.close()

    def shutdown(self) -> None:
        """End the connection with its current request, or in a moment: one may be on its way."""
        if self._active is None or self._active.response_complete:
            self.server.loop.call_later(self.server.last_call_seconds, self._close_idle)
        else:
            self._active.keep_alive = False

    def _close_idle(self) -> None:
        if not self.transport.is_closing() and (self._active is None or self._active.response_complete):
            self.leave(linger=False)

    def check_deadlines(self) -> None:
        """Refuse or close a connection whose client has made no progress for too long."""
        limits, cycle, now = self._limits, self._newest, self.server.now
        age = now - self._since - limits.tick
        if age < 0:
            return
        if self._is_leaving or self.write_paused:
            unread = self.transport.get_write_buffer_size()
            if unread < self._unread_bytes:
                self._unread_bytes, self._since = unread, now
            elif age > (limits.stall_seconds if unread else LINGER_SECONDS):
                self.transport.abort()
        elif self._read_paused or self._refusal is not None:
            return  # the app is slow, not the client
        elif self._in_head:
            if age > limits.header_seconds:
                self.refuse(408, f"The request headers did not arrive within {limits.header_seconds:g} seconds.")
        elif cycle is None or cycle.response_complete:
            if age > self._idle_limit:
                self.leave(linger=False)
        elif cycle.more_body and age > limits.stall_seconds:
            self.refuse(408, f"The request body stopped arriving for {limits.stall_seconds:g} seconds.")
