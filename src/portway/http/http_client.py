"""A small HTTP/1.1 client: one `HttpClient` per peer, with pooled connections, uploads and streamed responses.

The peer is not trusted: llhttp parses strictly (RFC 9112), everything but the body is bounded, and a connection that
sent anything unexpected is not used again.
"""

import asyncio
import os
import re
import select
import socket
import sys
from collections import deque
from collections.abc import AsyncIterator, Sequence
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Self, cast
from urllib.parse import unquote, urlsplit

import httptools

from portway.http.localhost import name_to_look_up
from portway.http.namespace_dial import dial

if TYPE_CHECKING:
    import ssl

Headers = Sequence[tuple[bytes, bytes]]

_ERRNO = re.compile(r"\[Errno (\d+)\]")
_IDLE_CONNECTIONS = 64  # kept for the next requests
IDLE_SECONDS = 3.0  # an idle connection is reused within this time, or what the peer states if that is less
_CONNECT_SECONDS = 5.0
_HEAD_BYTES = 65_536  # of a response: everything but its body
_LF, _CR, _NUL = b"\n\r\0"  # numbers: looking for bytes in bytes is five times as slow
_OF_CONNECTION = frozenset((b"content-length", b"transfer-encoding", b"keep-alive"))
_BUFFERED = 65_536  # bytes of body that may wait for the reader before the peer is paused


class UpstreamError(Exception):
    """The peer gave no usable response."""


class ConnectFailed(UpstreamError):
    """No connection was made and nothing was sent: trying again is safe."""


class BrokenResponse(UpstreamError):
    """The connection ended or the response is malformed. The request was sent, and may have taken effect."""


