"""The client over HTTP: POSTs, legacy sessions, redirects, streams that are resumed, and what a status means
(specification: basic/transports).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from urllib.parse import SplitResult, urljoin, urlsplit

from msgspec import UNSET

from portway.auth.challenge import read_challenge
from portway.auth.tokens import is_sendable
from portway.client.channel import (
    MESSAGE_BYTES,
    Handler,
    Incoming,
    OutgoingCall,
    decode_incoming,
    is_reply,
    raise_error,
    read_reply,
)
from portway.client.errors import ClientError, Refused, SessionLost, tls_problem
from portway.http.event_stream import EventParser
from portway.http.http_client import BrokenResponse, HttpClient, Response, UpstreamError
from portway.protocol.headers import SESSION, VERSION, request_headers
from portway.protocol.jsonrpc import UNREADABLE

_REDIRECTS = (307, 308)
_REDIRECTIONS = 3
_CLOSE_SECONDS = 2.0  # for the last messages and the DELETE
_SESSION_STREAM_SECONDS = 2.0  # wait for the head of the session's stream; some servers send it with the first event
_RETRY_SECONDS = 0.5  # before a stream is resumed, unless the server states a time
_RETRY_LEAST, _RETRY_MOST = 0.02, 3600.0  # bounds of a stated time
_MANAGEMENT = "/_portway/mcp"  # of a host: it takes users, and not the tokens of apps
_CHALLENGE = b"www-authenticate"
_WANTS_TLS = re.compile(rb"HTTP request (?:to an HTTPS server|was sent to HTTPS port)")  # of Go and Caddy; of nginx
_EVENTS = (b"accept", b"text/event-stream")
_WORDS_BYTES = 200  # of the body of a refusal
_FIRST = ("server/discover", "initialize")
_LINGER_SECONDS = 0.5  # wait for a stream to end after its reply, so that the connection can be reused


class _StreamPosition:
    """How far an event stream was read, and how long to wait before resuming it."""

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self.last_id = b""
        self.retry = _RETRY_SECONDS

    async def messages(self, response: Response) -> AsyncIterator[Incoming]:
        """Yield the messages of a stream. Raise ValueError for an event too large, UpstreamError for a cut."""
        parser = EventParser(self._longest)
        async for chunk in response.chunks():
            for event in parser.feed(chunk):
                self.last_id = event.id or self.last_id
                if event.retry is not None:
                    self.retry = min(max(_RETRY_LEAST, event.retry / 1000), _RETRY_MOST)
                if event.data:  # else it only carries an id to resume from
                    try:
                        yield decode_incoming(event.data)
                    except UNREADABLE:
                        pass  # other messages of the stream may be good


class HttpChannel:
    """Sends calls as POSTs to one URL. Keeps a legacy session, resumes its streams, and ends it with DELETE."""

    has_headers = True

    def __init__(
        self, url: str, token: str | None, headers: Mapping[str, str], handler: Handler, longest: int = MESSAGE_BYTES
    ) -> None:
        """Raise ValueError for a URL, a token or a header that cannot be sent. No message is longer than `longest`."""
        self._longest = longest
        given = {name.lower(): value for name, value in headers.items()}
        host = given.pop("host", None)
        self._follows = host is None  # who gives the name for another address is told of redirects
        self._client = HttpClient(url, host, by_proxy=True)
        self._target = "/mcp" if url.startswith("unix:") else _target(urlsplit(url))
        require_sendable(url, self._target, token)
        self._url = url
        self._given = [(name.encode(), value.encode()) for name, value in given.items()]
        self.token = token or ""
        self.renew_token: Callable[[], Awaitable[None]] | None = None
        """Renews the token when it expires: set where there is a login, whose refusals are raised as `Refused`."""
        self._handler = handler
        self._session: bytes | None = None
        self._version: str | None = None
        self._background: set[asyncio.Task[None]] = set()
        self._session_stream: asyncio.Task[None] | None = None
        self._streamed_session: bytes | None = None  # the session whose stream `_session_stream` reads

    @property
    def _always(self) -> list[tuple[bytes, bytes]]:
        return [(b"authorization", b"Bearer " + self.token.encode()), *self._given] if self.token else self._given

    async def request(self, call: OutgoingCall) -> Incoming:
        """POST a request and return its reply, which comes as JSON or in an event stream."""
        session = self._session
        if call.modern and call.version:
            extra = [*request_headers(call.method, call.name, call.version), *call.headers]
        else:
            self._version = call.version
            extra = self._legacy_headers(call.version)
        response: Response | None = None
        try:
            response = await self._post(call.body, extra)
            if response.status != 200:
                await self._refused(response, call, session)
            if call.method == "initialize":
                self._session = response.header(SESSION) or None
            if _is_stream(response):
                return await self._from_stream(response, call)
            return read_reply(await response.read(self._longest), call)
        except UpstreamError as error:
            text = tls_problem(self._url, error) or f"{self._url}: {error}"
            if response is None and isinstance(error, BrokenResponse) and call.method in _FIRST:
                text += self._perhaps_https()
            raise ClientError(text) from error
        except asyncio.CancelledError:
            # Closing the connection cancels a modern call; a legacy server must be told.
            if not call.modern and call.method != "initialize":
                self._run(self._notify_quietly(call.cancellation()))
            raise

    def _perhaps_https(self) -> str:
        """Return the mend for a server that gives plain HTTP no answer."""
        rest = self._url.removeprefix("http://")
        return "" if rest == self._url else f"; if the server speaks HTTPS only, give https://{rest}"

    async def notify(self, body: bytes, version: str | None) -> None:
        """POST a legacy notification, or the answer to a request of the server."""
        try:
            response = await self._post(body, self._legacy_headers(version))
            await response.read(self._longest)
        except UpstreamError as error:
            raise ClientError(tls_problem(self._url, error) or f"{self._url}: {error}") from error

    async def open_session_stream(self, version: str | None) -> None:
        """Open the session's own stream (GET), if the server has sessions and offers one."""
        if self._session is None or self._session == self._streamed_session:
            return
        self._streamed_session = self._session
        opened = asyncio.Event()
        self._session_stream = asyncio.get_running_loop().create_task(self._read_session_stream(opened))
        self._session_stream.add_done_callback(lambda _: opened.set())
        try:
            async with asyncio.timeout(_SESSION_STREAM_SECONDS):
                await opened.wait()
        except TimeoutError:
            pass

    async def close(self) -> None:
        """Send what is still to be sent, then end the session. Ignore a server that is gone or silent."""
        if self._session_stream is not None:
            self._session_stream.cancel()
            await asyncio.gather(self._session_stream, return_exceptions=True)
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await asyncio.gather(*self._background, return_exceptions=True)
                if self._session is not None:
                    headers = self._always + self._legacy_headers(self._version)
                    await (await self._client.request("DELETE", self._target, headers)).read(self._longest)
        except (TimeoutError, UpstreamError):
            pass
        finally:
            await self._client.close()

    async def _post(self, body: bytes, extra: list[tuple[bytes, bytes]]) -> Response:
        headers = [
            *self._always,
            (b"content-type", b"application/json"),
            (b"accept", b"application/json, text/event-stream"),
            *extra,
        ]
        for _ in range(_REDIRECTIONS):
            response = await self._client.request("POST", self._target, headers, body)
            location = response.header(b"location")
            if response.status not in _REDIRECTS or not location:
                return response
            await response.close()
            self._follow(location.decode("latin-1"), response.status)
        raise ClientError(f"{self._url} redirects too often")

    def _follow(self, location: str, status: int) -> None:
        """Follow a redirect to another path. Raise ClientError for another host or scheme: it would get the token."""
        here = f"{'https' if self._client.is_tls else 'http'}://{self._client.authority}"
        try:
            parts = urlsplit(urljoin(f"{here}{self._target}", location))
        except ValueError:
            parts = None
        is_here = parts is not None and f"{parts.scheme}://{parts.netloc}" == here and is_sendable(location)
        if parts is None or not is_here or not self._follows:
            raise ClientError(f"{self._url} redirects to {location[:100]}: give that address instead", status)
        self._target = _target(parts)

    def _legacy_headers(self, version: str | None) -> list[tuple[bytes, bytes]]:
        headers = [(VERSION, version.encode())] if version else []
        if self._session is not None:
            headers.append((SESSION, self._session))
        return headers

    async def _read_session_stream(self, opened: asyncio.Event) -> None:
        """Read the session's own stream, and reopen it whenever it ends."""
        position = _StreamPosition(self._longest)
        while True:
            try:
                if self.renew_token is not None:
                    await self.renew_token()
                response = await self._get(position)
                if not _is_stream(response):
                    await response.read(self._longest)
                    return
                opened.set()
                async for message in position.messages(response):
                    self._handler(message)
            except (UpstreamError, ValueError, ClientError):
                pass
            await asyncio.sleep(position.retry)

    async def _get(self, position: _StreamPosition) -> Response:
        """Request the session's own stream, or the rest of the stream that was read up to `position`."""
        headers = [*self._always, _EVENTS, *self._legacy_headers(self._version)]
        if position.last_id:
            headers.append((b"last-event-id", position.last_id))
        return await self._client.request("GET", self._target, headers)

    async def _from_stream(self, response: Response, call: OutgoingCall) -> Incoming:
        """Return the reply from a call's stream. A legacy stream is resumed when it breaks (Last-Event-ID)."""
        position = _StreamPosition(self._longest)
        while True:
            try:
                async for message in position.messages(response):
                    if is_reply(message, call):
                        self._run(_drain(response))
                        return message
                    self._handler(message)
            except ValueError as error:
                await response.close()
                raise ClientError(f"the server's answer to {call.method}: {error}") from None
            except UpstreamError:
                if call.modern or not position.last_id:
                    raise
            if not call.modern and position.last_id:
                await asyncio.sleep(position.retry)
                response = await self._get(position)
                if _is_stream(response):
                    continue
                await response.read(self._longest)
            raise ClientError(f"the server closed the stream before it answered {call.method}")

    async def _notify_quietly(self, body: bytes) -> None:
        try:
            await self.notify(body, self._version)
        except ClientError:
            pass  # the next call reports what is wrong with the connection

    def _run(self, work: Coroutine[None, None, None]) -> None:
        """Start a background task; `close` waits for it."""
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _refused(self, response: Response, call: OutgoingCall, session: bytes | None) -> None:
        """Raise the error that a status other than 200 stands for."""
        body = await response.read(self._longest)
        status = response.status
        if status == 404 and session is not None and call.method != "initialize":
            if self._session == session:
                self._session = None
                if self._session_stream is not None:
                    self._session_stream.cancel()
            raise SessionLost(f"{self._url} has ended the session", status)
        challenges = ", ".join(value.decode("latin-1") for name, value in response.headers if name == _CHALLENGE)
        challenge = read_challenge(challenges)
        if status == 401:
            held = "refuses the token it was given" if self.token else "asks for a token"
            made = "one for this app"
            if self._target == _MANAGEMENT:
                made = "one for a user by `portway user add`"
            mend = f"create {made} and pass it (token=, --token or PORTWAY_TOKEN)"
            if challenge is not None and challenge.resource_metadata:
                mend += f", or log in by `portway login {self._url}`"
            raise Refused(f"{self._url} {held}; {mend}", 401, challenges)
        if status == 403 and self.renew_token is not None and challenge is not None and challenge.asks_for_scopes:
            raise Refused(f"{self._url} asks for the scopes {challenge.scope}", 403, challenges)
        try:
            message = decode_incoming(body)
        except UNREADABLE:
            message = Incoming()
        if message.error is not UNSET:
            raise_error(message.error, status)
        if status == 400 and _WANTS_TLS.search(body):
            raise ClientError(f"{self._url} speaks HTTPS only: give its https:// address", status)
        raise ClientError(f"{self._url} answered {call.method} with HTTP status {_refusal(response, body)}", status)


