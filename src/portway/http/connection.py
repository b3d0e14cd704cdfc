"""One client connection: uvicorn's HTTP protocol with the bounds that keep a hostile client cheap."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Final

import httptools

from portway.http.cork import Cork
from portway.http.vendor import HttpToolsProtocol

if TYPE_CHECKING:
    from portway.http.asgi import App
    from portway.http.limits import Limits
    from portway.http.vendor import ASGI3Application, RequestResponseCycle

PIPELINE_LIMIT = 64  # requests of one connection that wait for their turn
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
_UPGRADE_HEADERS: Final = frozenset((b"upgrade", b"http2-settings"))


_log: Final = logging.getLogger("portway.http")
_log.addFilter(lambda record: not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError)))
"""A request cancelled by the stop is no error."""


def _answer(status: int, sentence: str) -> bytes:
    body = sentence.encode() + b"\n"
    head = b"HTTP/1.1 %d %b\r\ncontent-type: text/plain; charset=utf-8\r\n" % (status, _REASONS[status])
    return head + b"content-length: %d\r\nconnection: close\r\n\r\n%b" % (len(body), body)


class _RefusedError(Exception):
    """Raised inside a parser callback; carries (status, sentence)."""


@dataclass(slots=True, eq=False)
class Hub:
    """What the connections of one listener share. `now` is the loop's time as of the last tick: free to read.

    It stands in for uvicorn's `Config` and `ServerState` both: the names after the first block are theirs.
    """

    loaded_app: App
    limits: Limits
    loop: asyncio.AbstractEventLoop
    state: dict[str, Any] = field(default_factory=dict)  # the app's, from its lifespan
    now: float = 0.0
    stopping: bool = False
    leaving: set[Connection] = field(default_factory=set)  # refused or finished, with an answer still to be read
    _timer: asyncio.TimerHandle | None = None

    loaded: ClassVar = True
    ws_protocol_class: ClassVar = None
    root_path: ClassVar = ""
    asgi_version: ClassVar = "3.0"
    limit_concurrency: ClassVar = None
    timeout_keep_alive: ClassVar = 0
    reset_contextvars: ClassVar = False

    connections: set[Connection] = field(default_factory=set)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    default_headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    total_requests: int = 0

    emptied: asyncio.Event = field(default_factory=asyncio.Event)  # after a stop: the last connection has gone

    def start_ticking(self) -> None:
        if self._timer is None:
            self.now = self.loop.time()
            self._timer = self.loop.call_later(self.limits.tick, self._tick)

    def _tick(self) -> None:
        """One timer for every deadline of every connection; none while there are no connections."""
        self.now = self.loop.time()
        for connection in [*self.connections, *self.leaving]:
            connection.check_deadlines()
        if self.connections or self.leaving:
            self._timer = self.loop.call_later(self.limits.tick, self._tick)
        else:
            self._timer = None


class Connection(HttpToolsProtocol):
    def __init__(self, hub: Hub) -> None:
        super().__init__(hub, hub, hub.state, hub.loop)  # type: ignore[arg-type]
        self.access_log = False
        self.logger = _log
        self._active: RequestResponseCycle | None = None  # `cycle` is the newest request, this one the app is at
        self._hub = hub
        self._limits = hub.limits
        self._unread_bytes = 0  # written, and not read by the client when last looked
        self._unused_bytes = 0  # received since the parser last made something of it
        self._refusal: bytes | None = None  # to be written after the answers before it
        self._is_leaving = False
        self._in_head = False
        self._upgrade = False
        self._since = hub.now  # of the last sign of life, for every deadline
        self._idle_limit = hub.limits.header_seconds  # a connection that never says anything is not kept long

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._cork = Cork(transport)
        hub = self._hub
        hub.start_ticking()
        self._since = hub.now
        if len(hub.connections) > self._limits.connections or hub.stopping:
            self.refuse(503, "The server has as many connections as it takes. Try again in a moment.")
            if len(hub.leaving) > self._limits.connections:
                transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._hub.leaving.discard(self)
        self.pipeline.clear()
        super().connection_lost(exc)
        if self._hub.stopping and not self._hub.connections and not self._hub.leaving:
            self._hub.emptied.set()

    def data_received(self, data: bytes) -> None:
        self._unused_bytes += len(data)
        if self._is_leaving:
            if self._unused_bytes > LINGER_BYTES:
                self.transport.abort()
            return
        if self._refusal is not None:
            return
        try:
            self.parser.feed_data(data)
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

    def pause_writing(self) -> None:
        self._unread_bytes = self.transport.get_write_buffer_size()
        self._since = self._hub.now
        super().pause_writing()

    def resume_writing(self) -> None:
        self._since = self._hub.now
        super().resume_writing()

    # httptools callbacks

    def on_message_begin(self) -> None:
        if self._is_leaving:
            raise _RefusedError(400, _INVALID)
        self._in_head = True
        self._since = self._hub.now
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._check_head()
        self._in_head = False
        self._unused_bytes = 0
        self._upgrade = self.parser.should_upgrade()
        if self._upgrade:
            return
        super().on_headers_complete()
        self.cycle.transport = self._cork  # type: ignore[assignment]
        if self._hub.stopping:
            self.cycle.keep_alive = False
        self.headers = []  # what comes later as a header is a trailer: the app's list is not its place

    def on_body(self, body: bytes) -> None:
        self._since = self._hub.now
        if self.cycle.response_complete:  # the app answered without reading it, and nobody will: a little is let pass
            if self._unused_bytes > self._limits.header_bytes and not self._is_leaving:
                self._leave(linger=True)
            return
        self._unused_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._unused_bytes = 0
        if not self._upgrade:
            super().on_message_complete()

    def _check_head(self) -> None:
        limits, headers = self._limits, self.headers
        if not self.url.startswith(b"/"):  # RFC 9112 section 3.2.2: an absolute target would overrule Host
            raise _RefusedError(400, "The request target must be a path that starts with '/'.")
        if len(headers) > limits.header_count:
            raise _RefusedError(431, f"The request has more than {limits.header_count} headers.")
        if self._unused_bytes > limits.header_bytes:  # a body may have come along, so count
            size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in headers)
            if size > limits.header_bytes:
                raise _RefusedError(431, f"The request headers are larger than {limits.header_bytes} bytes.")
        if len(self.pipeline) >= PIPELINE_LIMIT:
            raise _RefusedError(400, f"More than {PIPELINE_LIMIT} requests wait on this connection.")

    def _ignore_upgrade(self, rest: bytes) -> None:
        """Answer as if no upgrade had been asked for (RFC 9110 section 7.8).

        Java's HTTP client offers h2c with its POSTs, and the parser takes their body for the new protocol's.
        """
        lines = [self.parser.get_method() + b" " + self.url + b" HTTP/1.1"]
        for name, value in self.headers:
            if name == b"connection":
                options = [option for option in value.split(b",") if option.strip().lower() not in _UPGRADE_HEADERS]
                lines.append(b"connection:" + b",".join(options))
            elif name not in _UPGRADE_HEADERS:
                lines.append(name + b": " + value)
        self.parser = httptools.HttpRequestParser(self)
        self.data_received(b"\r\n".join([*lines, b"", rest]))

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._active = cycle
        super()._start_asgi_task(cycle, app)

    # answers done, saying no, and leaving

    def on_response_complete(self) -> None:
        """uvicorn's, without its timer per request; and a refusal waits for the answers before it."""
        self._cork.end()
        self._since = self._hub.now
        self._idle_limit = self._limits.idle_seconds
        if self.transport.is_closing():
            self._leave(linger=False)
        elif self.pipeline and not self._hub.stopping:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
            if not self.pipeline and self._refusal is None:
                self.flow.resume_reading()
        elif self._refusal is not None:
            self.transport.write(self._refusal)
            self._leave(linger=True)
        else:
            self.flow.resume_reading()

    def refuse(self, status: int, sentence: str) -> None:
        """Answer `status` with one sentence as plain text, and end the connection.

        Answers owed for earlier, whole requests go first. A request cut in its middle gets this one as its answer.
        """
        answer = _answer(status, sentence)
        if self._is_leaving:
            return
        cycle, owed = self.cycle, self._active is not None and not self._active.response_complete
        if owed and cycle.more_body:
            if cycle is self._active:
                self._end(cycle, answer)
                return
            self.pipeline.popleft()  # the newest, which is this one
        if owed:
            self._refusal = answer
            self.flow.pause_reading()
        else:
            self.transport.write(answer)
            self._leave(linger=True)

    def cut(self) -> None:
        """The time to finish is over: the request in flight is answered 503, or its answer is broken off."""
        active = self._active
        if active is not None and not active.response_complete:
            self._end(active, _answer(503, "The server is stopping. Send the request again."))

    def _end(self, cycle: RequestResponseCycle, answer: bytes) -> None:
        """Take the request in flight from its app, which sees a disconnect."""
        cycle.disconnected = True
        cycle.message_event.set()
        if cycle.response_started:
            self.transport.abort()
        else:
            self.transport.write(answer)
            self._leave(linger=True)

    def _leave(self, *, linger: bool) -> None:
        """Close once what is written has been read; `linger`: discard what still comes in until the client closes."""
        self._is_leaving = True
        self._unused_bytes = 0
        self._since = self._hub.now
        self._unread_bytes = self.transport.get_write_buffer_size()
        self.pipeline.clear()
        self._hub.connections.discard(self)
        self._hub.leaving.add(self)
        if linger and self.transport.can_write_eof() and not self.transport.is_closing():
            self.transport.write_eof()
            self.flow.resume_reading()
        else:
            self.transport.close()

    def shutdown(self) -> None:
        """The listener stops: the next answer is the last, and to a request already on its way there is one."""
        if self._active is None or self._active.response_complete:
            self._hub.loop.call_later(LAST_CALL_SECONDS, self._close_idle)
        else:
            self._active.keep_alive = False

    def _close_idle(self) -> None:
        if not self._is_leaving and (self._active is None or self._active.response_complete):
            self._leave(linger=False)

    def check_deadlines(self) -> None:
        limits, cycle, now = self._limits, self.cycle, self._hub.now
        age = now - self._since - limits.tick
        if age < 0:
            return
        if self._is_leaving or self.flow.write_paused:
            unread = self.transport.get_write_buffer_size()
            if unread < self._unread_bytes:
                self._unread_bytes, self._since = unread, now
            elif age > (limits.stall_seconds if unread else LINGER_SECONDS):
                self.transport.abort()
        elif self._in_head:
            if age > limits.header_seconds and self._refusal is None:
                self.refuse(408, f"The request headers did not arrive within {limits.header_seconds:g} seconds.")
        elif cycle is None or cycle.response_complete:
            if age > self._idle_limit:
                self._leave(linger=False)
        elif cycle.more_body and not self.flow.read_paused and age > limits.stall_seconds:
            self.refuse(408, f"The request body stopped arriving for {limits.stall_seconds:g} seconds.")