class Response:
    """A response. `headers` have lower-case names; the body is read once, by `read` or by `chunks`."""

    __slots__ = ("_chunks", "_connection", "_error", "_waiter", "complete", "headers", "pending", "status")

    def __init__(self, connection: "_Connection") -> None:
        self.status = 0  # until the head has arrived
        self.headers: list[tuple[bytes, bytes]] = []
        self.complete = False  # the whole body has arrived; some may not be read yet
        self.pending = 0  # bytes of body that have arrived and are not read
        self._connection = connection
        self._chunks: list[bytes] = []
        self._error: UpstreamError | None = None
        self._waiter: asyncio.Future[None] | None = None

    def header(self, name: bytes) -> bytes:
        """Return the (last) value of a header, empty if it is absent."""
        return dict(self.headers).get(name, b"")

    async def read(self, limit: int) -> bytes:
        """Return the whole body. Raise BrokenResponse if it is cut, or longer than `limit` bytes."""
        while not self.complete and self.pending <= limit:
            await self.more()
        if self.pending > limit:
            await self.close()
            raise BrokenResponse(f"the reply is longer than {limit} bytes")
        return self.take()

    async def peek(self, limit: int) -> bytes:
        """Return the whole body as `read` does, and keep it for the reader."""
        body = await self.read(limit)
        self.arrived(body)
        return body

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it arrives. Raise BrokenResponse at the point where it is cut."""
        while self._chunks or not self.complete:
            if self._chunks:
                yield self.take()
            else:
                await self.more()

    async def close(self) -> None:
        """Give up a response that is not complete, by closing its connection."""
        if not self.complete:
            self._connection.fail("the request was given up")

    def take(self) -> bytes:
        """Return what has arrived of the body and is not read."""
        chunks, self._chunks, self.pending = self._chunks, [], 0
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def more(self) -> None:
        """Wait until more has arrived. Raise if nothing more will, and close when cancelled."""
        try:
            await self.news()
        except asyncio.CancelledError:
            await self.close()
            raise

    def news(self) -> "asyncio.Future[None]":
        """Return a future that is done when more has arrived. Raise if nothing more will."""
        if self._error is not None:
            raise self._error
        if self._connection.paused:
            self._connection.resume()
        self._waiter = waiter = self._connection.loop.create_future()
        return waiter

    def arrived(self, body: bytes) -> None:
        self._chunks.append(body)
        self.pending += len(body)

    def wake(self, error: UpstreamError | None = None) -> None:
        self._error = error
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


class Upload:
    """A request whose body is sent piece by piece, chunked; its response may come before the body has ended."""

    def __init__(self, connection: "_Connection", response: Response) -> None:
        self.response = response
        self.may_write = asyncio.Event()
        self.may_write.set()
        self._connection = connection

    async def write(self, data: bytes) -> None:
        """Send a piece that is not empty; wait while the peer does not read. What a lost peer does not get is lost."""
        self._connection.write(b"%x\r\n%b\r\n" % (len(data), data))
        await self.may_write.wait()

    def end(self) -> None:
        """Send the end of the body."""
        self._connection.write(b"0\r\n\r\n")

    async def head(self) -> Response:
        """Return the response once its head has arrived."""
        while not self.response.status:
            await self.response.more()
        return self.response


class _Connection(asyncio.Protocol):
    """One connection, idle or with one request and its response."""

    upload: Upload | None = None  # the request, when its body is sent in pieces: the connection is not used again

    def __init__(self, client: "HttpClient") -> None:
        self.keep_until = 0.0  # loop time until which it may be reused; while active, the seconds it may then idle
        self.silent = False  # it was lost before any byte of the response
        self.reset = False  # it was reset, so the peer has not read the request
        self.loop = asyncio.get_running_loop()
        self._client = client
        self._parser = httptools.HttpResponseParser(self)
        self._response: Response | None = None
        self._headers: list[tuple[bytes, bytes]] = []
        self.paused = False  # the reader is behind
        self._ended = self._until_eof = self._head_only = False
        self._overhead = 0  # bytes that are not body since the last body: head, chunk sizes, trailers

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._client.open.add(self)
        if sys.platform != "win32":
            self._poll = select.poll()
            self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)

    def stale(self) -> bool:
        """Return whether not to reuse an idle connection: it is too old, closed, or has unexpected data to read."""
        if self._ended or self.loop.time() > self.keep_until:
            return True
        return sys.platform != "win32" and not self._client.is_tls and bool(self._poll.poll(0))

    def send(self, head: bytes, body: bytes, *, head_only: bool) -> Response:
        self._response = response = Response(self)
        self._headers = response.headers
        self._head_only, self._overhead = head_only, 0
        self._transport.write(head + body)
        return response

    def write(self, data: bytes) -> None:
        if not self._ended:
            self._transport.write(data)

    def pause_writing(self) -> None:
        if self.upload is not None:
            self.upload.may_write.clear()

    def resume_writing(self) -> None:
        if self.upload is not None:
            self.upload.may_write.set()

    def resume(self) -> None:
        self.paused = False
        self._transport.resume_reading()

    def fail(self, reason: str) -> None:
        """Close the connection at once. `reason` becomes the error of the response."""
        self._ended = True
        self._transport.abort()
        self.resume_writing()
        response, self._response = self._response, None
        if response is not None:
            response.wake(BrokenResponse(reason))

    def connection_lost(self, exc: Exception | None) -> None:
        response = self._response
        if response is not None and response.status and self._until_eof and exc is None:
            self._complete(reusable=False)
        elif response is not None:
            self.silent, self.reset = not self._overhead and not response.status, exc is not None
            self.fail(f"the connection ended before the reply {'was whole' if response.status else 'came'}")
        self._ended = True
        self._client.open.discard(self)
        del self._parser  # breaks a reference cycle

    def data_received(self, data: bytes) -> None:
        response = self._response
        if response is None:
            return self.fail("the peer spoke out of turn")
        self._overhead += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            return self.fail(f"the reply is not valid HTTP: {error.__context__ or error}")
        if self._overhead > _HEAD_BYTES:
            return self.fail("the head of the reply is too large")
        if response.status and not response.complete:
            response.wake()
        return None

    # What the parser calls. An exception raised here becomes the context of the one that feed_data raises.

    def on_message_begin(self) -> None:
        if self._response is None:
            raise ValueError("there is more than one")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        response, status = self._response, self._parser.get_status_code()
        if response is None or status < 100 or status == 101:
            raise ValueError(f"status {status} was not asked for")
        if status < 200:
            return response.headers.clear()  # an interim response
        framed, keep = status in (204, 304), IDLE_SECONDS
        for name, value in response.headers:
            if name not in _OF_CONNECTION:
                continue
            if name == b"content-length":
                framed = True
            elif name == b"transfer-encoding":
                framed = True
                if value.lower() != b"chunked":
                    raise ValueError("its transfer coding is unknown")
            else:
                stated = value.lower().partition(b"timeout=")[2].partition(b",")[0].strip()
                keep = min(keep, int(stated) - 1) if stated.isdigit() else keep
        # A part of the body may be counted in `_overhead`.
        if self._overhead > _HEAD_BYTES and sum(map(len, chain(*response.headers))) > _HEAD_BYTES:
            raise ValueError("its head is too large")
        self._overhead, self._until_eof, self.keep_until = 0, not framed, keep
        response.status = status
        self._headers = []  # for trailers, which are dropped
        if self._head_only:  # the parser would wait for the body that a GET would get
            self._complete(reusable=False)
        return None

    def on_body(self, body: bytes) -> None:
        self._overhead, response = 0, self._response
        if response is not None:
            response.arrived(body)
            if response.pending > _BUFFERED and not self.paused:
                self.paused = True
                self._transport.pause_reading()

    def on_message_complete(self) -> None:
        if self._response is not None and self._response.status:
            self._overhead = 0
            # If the response overtook the request, the state of the connection is unknown.
            self._complete(reusable=self._parser.should_keep_alive() and not self._transport.get_write_buffer_size())

    def _complete(self, *, reusable: bool) -> None:
        response, self._response = self._response, None
        if response is not None:
            response.complete = True
            response.wake()
        if reusable and not self._client.closed and self.upload is None:
            if self.paused:
                self.resume()
            self._client.release(self)
        else:
            self._ended = True
            self.resume_writing()
            self._transport.close()


async def _connected(path: str) -> socket.socket:
    """Return a connection to the Unix socket at `path`. Raises OSError.

    On Linux, a link there is not followed: who owns the socket could put one in its place that leads to another's.
    """
    if sys.platform == "win32":
        raise OSError
    connected, place = socket.socket(socket.AF_UNIX), -1
    try:
        connected.setblocking(False)
        if sys.platform == "linux":
            place = os.open(path, os.O_PATH | os.O_NOFOLLOW)
            path = f"/proc/self/fd/{place}"
        await asyncio.get_running_loop().sock_connect(connected, path)
    except BaseException:
        connected.close()
        raise
    finally:
        if place >= 0:
            os.close(place)
    return connected


def _reason(error: OSError) -> str:
    """Return the system's text of an error, which asyncio may have wrapped (one per address of a name)."""
    found = _ERRNO.search(str(error))
    return os.strerror(int(found[1])) if found else error.strerror or str(error) or "no answer"


