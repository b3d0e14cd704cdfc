"""One request and its response: uvicorn's, but that head and body leave in one write.

ASGI asks for it (a head is not to be sent before a first piece of body), and each write is a system call here and a
wake-up of the client, which cost as much again.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING

from portway.http.vendor import RequestResponseCycle

if TYPE_CHECKING:
    from portway.http.asgi import Headers, Message

JOIN_LIMIT = 65_536  # a head and a body up to this size leave together
_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")  # RFC 9110 section 5.6.2, in lower case
_KNOWN_NAMES = 256
_known_names = {b"content-type"}  # checked before; what frames a response is never among them
_FRAMING = (b"content-length", b"transfer-encoding", b"connection")


class Exchange(RequestResponseCycle):
    """Becomes the class of a uvicorn cycle that has not run yet: uvicorn has no hook for it."""

    _head = b""  # composed, and not sent

    async def receive(self) -> Message:  # type: ignore[override]
        if self.more_body or self.response_complete or self.disconnected or not self.body:
            return await super().receive()  # type: ignore[return-value]
        body, self.body = bytes(self.body), bytearray()  # all of it is here, as for most requests: nothing to wait for
        self.message_event.clear()
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(self, message: Message) -> None:  # type: ignore[override]
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        if not self.response_started:
            if message["type"] != "http.response.start":
                raise RuntimeError(f"Expected ASGI message 'http.response.start', but got '{message['type']}'.")
            self._head = self._compose(message["status"], message.get("headers", ()))
            self.response_started = True
            self.waiting_for_100_continue = False
        elif self.response_complete or message["type"] != "http.response.body":
            raise RuntimeError(f"Unexpected ASGI message '{message['type']}' in the course of a response.")
        else:
            self._write(message.get("body", b""), more=message.get("more_body", False))

    def _compose(self, status: int, headers: Headers) -> bytes:
        parts = [_STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status]
        says_close = False
        for name, value in headers:
            if name not in _known_names:
                name = name.lower()  # noqa: PLW2901
                if name not in _FRAMING:
                    _remember(name)
                elif name == b"content-length":
                    self.expected_content_length = int(value)
                    self.chunked_encoding = False
                elif name == b"transfer-encoding":
                    continue  # framing is the listener's
                elif b"close" in value.lower():
                    self.keep_alive = False
                    says_close = True
            parts += (name, b": ", value, b"\r\n")
        if self.chunked_encoding is None and self.scope["method"] != "HEAD" and status not in (204, 304):
            self.chunked_encoding = True
            parts.append(b"transfer-encoding: chunked\r\n")
        closes = not self.keep_alive and not says_close
        if closes:
            parts.append(b"connection: close\r\n")
        parts.append(b"\r\n")
        head, lines = b"".join(parts), parts.count(b"\r\n") + 1 + (self.chunked_encoding is True) + closes
        if head.count(b"\n") != lines or head.count(b"\r") != lines or b"\0" in head:
            raise RuntimeError("A response header holds a line break or NUL.")
        return head

    def _write(self, body: bytes, *, more: bool) -> None:
        if self.scope["method"] == "HEAD":
            self.expected_content_length = 0
            body = b""
        elif self.chunked_encoding:
            body = (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + (b"" if more else b"0\r\n\r\n")
        else:
            self.expected_content_length -= len(body)
            if self.expected_content_length < 0 or (self.expected_content_length and not more):
                raise RuntimeError("The response body is not as long as its Content-Length.")
        head, self._head = self._head, b""
        if len(body) <= JOIN_LIMIT:
            body, head = head + body, b""
        if head:
            self.transport.write(head)
        if body:
            self.transport.write(body)
        if not more:
            self.response_complete = True
            self.message_event.set()
            if not self.keep_alive:
                self.transport.close()
            self.on_response()


def _remember(name: bytes) -> None:
    """Check the name of a header; each name once, up to a bound."""
    if not _TOKEN.fullmatch(name):
        raise RuntimeError(f"{name!r} is not a header name.")
    if len(_known_names) < _KNOWN_NAMES:
        _known_names.add(name)
