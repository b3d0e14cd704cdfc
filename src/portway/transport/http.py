"""MCP over HTTP: one endpoint for both eras, as an ASGI application.

Specification: basic/transports, 2025-11-25 (Streamable HTTP) and 2026-07-28. Legacy clients get no session.
"""

import asyncio
import os
from collections.abc import Mapping

import msgspec
from msgspec import UNSET

from portway.auth.principal import ANONYMOUS, Principal
from portway.auth.relay import HEADER as CALLER
from portway.auth.relay import relayed
from portway.auth.tokens import NamedTokens, TokenVerifier, bearer
from portway.http.asgi import Headers, Receive, Scope, Send
from portway.http.body import BodyTooLarge, ClientDisconnected, read_body
from portway.http.guard import Guard
from portway.http.limits import Limits
from portway.http.reply import EventStream, send_bytes
from portway.protocol.era import classify
from portway.protocol.errors import HEADER_MISMATCH, INVALID_REQUEST, REFUSED, RpcError
from portway.protocol.headers import ROUTING, VERSION, verify
from portway.protocol.jsonrpc import Message, UnreadableMessage, decode, encode_error
from portway.protocol.versions import LATEST_MODERN, Era
from portway.server.context import Exchange
from portway.server.dispatch import Dispatcher
from portway.server.server import Server

PATH, HEALTH = "/mcp", "/health"
KEEP_ALIVE = 15.0
"""Seconds a call may stay silent before its reply becomes an event stream that is kept alive."""

WATCH_AFTER = 0.005
"""Seconds before anybody looks whether the client is still there: most threads are done by then."""

_BATCH_VERSION = "2025-03-26"
_BATCH_LIMIT = 100
_JSON: Headers = [(b"content-type", b"application/json")]
_CHALLENGE = (b"www-authenticate", b"Bearer")
_INVALID_TOKEN = (b"www-authenticate", b'Bearer error="invalid_token"')
_MEDIA: dict[bytes, tuple[bool, bool]] = {}


