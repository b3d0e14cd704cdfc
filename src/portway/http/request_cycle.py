"""One request and its response, between ASGI and HTTP/1.1: the app is run, its body framed, a failure answered with 500
(RFC 9112).
"""

from __future__ import annotations

import asyncio
import logging
import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

    from portway.http.asgi import App, Message, Scope

_log: Final = logging.getLogger("portway.http")

_TOKEN: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_KNOWN: Final = 1024  # header names kept in `_names`
_JOINED: Final = 65_536  # bytes of body up to which a copy is cheaper than a second write
_STATUS_LINES: Final = {int(status): b"HTTP/1.1 %d %b" % (status, status.phrase.encode()) for status in HTTPStatus}
_WITHOUT_BODY: Final = (204, 304)
_LF, _CR, _NUL = b"\n\r\0"  # numbers: looking for bytes in bytes is five times as slow
_FAILED: Final = b"Internal Server Error"
_FAILED_HEADERS: Final = (
    (b"content-type", b"text/plain; charset=utf-8"),
    (b"content-length", b"%d" % len(_FAILED)),
    (b"connection", b"close"),
)


class _Names(dict[bytes, tuple[bytes, bytes]]):
    """Cache of header names: the line's start, and the lower-case name if it frames the response (else empty).

    Raises RuntimeError for a name that is no token (RFC 9110 section 5.1).
    """

    def __missing__(self, name: bytes) -> tuple[bytes, bytes]:
        if not _TOKEN.fullmatch(name):
            raise RuntimeError(f"The application sent a header whose name is not valid: {name!r}.")
        lower = name.lower()
        entry = lower + b": ", lower if lower in (b"content-length", b"transfer-encoding", b"connection") else b""
        if len(self) < _KNOWN:
            self[name] = entry
        return entry


_names: Final = _Names()


class ClientConnection(Protocol):
    """What a request needs of the connection it came by."""

    transport: asyncio.Transport
    write_paused: bool

    def resume_reading(self) -> None:
        """Read from the client again."""

    def leave(self, *, linger: bool) -> None:
        """End the connection."""

    def on_response_complete(self) -> None:
        """Go on, now that the response is written."""

    def on_app_done(self, cycle: RequestCycle) -> None:
        """Note that the app's task for `cycle` ends."""