def _refusal(response: Response, body: bytes) -> str:
    """Return the status of a response, with the beginning of a body that is no web page."""
    is_page = response.header(b"content-type").startswith(b"text/html")
    text = "" if is_page else body[:_WORDS_BYTES].decode(errors="replace")
    words = "".join(letter if letter.isprintable() else " " for letter in text).strip()
    return f"{response.status}: {words}" if words else str(response.status)


def _is_stream(response: Response) -> bool:
    return response.status == 200 and response.header(b"content-type").startswith(_EVENTS[1])


def _target(url: SplitResult) -> str:
    return (url.path or "/") + (f"?{url.query}" if url.query else "")


def require_sendable(url: str, target: str, token: str | None) -> None:
    """Raise ValueError for a URL, with its path and query as `target`, or a token that HTTP cannot send."""
    if not is_sendable(target):
        raise ValueError(f"{url!r} is not a usable URL: percent-encode spaces and non-ASCII characters")
    if token and not is_sendable(token):
        raise ValueError(
            "the token has a space, a line break or a non-ASCII character: pass it exactly as it was shown"
        )


async def _drain(response: Response) -> None:
    """Read a stream to its end after the reply, so that its connection can carry the next call."""
    try:
        async with asyncio.timeout(_LINGER_SECONDS):
            async for _ in response.chunks():
                pass
    except (TimeoutError, UpstreamError):
        await response.close()