class App:
    """The ASGI application of one server.

    `verifier` None asks for no token. `behind_gate` believes the gate's word on who calls: only for a listener that
    nobody but the gate can reach.
    """

    def __init__(
        self,
        server: Server,
        *,
        verifier: TokenVerifier | None = None,
        guard: Guard | None = None,
        limits: Limits | None = None,
        behind_gate: bool = False,
    ) -> None:
        self._dispatcher = Dispatcher(server)
        self._verifier = verifier
        self._guard = guard or Guard()
        self._body_limit = (limits or Limits()).body_bytes
        self._behind_gate = behind_gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one ASGI connection scope."""
        if scope["type"] != "http":
            await self._not_http(scope, receive, send)
            return
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if path == HEALTH:
            await send_bytes(send, 200, b"ok\n", [(b"content-type", b"text/plain")])
            return
        refusal = self._guard.check(scope)
        if refusal is not None:
            await _refuse(send, refusal.status, refusal.message)
            return
        if path.rstrip("/") != PATH:
            await _refuse(send, 404, f"There is nothing at this path; the MCP endpoint is {PATH}.")
            return
        headers: Headers = scope["headers"]
        fields = dict(headers)
        principal = await self._authenticate(fields)
        if principal is None:
            challenge = _CHALLENGE if bearer(fields.get(b"authorization")) is None else _INVALID_TOKEN  # RFC 6750 §3.1
            await _refuse(send, 401, "This server needs a valid bearer token in the Authorization header.", challenge)
            return
        if scope["method"] != "POST":
            await _refuse(
                send, 405, "The MCP endpoint takes POST only: this server keeps no sessions.", (b"allow", b"POST")
            )
            return
        accepts_json, accepts_events = _accepted(fields.get(b"accept", b"*/*"))
        if not (accepts_json or accepts_events):
            await _refuse(send, 406, "The Accept header must allow application/json or text/event-stream.")
            return
        if fields.get(b"content-type", b"").split(b";", 1)[0].strip().lower() != b"application/json":
            await _refuse(send, 415, "The Content-Type header must be application/json.")
            return
        if fields.get(b"content-encoding", b"identity") != b"identity":
            await _refuse(send, 415, "The body must be sent as it is, without a Content-Encoding.")
            return
        try:
            body = await read_body(scope, receive, self._body_limit)
        except BodyTooLarge:
            await _refuse(send, 413, f"The body is larger than the {self._body_limit} bytes this server takes.")
        except ClientDisconnected:
            return
        else:
            reply = _Reply(receive, send, accepts_json, accepts_events)
            await self._answer(body, headers, fields, principal, reply)

    async def _authenticate(self, fields: Mapping[bytes, bytes]) -> Principal | None:
        if self._behind_gate:
            return relayed(fields.get(CALLER)) or ANONYMOUS
        if self._verifier is None:
            return ANONYMOUS
        token = bearer(fields.get(b"authorization"))
        return None if token is None else await self._verifier.verify(token)

    async def _answer(
        self, body: bytes, headers: Headers, fields: Mapping[bytes, bytes], principal: Principal, reply: "_Reply"
    ) -> None:
        version_field = fields.get(VERSION)
        version = None if version_field is None else version_field.decode("latin-1").strip(" \t")
        try:
            message = decode(body)
        except UnreadableMessage as error:
            if body.lstrip()[:1] == b"[" and version in (None, _BATCH_VERSION):
                await self._answer_batch(body, principal, reply)
            else:
                await reply.finish(error.status_under(version_field), encode_error(error.request_id, error))
            return
        era = classify(message, version)
        if message.method is UNSET or message.id is UNSET:
            await self._take(message, era, reply)
            return
        try:
            if len(fields) != len(headers):
                _refuse_duplicates(headers)
            if era is Era.MODERN:
                verify(message, fields)
            exchange = Exchange(message, era, principal, reply)
            await reply.run(self._dispatcher, exchange)
        except RpcError as error:
            await reply.fail(message, era, error)

    async def _take(self, message: Message, era: Era, reply: "_Reply") -> None:
        """Accept a notification or a client's response: neither has a reply."""
        if message.method is UNSET and era is Era.MODERN:
            error = RpcError(INVALID_REQUEST, f"A client sends no responses in {LATEST_MODERN}.")
            await reply.finish(400, encode_error(None, error))
        else:
            await reply.accept()

    async def _answer_batch(self, body: bytes, principal: Principal, reply: "_Reply") -> None:
        """Answer a batch, which 2025-03-26 obliges a server to receive; its requests are answered in order."""
        try:
            parts = msgspec.json.decode(body, type=list[msgspec.Raw])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            parts = []
        if not 0 < len(parts) <= _BATCH_LIMIT:
            error = RpcError(INVALID_REQUEST, f"A batch must be a JSON array of 1 to {_BATCH_LIMIT} messages.")
            await reply.finish(400, encode_error(None, error))
            return
        replies: list[bytes] = []
        for part in parts:
            try:
                message = decode(bytes(part))
            except UnreadableMessage as unreadable:
                replies.append(encode_error(unreadable.request_id, unreadable))
                continue
            if message.method is UNSET or message.id is UNSET:
                continue
            if message.method == "initialize":
                error = RpcError(INVALID_REQUEST, "initialize must not be part of a batch.")
                replies.append(encode_error(message.id, error))
                continue
            try:
                exchange = Exchange(message, Era.LEGACY, principal, reply)
                replies.append(await self._dispatcher.dispatch(exchange))
            except RpcError as fault:
                replies.append(encode_error(message.id, fault))
        await reply.finish(200, b"[%b]" % b",".join(replies)) if replies else await reply.accept()

    async def _not_http(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await send({"type": "websocket.close", "code": 1000})
            return
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        self._dispatcher.close()
        await send({"type": "lifespan.shutdown.complete"})


class _Reply:
    """The reply to one POST: JSON, or an event stream from the first thing said before the result.

    A handler that completes without waiting costs no task and no timer. One that waits is given a timer, which soon
    starts, in the modern era, a task that watches for the client to leave, which there means cancel (2026-07-28,
    basic/patterns/cancellation), and later opens the stream, to keep proxies from cutting the connection.
    """

    __slots__ = (
        "_accepts_events",
        "_accepts_json",
        "_finished",
        "_gone",
        "_opening",
        "_receive",
        "_send",
        "_stream",
        "_timer",
        "_watcher",
    )

    def __init__(self, receive: Receive, send: Send, accepts_json: bool, accepts_events: bool) -> None:
        self._receive = receive
        self._send = send
        self._accepts_json = accepts_json
        self._accepts_events = accepts_events
        self._finished = False
        self._gone = False
        self._opening: asyncio.Task[None] | None = None
        self._stream: EventStream | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._watcher: asyncio.Task[None] | None = None

    async def run(self, dispatcher: Dispatcher, exchange: Exchange) -> None:
        """Have a request answered and send the answer; raises RpcError as dispatch does."""
        loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        assert task is not None
        waiting = loop.call_soon(self._start_waiting, loop, task, exchange.era)
        try:
            body = await dispatcher.dispatch(exchange)
        except asyncio.CancelledError:
            if not self._gone:
                raise
            task.uncancel()
            return
        finally:
            waiting.cancel()
            if self._timer is not None:
                self._timer.cancel()
            if self._watcher is not None:
                self._watcher.cancel()
        await self.finish(200, body)

    def _start_waiting(self, loop: asyncio.AbstractEventLoop, task: "asyncio.Task[None]", era: Era) -> None:
        self._timer = loop.call_later(WATCH_AFTER, self._start_watching, loop, task, era)

    def _start_watching(self, loop: asyncio.AbstractEventLoop, task: "asyncio.Task[None]", era: Era) -> None:
        if self._accepts_events:
            self._timer = loop.call_later(KEEP_ALIVE, self._keep_alive)
        if era is Era.MODERN:
            self._watcher = loop.create_task(self._watch(task))

    def _keep_alive(self) -> None:
        self._opening = asyncio.get_running_loop().create_task(self._open().comment())

    async def _watch(self, task: "asyncio.Task[None]") -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._gone = True
        task.cancel()

    def _open(self) -> EventStream:
        if self._stream is None:
            self._stream = EventStream(self._send, keep_alive=KEEP_ALIVE)
        return self._stream

    async def notify(self, message: bytes) -> None:
        """Send a notification ahead of the result.

        One for a client that takes no event stream is left out, and so is one of a task that outlived its call.
        """
        if self._accepts_events and not self._finished:
            await self._open().event(message)

    async def accept(self) -> None:
        """Acknowledge what has no reply."""
        await send_bytes(self._send, 202, b"", [])

    async def finish(self, status: int, body: bytes, *extra: tuple[bytes, bytes]) -> None:
        """Send the last message and end the reply; `extra` are header fields of a reply that is no stream."""
        self._finished = True
        if self._stream is None and (self._accepts_json or status != 200):
            await send_bytes(self._send, status, body, [*_JSON, *extra] if extra else _JSON)
            return
        stream = self._open()
        await stream.event(body)
        await stream.close()

    async def fail(self, message: Message, era: Era, error: RpcError) -> None:
        """Send an error; legacy errors travel with status 200, but for a refused caller."""
        status = error.status if era is Era.MODERN or error.code in (REFUSED, HEADER_MISMATCH) else 200
        extra: tuple[tuple[bytes, bytes], ...] = ()
        if status == 403 and isinstance(error.data, dict):
            scope = " ".join(error.data["requiredScopes"])
            extra = ((b"www-authenticate", f'Bearer error="insufficient_scope", scope="{scope}"'.encode()),)
        await self.finish(status, encode_error(None if message.id is UNSET else message.id, error), *extra)


def app(server: Server) -> App:
    """The application of `server`, configured by the environment.

    PORTWAY_TOKENS asks for a bearer token, PORTWAY_ALLOWED_HOSTS and RENDER_EXTERNAL_HOSTNAME name it for the Host
    check, PORTWAY_SOCKET (set by a host) hands authentication to the gate. Raises TokenSyntaxError.
    """
    tokens = os.environ.get("PORTWAY_TOKENS", "")
    behind_gate = bool(os.environ.get("PORTWAY_SOCKET"))
    names = (os.environ.get("PORTWAY_ALLOWED_HOSTS", ""), os.environ.get("RENDER_EXTERNAL_HOSTNAME", ""))
    hosts = [name.strip() for name in ",".join(names).split(",") if name.strip()]
    verifier = NamedTokens(tokens) if tokens and not behind_gate else None
    return App(server, verifier=verifier, guard=Guard(hosts), behind_gate=behind_gate)


def _refuse_duplicates(headers: Headers) -> None:
    names = [name for name, _ in headers if name in ROUTING]
    if len(names) != len(set(names)):
        raise RpcError(HEADER_MISMATCH, "An MCP routing header is sent twice.")


def _accepted(accept: bytes) -> tuple[bool, bool]:
    """Whether an Accept header allows JSON and event streams; clients send few different ones, so they are kept."""
    known = _MEDIA.get(accept)
    if known is None:
        ranges = {part.split(b";", 1)[0].strip().lower() for part in accept.split(b",")}
        known = (
            not ranges.isdisjoint((b"*/*", b"application/*", b"application/json")),
            not ranges.isdisjoint((b"*/*", b"text/*", b"text/event-stream")),
        )
        if len(_MEDIA) < 64:
            _MEDIA[accept] = known
    return known


async def _refuse(send: Send, status: int, message: str, *extra: tuple[bytes, bytes]) -> None:
    body = encode_error(None, RpcError(REFUSED, message))
    await send_bytes(send, status, body, [*_JSON, *extra])
