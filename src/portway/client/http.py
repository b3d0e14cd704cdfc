"""The client's HTTP channel: Streamable HTTP of both eras (specification: basic/transports)."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from urllib.parse import urljoin, urlsplit

import msgspec
from msgspec import UNSET

from portway.client.wire import (
    MESSAGE_BYTES,
    Call,
    ClientError,
    Handler,
    Incoming,
    SessionLost,
    cancelled,
    decode_incoming,
    is_reply,
    raise_error,
    read_reply,
)
from portway.http.client import Address, HttpClient, Response, UpstreamError
from portway.protocol.headers import VERSION, request_headers
from portway.protocol.sse import EventParser

_SESSION = b"mcp-session-id"
_REDIRECTS = (307, 308)
_REDIRECTIONS = 3
_CLOSE_SECONDS = 2.0
_LINGER_SECONDS = 0.5


class HttpChannel:
    """Calls as POSTs to one URL. A legacy session is kept in `session` and ended with DELETE."""

    def __init__(self, url: str, token: str | None, handler: Handler) -> None:
        if url.startswith("unix:"):
            self._client, self._target = HttpClient(Address.parse(url)), "/mcp"
        else:
            self._client = HttpClient(Address.parse(url))
            parts = urlsplit(url)
            self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        if not _fits_header(self._target):
            raise ValueError(f"{url!r} cannot be asked for: percent-encode its spaces and what is not ASCII")
        if token and not _fits_header(token):
            raise ValueError("the token holds a space, a line break or what is not ASCII: give it as it was shown")
        self._url = url
        self._token = token
        self._handler = handler
        self._session: bytes | None = None
        self._version: str | None = None
        self._background: set[asyncio.Task[None]] = set()

    async def request(self, call: Call) -> Incoming:
        """POST a request and return its reply, from JSON or from an event stream."""
        if call.modern and call.version:
            extra = request_headers(call.method, call.name, call.version)
        else:
            self._version = call.version
            extra = self._legacy_headers(call.version)
        try:
            response = await self._post(call.body, extra)
            if response.status != 200:
                await self._refused(response, call)
            header = dict(response.headers)
            if call.method == "initialize":
                self._session = header.get(_SESSION)
            if header.get(b"content-type", b"").startswith(b"text/event-stream"):
                return await self._from_stream(response, call)
            return read_reply(await response.read(MESSAGE_BYTES), call)
        except UpstreamError as error:
            raise ClientError(f"{self._url}: {error}") from error
        except asyncio.CancelledError:
            # In the modern era closing the connection says it; a legacy server must be told.
            if not call.modern and call.method != "initialize":
                self._spawn(cancelled(call))
            raise

    async def notify(self, body: bytes, version: str | None) -> None:
        """POST a legacy notification, or the answer to a server's request."""
        try:
            response = await self._post(body, self._legacy_headers(version))
            await response.read(MESSAGE_BYTES)
        except UpstreamError as error:
            raise ClientError(f"{self._url}: {error}") from error

    async def close(self) -> None:
        """Send what is still to be sent, then end the session; a server that is gone or silent does not matter."""
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await asyncio.gather(*self._background, return_exceptions=True)
                if self._session is not None:
                    headers = self._common() + self._legacy_headers(self._version)
                    await (await self._client.request("DELETE", self._target, headers)).read(MESSAGE_BYTES)
        except (TimeoutError, UpstreamError):
            pass
        finally:
            await self._client.close()

    async def _post(self, body: bytes, extra: list[tuple[bytes, bytes]]) -> Response:
        headers = [
            *self._common(),
            (b"content-type", b"application/json"),
            (b"accept", b"application/json, text/event-stream"),
            *extra,
        ]
        for _ in range(_REDIRECTIONS):
            response = await self._client.request("POST", self._target, headers, body)
            location = dict(response.headers).get(b"location") if response.status in _REDIRECTS else None
            if location is None:
                return response
            await response.close()
            self._follow(location.decode("latin-1"))
        raise ClientError(f"{self._url} redirects without end")

    def _follow(self, location: str) -> None:
        """Take a redirect to another path; never to another host, which would be handed the token."""
        here = f"http://{self._client.address.authority}"
        parts = urlsplit(urljoin(here + self._target, location))
        if parts.netloc != self._client.address.authority:
            raise ClientError(f"{self._url} redirects to {parts.scheme}://{parts.netloc}: give that address instead")
        self._target = parts.path + (f"?{parts.query}" if parts.query else "")

    def _common(self) -> list[tuple[bytes, bytes]]:
        return [(b"authorization", b"Bearer " + self._token.encode())] if self._token else []

    def _legacy_headers(self, version: str | None) -> list[tuple[bytes, bytes]]:
        headers = [(VERSION, version.encode())] if version else []
        if self._session is not None:
            headers.append((_SESSION, self._session))
        return headers

    async def _from_stream(self, response: Response, call: Call) -> Incoming:
        parser = EventParser(MESSAGE_BYTES)
        async for chunk in response.chunks():
            try:
                events = parser.feed(chunk)
            except ValueError as error:
                await response.close()
                raise ClientError(f"the server's answer to {call.method}: {error}") from None
            for data in events:
                reply = self._take(data, call)
                if reply is not None:
                    self._run(_let_end(response))
                    return reply
        raise ClientError(f"the server closed the stream before it answered {call.method}")

    def _take(self, data: bytes, call: Call) -> Incoming | None:
        """The reply to `call` if `data` is it; anything else goes to the handler, unreadable messages nowhere."""
        try:
            message = decode_incoming(data)
        except (msgspec.DecodeError, RecursionError):
            return None
        if is_reply(message, call):
            return message
        if message.method is not None and (answer := self._handler(message)) is not None and not call.modern:
            self._spawn(answer)
        return None

    def _spawn(self, body: bytes) -> None:
        async def send() -> None:
            try:
                await self.notify(body, self._version)
            except ClientError:
                pass  # the call itself tells what is wrong with the connection

        self._run(send())

    def _run(self, work: Coroutine[None, None, None]) -> None:
        """Do something beside the calls; `close` waits for it."""
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _refused(self, response: Response, call: Call) -> None:
        """Raise what an answer other than 200 means."""
        body = await response.read(MESSAGE_BYTES)
        status = response.status
        if status == 404 and self._session is not None and call.method != "initialize":
            self._session = None
            raise SessionLost(f"{self._url} has ended the session", status)
        if status == 401:
            held = "refuses the token it was given" if self._token else "asks for a token"
            raise ClientError(
                f"{self._url} {held}; create one for this app and pass it (token=, --token or PORTWAY_TOKEN)", 401
            )
        try:
            message = decode_incoming(body)
        except (msgspec.DecodeError, RecursionError):
            message = Incoming()
        if message.error is not UNSET:
            raise_error(message.error, status)
        raise ClientError(f"{self._url} answered {call.method} with HTTP status {status}", status)


def _fits_header(text: str) -> bool:
    return text.isascii() and text.isprintable() and " " not in text


async def _let_end(response: Response) -> None:
    """Let a stream that has said all end by itself: its connection can then carry the next call."""
    try:
        async with asyncio.timeout(_LINGER_SECONDS):
            async for _ in response.chunks():
                pass
    except (TimeoutError, UpstreamError):
        await response.close()