class RequestCycle:
    """A request and its response; the app gets its `receive` and `send`.

    The head of a response is written with the first piece of its body (ASGI demands it), so a whole response is one
    system call. Futures are made only when something waits.
    """

    def __init__(
        self,
        connection: ClientConnection,
        *,
        is_head: bool,
        keep_alive: bool,
        knows_chunks: bool,
        expects_continue: bool,
    ) -> None:
        self.keep_alive = keep_alive
        self.disconnected = False  # the client has gone
        self.more_body = True
        self.response_started = False  # by the app
        self.response_complete = False
        self._connection = connection
        self._expects_continue = expects_continue
        self._knows_chunks = knows_chunks  # to HTTP/1.0, a body of unknown length ends with the connection
        self._is_head = is_head
        self._has_body = False  # whether the client expects a body in the response
        self._body: bytes | bytearray = b""  # has arrived, and waits for the app
        self._news = False  # a piece of body, or its end, waits for the app
        self._head = b""  # of the response, not yet written
        self._chunked = False
        self._left: int | None = None  # bytes missing of a response with a content-length
        self._waiters: tuple[asyncio.Future[None], ...] = ()

    # The connection's side

    @property
    def is_silent(self) -> bool:
        """Whether nothing of the response has been written."""
        return not self.response_started or bool(self._head)

    def feed(self, body: bytes) -> int:
        """Take a piece of the request's body. Return the bytes that wait for the app."""
        if not self._body:
            self._body = body
        elif isinstance(self._body, bytearray):
            self._body += body
        else:
            self._body = bytearray(self._body) + body
        self._news = True
        if self._waiters:
            self.wake()
        return len(self._body)

    def feed_end(self) -> None:
        """Take the end of the request's body."""
        self.more_body = False
        self._news = True
        if self._waiters:
            self.wake()

    def disconnect(self) -> None:
        """Note that the client has gone; the app is told by `receive`."""
        self.disconnected = True
        self.wake()

    def wake(self) -> None:
        """Wake everything that waits in `receive` or `send`."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def _wait(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiters += (waiter,)
        try:
            await waiter
        finally:
            self._waiters = tuple(other for other in self._waiters if other is not waiter)

    # The app's side

    async def run(self, app: App, scope: Scope) -> None:
        """Call the app, and end the response that it did not."""
        try:
            await app(scope, self.receive, self.send)
            if not (self.response_complete or self.disconnected or self._connection.transport.is_closing()):
                _log.error("The application returned without completing its response.")
                self.fail()
        except asyncio.CancelledError:  # by the stop, which has told the client
            self.fail()
        except BaseException as error:  # noqa: BLE001 - whatever an app raises ends its response, not the server
            _log.error("The application failed.", exc_info=error)
            self.fail()
        finally:
            self._connection.on_app_done(self)

    def fail(self) -> None:
        """End an unfinished response: with a 500 if nothing is written yet, else by closing the connection."""
        transport = self._connection.transport
        if self.disconnected or self.response_complete or transport.is_closing():
            return
        if self.is_silent:
            self._begin(500, _FAILED_HEADERS)
            self._write(_FAILED, more=False)
        else:
            self._connection.leave(linger=False)

    async def receive(self) -> Message:
        """Return the next piece of the body; after the body, wait for the client to go or the response to end."""
        connection = self._connection
        if self._expects_continue and not (self.disconnected or connection.transport.is_closing()):
            self._expects_continue = False
            connection.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        while not (self._news or self.disconnected or self.response_complete):
            connection.resume_reading()
            await self._wait()
        if self.disconnected or self.response_complete:
            return {"type": "http.disconnect"}
        body, self._body, self._news = self._body, b"", False
        return {"type": "http.request", "body": bytes(body), "more_body": self.more_body}

    def whole_body(self) -> bytes | None:
        """Take what waits of the body if that is all of it or its end; None if `receive` must."""
        if self.more_body or not self._news or self._expects_continue or self.disconnected or self.response_complete:
            return None
        body, self._body, self._news = self._body, b"", False
        return bytes(body)

    async def send(self, message: Message) -> None:
        """Write a message of the app, waiting for a slow client. Raise RuntimeError for a message out of turn."""
        while self._connection.write_paused and not self.disconnected:
            await self._wait()
        if self.disconnected or self._connection.transport.is_closing():
            return
        kind = message["type"]
        if self.response_complete or kind != ("http.response.body" if self.response_started else "http.response.start"):
            raise RuntimeError(f"The application sent {kind!r} out of turn.")
        if self.response_started:
            self._write(message.get("body", b""), more=message.get("more_body", False))
        else:
            self._begin(message["status"], message.get("headers", ()))

    def answer(self, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> bool:
        """Send a whole response at once. Return False if `send` must: it has begun, or the client is slow or gone."""
        connection = self._connection
        if self.response_started or self.disconnected or connection.write_paused or connection.transport.is_closing():
            return False
        self._begin(status, headers)
        if self._has_body and self._left == len(body) <= _JOINED:  # as most are: nothing is left to find out
            connection.transport.write(self._head + body)
            self._head = b""
            self._finish()
        else:
            self._write(body, more=False)
        return True

    def _begin(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        lines = [_STATUS_LINES.get(status) or b"HTTP/1.1 %d " % status]
        left, chunked, says_close = None, False, False
        for name, value in headers:
            prefix, framing = _names[name]
            lines.append(prefix + value)
            if not framing:
                continue
            if framing == b"connection":
                says_close = says_close or b"close" in [option.strip() for option in value.lower().split(b",")]
            elif left is not None or chunked or (framing == b"transfer-encoding" and value.lower() != b"chunked"):
                raise RuntimeError("The application stated the length of its body twice, or in an unknown way.")
            elif framing == b"content-length":
                left = int(value)
            else:
                chunked = True
                lines.pop()  # added below, for clients that know it
        text = b"".join(lines)
        if _LF in text or _CR in text or _NUL in text:  # RFC 9110 section 5.5: the client would read more headers
            raise RuntimeError("The application sent a header whose value holds a line break or a NUL.")
        self._has_body = not self._is_head and status not in _WITHOUT_BODY
        chunked = left is None and self._has_body and self._knows_chunks
        if chunked:
            lines.append(b"transfer-encoding: chunked")
        if says_close or (self._expects_continue and self.more_body):  # the client may or may not send its body
            self.keep_alive = False
        if not (self.keep_alive or says_close):
            lines.append(b"connection: close")
        lines.append(b"\r\n")
        self._head, self._left, self._chunked = b"\r\n".join(lines), left, chunked
        self.response_started = True
        self._expects_continue = False

    def _write(self, body: bytes, *, more: bool) -> None:
        if not self._has_body:
            body = b""
        elif self._chunked:
            body = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            if not more:
                body += b"0\r\n\r\n"
        elif self._left is not None:
            self._left -= len(body)
            if self._left < 0 or (self._left and not more):
                raise RuntimeError("The application sent a body that is not as long as its content-length says.")
        transport = self._connection.transport
        if self._head:
            if len(body) > _JOINED:
                transport.write(self._head)
            else:
                body = self._head + body
            self._head = b""
        if body:
            transport.write(body)
        if not more:
            self._finish()

    def _finish(self) -> None:
        self.response_complete = True
        if self._waiters:
            self.wake()
        self._connection.on_response_complete()