@lru_cache(maxsize=1)
def _tls_context() -> "ssl.SSLContext":
    """Return the context of all connections; reading the authorities' certificates takes longer than a request."""
    import ssl

    return ssl.create_default_context()


class HttpClient:
    """Sends requests to one peer, over pooled connections. The end of `async with` closes all of them at once.

    `address` is `http://host[:port]`, `https://host[:port]`, `unix:/path`, or `dial://socket:port`: a port in another
    network namespace, whose sockets are handed out at a percent-encoded path. What follows host and port is ignored.
    Raises ValueError for anything else. `named` is the Host header, when it is not the address's own; `connects_to`
    the IP address of the host, which is looked up when it is not given. With `by_proxy`, an https address is reached
    through the proxy that the environment names (`tunnel.py`).
    """

    def __init__(
        self, address: str, named: str | None = None, connects_to: str | None = None, *, by_proxy: bool = False
    ) -> None:
        self.closed = False
        self.open: set[_Connection] = set()
        self._by_proxy = by_proxy
        self._idle: deque[_Connection] = deque(maxlen=_IDLE_CONNECTIONS)
        self._path = address.removeprefix("unix:") if address.startswith("unix:/") else ""  # of a Unix socket
        self._dialed = ""  # the path of the socket that hands out connections into another network namespace
        url = "http://localhost" if self._path else address
        if address.startswith("dial://"):
            quoted, _, digits = urlsplit(address).netloc.rpartition(":")
            self._dialed, url = unquote(quoted), f"http://127.0.0.1:{digits}"
        wrong = ValueError(f"{address!r} is not an address: write http://host:port, https://host:port or unix:/path")
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:  # an open bracket, an invalid port
            raise wrong from None
        if not host or parts.scheme not in ("http", "https") or parts.username is not None or not url.isascii():
            raise wrong
        self.is_tls = parts.scheme == "https"
        usual = 443 if self.is_tls else 80
        self._host, self._port, self._connects_to = host, port or usual, connects_to
        self.authority = f"[{host}]" if ":" in host else host
        self._tunneled = f"{self.authority}:{self._port}"  # as a proxy is told
        if self._port != usual:
            self.authority += f":{self._port}"
        self._host_header = f"host: {named or self.authority}".encode("ascii")

    async def request(
        self, method: str, target: str, headers: Headers = (), body: bytes = b"", *, repeatable: bool = False
    ) -> Response:
        """Send a request; return when the head of the response has arrived.

        Host, content-length and connection headers are added here. If the peer was closing the pooled connection, the
        request is sent again when the peer cannot have read it, or when it is `repeatable`. Raise ConnectFailed if
        nothing was sent, BrokenResponse if it was, ValueError for a line break in the target or a header.
        """
        head = self._head(method, target, headers, body)
        pooled = self._pooled()
        while True:
            connection = pooled or await self._connect()
            response = connection.send(head, body, head_only=method == "HEAD")
            try:
                while not response.status:
                    await response.news()  # not `more`: one coroutine fewer on every call
                return response
            except asyncio.CancelledError:
                await response.close()
                raise
            except BrokenResponse:
                if not pooled or not connection.silent or not (connection.reset or repeatable):
                    raise
                pooled = None

    async def upload(self, method: str, target: str, headers: Headers) -> Upload:
        """Send the head of a request whose body follows; raise what `request` raises."""
        head = self._head(method, target, [*headers, (b"transfer-encoding", b"chunked")], None)
        connection = await self._connect()
        connection.upload = upload = Upload(connection, connection.send(head, b"", head_only=method == "HEAD"))
        return upload

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.closed = True
        for connection in list(self.open):
            connection.fail("the client was closed")

    async def close(self) -> None:
        """Close the idle connections now, and those in use after their responses."""
        self.closed = True
        while self._idle:
            self._idle.popleft().fail("the client was closed")

    def _head(self, method: str, target: str, headers: Headers, body: bytes | None) -> bytes:
        lines = [f"{method} {target} HTTP/1.1".encode("ascii"), self._host_header, *map(b": ".join, headers)]
        if body or (body is not None and method in ("POST", "PUT", "PATCH")):
            lines.append(b"content-length: %d" % len(body))
        text = b"".join(lines)
        if _LF in text or _CR in text or _NUL in text or " " in target:
            raise ValueError("the target or a header holds a line break, a NUL or a space where HTTP has none")
        lines.append(b"\r\n")
        return b"\r\n".join(lines)

    def _pooled(self) -> _Connection | None:
        while self._idle:
            connection = self._idle.pop()  # the most recent is most likely alive
            if not connection.stale():
                return connection
            connection.fail("it was idle for too long")
        return None

    async def _connect(self) -> _Connection:
        connection = _Connection(self)
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                await self._make(connection)
        except BaseException as error:
            self.open.discard(connection)  # uvloop tells a connection of no end before it has handed it out
            if isinstance(error, OSError | TimeoutError):
                text = f"cannot connect to {self._path or self.authority}: {_reason(error)}"
                raise ConnectFailed(text) from error
            raise
        return connection

    async def _make(self, connection: _Connection) -> None:
        """Connect to the peer, by the way that leads there. Raises OSError."""
        loop = asyncio.get_running_loop()
        tls, name = (_tls_context(), self._host) if self.is_tls else (None, None)
        if self._path:
            await loop.create_unix_connection(lambda: connection, sock=await _connected(self._path))
            return
        through = await dial(self._dialed, self._port) if self._dialed else None
        if self._by_proxy and self.is_tls:
            through = await self._through_proxy()
        if through is not None:
            await loop.create_connection(lambda: connection, sock=through, ssl=tls, server_hostname=name)
            return
        host = self._connects_to or name_to_look_up(self._host)
        await loop.create_connection(lambda: connection, host, self._port, ssl=tls, server_hostname=name)

    async def _through_proxy(self) -> socket.socket | None:
        """Return a connection that a proxy has made; None where the environment names none. Raises OSError."""
        from portway.http.tunnel import proxy_to, tunnel

        proxy = proxy_to(self._host)
        return None if proxy is None else await tunnel(proxy, self._tunneled)

    def release(self, connection: _Connection) -> None:
        """Keep a connection for the next request."""
        now = connection.loop.time()
        connection.keep_until += now
        if len(self._idle) == self._idle.maxlen or (self._idle and self._idle[0].keep_until < now):
            self._idle.popleft().fail("it was idle for too long")
        self._idle.append(connection)
