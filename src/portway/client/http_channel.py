"""The client's HTTP channel: Streamable HTTP of both eras (specification: basic/transports)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from urllib.parse import urljoin, urlsplit

from msgspec import UNSET

from portway.client.channel import (
    MESSAGE_BYTES,
    UNREADABLE,
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
from portway.http.http_client import Address, HttpClient, Response, UpstreamError
from portway.protocol.headers import SESSION, VERSION, request_headers
from portway.protocol.sse import EventParser

_REDIRECTS = (307, 308)
_REDIRECTIONS = 3
_CLOSE_SECONDS = 2.0
_ATTEND_SECONDS = 2.0  # for the head of a reply that may not come before something happens
_RETRY_SECONDS = 0.5  # before a stream is taken up again, where the server did not say
_RETRY_LEAST, _RETRY_MOST = 0.02, 3600.0  # where it did
_GONE = 404
_EVENTS = (b"accept", b"text/event-stream")
_LINGER_SECONDS = 0.5


class _Place:
    """How far an event stream was read: what resumes it, and how long to wait before."""

    def __init__(self) -> None:
        self.last_id = b""
        self.retry = _RETRY_SECONDS

    async def messages(self, response: Response) -> AsyncIterator[Incoming]:
        """The readable messages of a stream; ValueError for an event that is too large, UpstreamError for a cut."""
        parser = EventParser(MESSAGE_BYTES)
        async for chunk in response.chunks():
            for event in parser.events(chunk):
                self.last_id = event.id or self.last_id
                if event.retry is not None:
                    self.retry = min(max(_RETRY_LEAST, event.retry / 1000), _RETRY_MOST)
                if not event.data:  # only an id to resume from
                    continue
                try:
                    yield decode_incoming(event.data)
                except UNREADABLE:
                    pass  # a stream's other messages may still be good


class HttpChannel:
    """Calls as POSTs to one URL. A legacy session is kept, its streams are resumed, and it is ended with DELETE."""

    has_headers = True

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
        self._attending: asyncio.Task[None] | None = None
        self._attended: bytes | None = None  # the session whose stream that is

    async def request(self, call: Call) -> Incoming:
        """POST a request and return its reply, from JSON or from an event stream."""
        session = self._session
        if call.modern and call.version:
            extra = [*request_headers(call.method, call.name, call.version), *call.headers]
        else:
            self._version = call.version
            extra = self._legacy_headers(call.version)
        try:
            response = await self._post(call.body, extra)
            if response.status != 200:
                await self._refused(response, call, session)
            if call.method == "initialize":
                self._session = dict(response.headers).get(SESSION)
            if _is_stream(response):
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

    async def attend(self, version: str | None) -> None:
        """Open the session's own stream (GET), where the server has sessions and offers one."""
        if self._session is None or self._session == self._attended:
            return
        self._attended = self._session
        opened = asyncio.Event()
        self._attending = asyncio.get_running_loop().create_task(self._attend(opened))
        self._attending.add_done_callback(lambda _: opened.set())
        try:
            async with asyncio.timeout(_ATTEND_SECONDS):
                await opened.wait()
        except TimeoutError:
            pass  # some servers send the head of the reply with the first event

    async def close(self) -> None:
        """Send what is still to be sent, then end the session; a server that is gone or silent does not matter."""
        if self._attending is not None:
            self._attending.cancel()
            await asyncio.gather(self._attending, return_exceptions=True)
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
        here = self._client.address.authority
        try:
            parts = urlsplit(urljoin(f"http://{here}{self._target}", location))
        except ValueError:
            parts = None
        if parts is None or parts.netloc != here or not _fits_header(location):
            raise ClientError(f"{self._url} redirects to {location[:100]}: give that address instead")
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")

    def _common(self) -> list[tuple[bytes, bytes]]:
        return [(b"authorization", b"Bearer " + self._token.encode())] if self._token else []

    def _legacy_headers(self, version: str | None) -> list[tuple[bytes, bytes]]:
        headers = [(VERSION, version.encode())] if version else []
        if self._session is not None:
            headers.append((SESSION, self._session))
        return headers

    async def _attend(self, opened: asyncio.Event) -> None:
        """Take what the session's own stream brings, and open it again whenever it ends."""
        place = _Place()
        while True:
            try:
                response = await self._get(place)
                if not _is_stream(response):
                    await response.read(MESSAGE_BYTES)
                    return
                opened.set()
                async for message in place.messages(response):
                    self._handler(message)
            except (UpstreamError, ValueError):
                pass
            await asyncio.sleep(place.retry)

    async def _get(self, place: _Place) -> Response:
        """Ask for the session's own stream, or for the rest of any of its streams."""
        headers = [*self._common(), _EVENTS, *self._legacy_headers(self._version)]
        if place.last_id:
            headers.append((b"last-event-id", place.last_id))
        return await self._client.request("GET", self._target, headers)

    async def _from_stream(self, response: Response, call: Call) -> Incoming:
        """The reply out of the stream of a call, taken up again where a legacy server lets it (Last-Event-ID)."""
        place = _Place()
        while True:
            try:
                async for message in place.messages(response):
                    if is_reply(message, call):
                        self._run(_let_end(response))
                        return message
                    self._handler(message)
            except ValueError as error:
                await response.close()
                raise ClientError(f"the server's answer to {call.method}: {error}") from None
            except UpstreamError:
                if call.modern or not place.last_id:
                    raise
            if not call.modern and place.last_id:
                await asyncio.sleep(place.retry)
                response = await self._get(place)
                if _is_stream(response):
                    continue
                await response.read(MESSAGE_BYTES)
            raise ClientError(f"the server closed the stream before it answered {call.method}")

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

    async def _refused(self, response: Response, call: Call, session: bytes | None) -> None:
        """Raise what an answer other than 200 means."""
        body = await response.read(MESSAGE_BYTES)
        status = response.status
        if status == _GONE and session is not None and call.method != "initialize":
            if self._session == session:
                self._session = None
                if self._attending is not None:
                    self._attending.cancel()
            raise SessionLost(f"{self._url} has ended the session", status)
        if status == 401:
            held = "refuses the token it was given" if self._token else "asks for a token"
            raise ClientError(
                f"{self._url} {held}; create one for this app and pass it (token=, --token or PORTWAY_TOKEN)", 401
            )
        try:
            message = decode_incoming(body)
        except UNREADABLE:
            message = Incoming()
        if message.error is not UNSET:
            raise_error(message.error, status)
        raise ClientError(f"{self._url} answered {call.method} with HTTP status {status}", status)


def _is_stream(response: Response) -> bool:
    kind = dict(response.headers).get(b"content-type", b"")
    return response.status == 200 and kind.startswith(_EVENTS[1])


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
