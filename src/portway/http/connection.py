"""One client connection: llhttp's strict parsing, pipelining, and the bounds that keep a hostile client cheap."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

import httptools

from portway.http.cycle import Cycle

if TYPE_CHECKING:
    from portway.http.asgi import Headers, Scope
    from portway.http.hub import Hub

LEAVING_LIMIT = 128  # refused connections that may still read their answer
PIPELINE_LIMIT = 64  # requests of one connection that wait for their turn
_BODY_AHEAD = 65_536  # bytes of body that may wait for the app before the client is paused
LINGER_SECONDS = 2.0  # for a refused client to read its answer: closing at once would reset the connection under it
LINGER_BYTES = 16 * 1024 * 1024  # many clients read the answer only once all of a body that is too large is sent
LAST_CALL_SECONDS = 0.1  # from the stop to the end of a connection without a request
_INVALID = "The request is not valid HTTP/1.1."
_REASONS: Final = {
    400: b"Bad Request",
    408: b"Request Timeout",
    431: b"Request Header Fields Too Large",
    503: b"Service Unavailable",
}
_HASH: Final = ord("#")
_NOTED: Final = frozenset((b"connection", b"expect"))
_UPGRADE_HEADERS: Final = frozenset((b"upgrade", b"http2-settings"))


def _answer(status: int, sentence: str) -> bytes:
    body = sentence.encode() + b"\n"
    head = b"HTTP/1.1 %d %b\r\ncontent-type: text/plain; charset=utf-8\r\n" % (status, _REASONS[status])
    return head + b"content-length: %d\r\nconnection: close\r\n\r\n%b" % (len(body), body)


class _RefusedError(Exception):
    """Raised inside a parser callback; carries (status, sentence)."""


class Connection(asyncio.Protocol):
    """The protocol of one connection. Slots, and nothing kept of a request that runs: there may be 10,000 of them."""

    __slots__ = (
        "_active",
        "_client",
        "_expects_continue",
        "_headers",
        "_idle_limit",
        "_in_head",
        "_is_leaving",
        "_limits",
        "_newest",
        "_parser",
        "_pipeline",
        "_read_paused",
        "_refusal",
        "_says_connection",
        "_server",
        "_since",
        "_unread_bytes",
        "_unused_bytes",
        "_upgrade",
        "_url",
        "hub",
        "transport",
        "write_paused",
    )

    transport: asyncio.Transport

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.write_paused = False
        self._read_paused = False
        self._limits = hub.limits
        self._parser = self._new_parser()
        self._url = b""  # of the request whose head is arriving, as are its
        self._headers: Headers = []
        self._expects_continue = self._says_connection = False
        self._active: Cycle | None = None  # the request the app is at
        self._newest: Cycle | None = None  # the request that arrives, or arrived last
        self._pipeline: list[tuple[Cycle, Scope]] = []  # requests that wait for their turn
        self._unread_bytes = 0  # written, and not read by the client when last looked
        self._unused_bytes = 0  # received since the parser last made something of it
        self._refusal: bytes | None = None  # to be written after the answers before it
        self._is_leaving = False
        self._in_head = False
        self._upgrade = False
        self._since = hub.now  # of the last sign of life, for every deadline
        self._idle_limit = hub.limits.header_seconds  # a connection that never says anything is not kept long

    def _new_parser(self) -> httptools.HttpRequestParser:
        parser = httptools.HttpRequestParser(self)
        parser.set_dangerous_leniencies(lenient_data_after_close=True)  # what comes then gets its own refusal
        return parser

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        hub = self.hub
        hub.connections.add(self)
        self.transport = transport
        server, client = transport.get_extra_info("sockname"), transport.get_extra_info("peername")
        self._server = server[:2] if isinstance(server, tuple) else (server, None)
        self._client = client[:2] if isinstance(client, tuple) else None
        hub.start_ticking()
        self._since = hub.now
        taken = len(hub.connections) + max(0, len(hub.leaving) - LEAVING_LIMIT)  # each holds an open file
        if taken > self._limits.connections or hub.stopping:
            self.refuse(503, "The server has as many connections as it takes. Try again in a moment.")
            if len(hub.leaving) > LEAVING_LIMIT:
                transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        hub = self.hub
        hub.connections.discard(self)
        hub.leaving.discard(self)
        self._pipeline.clear()
        for cycle in (self._active, self._newest):
            if cycle is not None:
                cycle.disconnect()
        self._active = self._newest = None
        del self._parser  # it and we refer to each other
        if hub.stopping and not hub.connections and not hub.leaving:
            hub.emptied.set()

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
            self.refuse(*(cause.args if isinstance(cause, _RefusedError) else (400, _INVALID)))
        except httptools.HttpParserError:
            self.refuse(400, _INVALID)
        else:
            if self._unused_bytes > self._limits.header_bytes:
                self.refuse(431, f"The request headers are larger than {self._limits.header_bytes} bytes.")

    def eof_received(self) -> None:
        """The client says no more: as always in ASGI it is taken for gone, but may still read what is written."""
        if not self._is_leaving:
            self.leave(linger=False)

    def pause_writing(self) -> None:
        self.write_paused = True
        self._unread_bytes = self.transport.get_write_buffer_size()
        self._since = self.hub.now

    def resume_writing(self) -> None:
        self.write_paused = False
        self._since = self.hub.now
        if self._active is not None:
            self._active.wake()

    def _pause_reading(self) -> None:
        if not self._read_paused:
            self._read_paused = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Take more from the client again, of which there was more than the app wanted."""
        if self._read_paused:
            self._read_paused = False
            self._since = self.hub.now  # the client could not go on before
            self.transport.resume_reading()

    # httptools callbacks

    def on_message_begin(self) -> None:
        if self._is_leaving:
            raise _RefusedError(400, _INVALID)
        self._in_head = True
        self._since = self.hub.now
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
            elif value.lower() == b"100-continue":
                self._expects_continue = True
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        self._check_head()
        self._in_head = False
        self._unused_bytes = 0
        parser = self._parser
        method = parser.get_method()
        self._upgrade = parser.should_upgrade()
        if self._upgrade:
            if method == b"CONNECT":
                raise _RefusedError(400, _INVALID)
            return
        keep_alive = parser.should_keep_alive()
        # Only HTTP/1.1 is kept alive without a word; asking the parser for the version costs as much as four headers.
        version = "1.1" if keep_alive and not self._says_connection else parser.get_http_version()
        is_current = version == "1.1"
        cycle = Cycle(
            self,
            is_head=method == b"HEAD",
            keep_alive=keep_alive and is_current and not self.hub.stopping,
            knows_chunks=is_current,
            expects_continue=self._expects_continue and is_current,
        )
        scope = self._scope(method.decode("ascii"), version)
        self._headers = []  # what comes later as a header is a trailer: the app's list is not its place
        self._newest = cycle
        if self._active is None or self._active.response_complete:
            self._active = cycle
            cycle.start(self.hub.app, scope)
        else:
            self._pipeline.append((cycle, scope))
            self._pause_reading()

    def _scope(self, method: str, version: str) -> Scope:
        target, _, query = self._url.partition(b"?")
        path = target.decode("ascii")
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": version,
            "method": method,
            "scheme": "http",
            "path": unquote(path) if "%" in path else path,
            "raw_path": target,
            "query_string": query,
            "root_path": "",
            "headers": self._headers,
            "server": self._server,
            "client": self._client,
            "state": self.hub.state.copy(),
        }

    def on_body(self, body: bytes) -> None:
        self._since = self.hub.now
        cycle = self._newest
        if cycle is None:
            return
        if cycle.response_complete:  # the app answered without reading it, and nobody will: a little is let pass
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

    def _check_head(self) -> None:
        limits, headers = self._limits, self._headers
        if not self._url.startswith(b"/"):  # RFC 9112 section 3.2.2: an absolute target would overrule Host
            raise _RefusedError(400, "The request target must be a path that starts with '/'.")
        if _HASH in self._url:  # RFC 9112 section 3.2: a target has no fragment, though the parser lets it pass
            raise _RefusedError(400, _INVALID)
        if len(headers) > limits.header_count:
            raise _RefusedError(431, f"The request has more than {limits.header_count} headers.")
        if self._unused_bytes > limits.header_bytes:  # a body may have come along, so count
            size = len(self._url) + sum(len(name) + len(value) + 4 for name, value in headers)
            if size > limits.header_bytes:
                raise _RefusedError(431, f"The request headers are larger than {limits.header_bytes} bytes.")
        if len(self._pipeline) >= PIPELINE_LIMIT:
            raise _RefusedError(400, f"More than {PIPELINE_LIMIT} requests wait on this connection.")

    def _ignore_upgrade(self, rest: bytes) -> None:
        """Answer as if no upgrade had been asked for (RFC 9110 section 7.8).

        Java's HTTP client offers h2c with its POSTs, and the parser takes their body for the new protocol's.
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

    # answers done, saying no, and leaving

    def on_response_complete(self) -> None:
        """The cycle's word that all is written: on to the next request, or to the refusal that waited."""
        self._since = self.hub.now
        self._idle_limit = self._limits.idle_seconds
        if self._active is not None and not self._active.keep_alive:
            # What is not read when a socket closes takes the answer with it.
            self.leave(linger=self._active.more_body or self._read_paused)
        elif self._pipeline and not self.hub.stopping:
            self._active, scope = self._pipeline.pop(0)
            self._active.start(self.hub.app, scope)
            if not self._pipeline and self._refusal is None:
                self.resume_reading()
        elif self._refusal is not None:
            self.transport.write(self._refusal)
            self.leave(linger=True)
        else:
            self.resume_reading()

    def refuse(self, status: int, sentence: str) -> None:
        """Answer `status` with one sentence as plain text, and end the connection.

        Answers owed for earlier, whole requests go first. A request cut in its middle gets this one as its answer.
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
        """The time to finish is over: the request in flight is answered 503, or its answer is broken off."""
        active = self._active
        if active is not None and not active.response_complete:
            self._end(active, _answer(503, "The server is stopping. Send the request again."))

    def _end(self, cycle: Cycle, answer: bytes) -> None:
        """Take the request in flight from its app, which sees a disconnect."""
        cycle.disconnect()
        if cycle.is_silent:
            self.transport.write(answer)
            self.leave(linger=True)
        else:
            self.transport.abort()

    def leave(self, *, linger: bool) -> None:
        """Close once what is written has been read; `linger`: discard what still comes in until the client closes."""
        self._is_leaving = True
        self._unused_bytes = 0
        self._since = self.hub.now
        self._unread_bytes = self.transport.get_write_buffer_size()
        self._pipeline.clear()
        self.hub.connections.discard(self)
        self.hub.leaving.add(self)
        if linger and self.transport.can_write_eof() and not self.transport.is_closing():
            self.transport.write_eof()
            self.resume_reading()
        else:
            self.transport.close()

    def shutdown(self) -> None:
        """The listener stops: the next answer is the last, and to a request already on its way there is one."""
        if self._active is None or self._active.response_complete:
            self.hub.loop.call_later(LAST_CALL_SECONDS, self._close_idle)
        else:
            self._active.keep_alive = False

    def _close_idle(self) -> None:
        if not self.transport.is_closing() and (self._active is None or self._active.response_complete):
            self.leave(linger=False)

    def check_deadlines(self) -> None:
        limits, cycle, now = self._limits, self._newest, self.hub.now
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
            return  # it is the app that is waited for
        elif self._in_head:
            if age > limits.header_seconds:
                self.refuse(408, f"The request headers did not arrive within {limits.header_seconds:g} seconds.")
        elif cycle is None or cycle.response_complete:
            if age > self._idle_limit:
                self.leave(linger=False)
        elif cycle.more_body and age > limits.stall_seconds:
            self.refuse(408, f"The request body stopped arriving for {limits.stall_seconds:g} seconds.")
