"""The requests of a diagnosis, as clients send them, each on its own connection, and how answers are read."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urlsplit

import msgspec
from msgspec import UNSET

from portway.client.channel import Incoming, decode_incoming
from portway.client.http_channel import require_sendable
from portway.client.rpc import client_info
from portway.http.event_stream import EventParser
from portway.http.http_client import HttpClient, Response, UpstreamError
from portway.protocol.headers import SESSION, VERSION, request_headers
from portway.protocol.jsonrpc import PREFIX, UNREADABLE, encode_notification, encode_request
from portway.protocol.versions import LATEST_LEGACY, LATEST_MODERN

SECONDS = 10.0
"""The longest wait for one answer."""
ANSWER_BYTES = 8 * 1024 * 1024
"""The longest answer, or list, that is looked at."""
_EVENTS = b"text/event-stream"
_SHOWN = 120  # characters that are quoted of an answer
_ACCEPT = (b"accept", b"application/json, text/event-stream")
Header = tuple[bytes, bytes]


class NoAnswer(Exception):
    """No answer came; the message says why."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one request. `message` is the JSON-RPC reply in it, None when there is none."""

    status: int
    headers: dict[bytes, bytes] = field(default_factory=dict)
    body: bytes = b""
    message: Incoming | None = None

    @property
    def is_result(self) -> bool:
        return self.status == 200 and self.message is not None and self.message.result is not UNSET

    @property
    def session(self) -> bytes:
        return self.headers.get(SESSION, b"")

    def said(self) -> str:
        """Return what the answer says in words, "" for nothing."""
        if self.message is not None and self.message.error is not UNSET:
            text = self.message.error.message
        elif self.headers.get(b"content-type", b"").startswith(b"text/html"):
            return "a web page"
        else:
            text = self.body.decode(errors="replace")
        return "".join(letter if letter.isprintable() else " " for letter in text)[:_SHOWN].strip()

    def result(self) -> dict[str, object]:
        """Return the result of a reply that `is_result`; empty for one that is no object."""
        assert self.message is not None
        with contextlib.suppress(*UNREADABLE):
            return msgspec.json.decode(bytes(self.message.result or b"{}"), type=dict[str, object])
        return {}


class Endpoint:
    """The endpoint at a URL; `token` is sent to it and to nobody else. Raises ValueError for what cannot be sent."""

    def __init__(self, url: str, token: str | None) -> None:
        HttpClient(url)
        self.url = url
        self.parts: SplitResult = urlsplit(url)
        self.token = token
        self._sessions: set[bytes] = set()  # legacy ones that requests have opened
        self.target = (self.parts.path or "/") + (f"?{self.parts.query}" if self.parts.query else "")
        require_sendable(url, self.target, token)

    @property
    def is_tls(self) -> bool:
        return self.parts.scheme == "https"

    @property
    def host(self) -> str:
        return self.parts.hostname or ""

    @property
    def port(self) -> int:
        return self.parts.port or (443 if self.is_tls else 80)

    @contextlib.asynccontextmanager
    async def open(
        self,
        method: str,
        headers: Sequence[Header] = (),
        body: bytes = b"",
        *,
        target: str = "",
        named: str | None = None,
        with_token: bool = True,
    ) -> AsyncIterator[Response]:
        """Send a request and yield its response, whose body is not read yet. Raises `NoAnswer`.

        `named` is the Host header in place of the address's own.
        """
        own = [(b"authorization", f"Bearer {self.token}".encode())] if self.token and with_token else []
        try:
            require_sendable(self.url, target, None)
        except ValueError as error:  # a target that the server has named
            raise NoAnswer(str(error)) from None
        try:
            async with HttpClient(self.url, named) as client:
                async with asyncio.timeout(SECONDS):
                    response = await client.request(method, target or self.target, [*own, *headers], body)
                yield response
                await response.close()
        except TimeoutError:
            raise NoAnswer(f"no answer came within {SECONDS:g} s") from None
        except UpstreamError as error:
            raise NoAnswer(str(error)) from None

    async def send(
        self,
        method: str,
        headers: Sequence[Header] = (),
        body: bytes = b"",
        *,
        target: str = "",
        named: str | None = None,
        with_token: bool = True,
    ) -> Answer:
        """Send a request and return its whole answer; of an event stream, the part up to the reply. Raises NoAnswer."""
        async with self.open(method, headers, body, target=target, named=named, with_token=with_token) as response:
            async with asyncio.timeout(SECONDS):
                held = dict(response.headers)
                if (opened := held.get(SESSION)) and response.status == 200:
                    self._sessions.add(opened)
                if held.get(b"content-type", b"").startswith(_EVENTS):
                    return Answer(response.status, held, message=await _reply(response))
                content = await response.read(ANSWER_BYTES)
            return Answer(response.status, held, content, _message(content))

    async def call(
        self, method: str, params: Mapping[str, object] | None = None, session: bytes = b"", version: str = ""
    ) -> Answer:
        """Send a legacy request, with the session and the version that were agreed on. Raises `NoAnswer`."""
        body = encode_request(1, method, msgspec.json.encode(params or {}))
        return await self.send("POST", legacy_headers(session, version), body)

    async def notify(self, method: str, session: bytes, version: str) -> Answer:
        """Send a legacy notification. Raises `NoAnswer`."""
        return await self.send("POST", legacy_headers(session, version), encode_notification(method, b"{}"))

    async def end_sessions(self) -> None:
        """End the sessions that requests have opened, as far as the server lets a client do that."""
        for session in self._sessions:
            with contextlib.suppress(NoAnswer):
                await self.send("DELETE", legacy_headers(session))


def initialize(version: str = LATEST_LEGACY) -> tuple[list[Header], bytes]:
    """Return the headers and the body of a legacy client's first request."""
    params = {"protocolVersion": version, "capabilities": {}, "clientInfo": client_info()}
    return legacy_headers(), encode_request(1, "initialize", msgspec.json.encode(params))


def legacy_headers(session: bytes = b"", version: str = "") -> list[Header]:
    headers = [_ACCEPT, (b"content-type", b"application/json")]
    headers += [(VERSION, version.encode())] if version else []
    return headers + ([(SESSION, session)] if session else [])


def modern_request(method: str, params: Mapping[str, object]) -> tuple[list[Header], bytes]:
    """Return the headers and the body of a request in the modern era."""
    meta = {
        PREFIX + "protocolVersion": LATEST_MODERN,
        PREFIX + "clientCapabilities": {},
        PREFIX + "clientInfo": client_info(),
    }
    body = encode_request(1, method, msgspec.json.encode({**params, "_meta": meta}))
    return [*legacy_headers(), *request_headers(method, None, LATEST_MODERN)], body


async def _reply(response: Response) -> Incoming | None:
    parser, size = EventParser(ANSWER_BYTES), 0
    async for chunk in response.chunks():
        size += len(chunk)
        for event in parser.feed(chunk):
            message = _message(event.data or b"")
            if message is not None and message.method is None:
                return message
        if size > ANSWER_BYTES:
            break
    return None


def _message(content: bytes) -> Incoming | None:
    try:
        message = decode_incoming(content)
    except UNREADABLE:
        return None
    is_reply = message.result is not UNSET or message.error is not UNSET
    return message if is_reply or message.method is not None else None
