"""MCP over HTTP, the ASGI application: paths, authentication, GET and DELETE of a session, checks of Accept,
Content-Type and the size of the body.

Specification: basic/transports, 2025-11-25 (Streamable HTTP) and 2026-07-28.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from portway.auth.caller_header import HEADER as CALLER
from portway.auth.caller_header import relayed
from portway.auth.challenge import Challenge
from portway.auth.principal import ANONYMOUS, Principal
from portway.auth.tokens import OAUTH_PATHS, TokenVerifier, VerifierUnavailable, bearer
from portway.http.asgi import LifespanError, Receive, Scope, Send
from portway.http.cors import Cors
from portway.http.host_and_origin import Guard
from portway.http.limits import Limits
from portway.http.request_body import BodyTooLarge, ClientDisconnected, read_body
from portway.http.response import JSON, send_bytes
from portway.oauth.resource_metadata import send_metadata
from portway.protocol.errors import REFUSED, RpcError
from portway.protocol.headers import VERSION, refuse_repeated
from portway.protocol.jsonrpc import encode_error
from portway.protocol.sealing import Keys
from portway.protocol.versions import LEGACY_VERSIONS
from portway.server.dispatcher import Dispatcher
from portway.server.server import BaseServer
from portway.sessions.http_sessions import Sessions
from portway.transport.concurrency_limits import Caller, LoopState
from portway.transport.http_post import Endpoint, Post
from portway.transport.http_reply import Reply
from portway.transport.listen_streams import follow

if TYPE_CHECKING:
    from portway.oauth.downstream import DownstreamTokens
    from portway.oauth.resource_server import ResourceServer
    from portway.oauth.settings import OAuth

PATH, HEALTH = "/mcp", "/health"

_NO_OAUTH = (
    "This server has no OAuth: it takes a bearer token in the Authorization header; ask its operator for one "
    "(PORTWAY_TOKENS)."
)
_NO_LOGIN = "This server has no OAuth and asks for no token: call it without one."
_MEDIA: dict[bytes, tuple[bool, bool]] = {}
_log = logging.getLogger("portway.transport")


class _Refusal(RpcError):
    """A request refused before it is read as a message, and the header fields that say more."""

    def __init__(self, status: int, message: str, *headers: tuple[bytes, bytes]) -> None:
        super().__init__(REFUSED, message, status=status)
        self.headers = headers


class HttpApp:
    """The ASGI application of one server.

    `verifier` None asks for no token; `oauth` has a verifier of its own. `behind_gate` takes the caller from the gate's
    header: only for a server that nobody but the gate can reach. `keys` seal what clients carry; without them this
    process makes its own. `downstream` obtains tokens for other services. With `sessions`, legacy clients get sessions
    also if no function of the server needs one. Without `watches_tokens`, the verifier itself ends the streams whose
    tokens are good no longer.
    """

    def __init__(
        self,
        server: BaseServer,
        *,
        verifier: TokenVerifier | None = None,
        guard: Guard | None = None,
        cors: Cors | None = None,
        limits: Limits | None = None,
        behind_gate: bool = False,
        keys: Keys | None = None,
        oauth: "ResourceServer | None" = None,
        downstream: "DownstreamTokens | None" = None,
        sessions: bool = False,
        watches_tokens: bool = True,
    ) -> None:
        keys = keys or Keys.random()
        self._server = server
        self._dispatcher = Dispatcher(server, keys, downstream, sessions=sessions)
        self._keeps_token = downstream is not None and downstream.needs_token
        self._sessions = Sessions(keys, lambda: self._loop_state().bus) if self._dispatcher.keeps_sessions else None
        self._endpoint = Endpoint(self._dispatcher, self._sessions)
        self._verifier = verifier = oauth.verifier if oauth else verifier
        self._stream_verifier = verifier if watches_tokens else None
        self._oauth = oauth
        self._challenges = [each.challenge for each in oauth.resources] if oauth else [Challenge()] * 2
        self._cors = cors or Cors()
        self._guard = guard or Guard(local_pages=verifier is not None)
        self._limits = limits or Limits()
        self._behind_gate = behind_gate
        self._by_loop: dict[asyncio.AbstractEventLoop, LoopState] = {}
        methods = ["POST"] if self._sessions is None else ["POST", "GET"] if keys.shared else ["POST", "GET", "DELETE"]
        self._methods = methods
        self._allow = (b"allow", ", ".join(methods).encode())

    @property
    def asks_for_tokens(self) -> bool:
        """Whether callers need a token, be it asked for here or by the gate."""
        return self._behind_gate or self._verifier is not None

    @property
    def keeps_sessions(self) -> bool:
        """Whether legacy clients are given sessions; then one process must serve them."""
        return self._sessions is not None

    @property
    def issuers(self) -> list[str]:
        """The identity providers at which callers log in."""
        return [each.issuer for each in self._oauth.providers] if self._oauth else []

    @contextlib.asynccontextmanager
    async def lifespan(self, _parent: object = None) -> AsyncIterator[None]:
        """Enter the server's lifespans, and leave them at the end. Meanwhile, look once at the identity providers.

        An application that mounts this one must run it: Starlette and FastAPI take it as `lifespan=`.
        """
        await self._step(self._dispatcher.open)
        look = asyncio.create_task(_look_at(self._oauth.providers)) if self._oauth else None
        try:
            yield
        finally:
            if look is not None:
                look.cancel()
                await asyncio.wait([look])
            await self._step(self._stop)

    def end_streams(self) -> None:
        """End the streams of the running event loop and the open questions, because the HTTP server stops."""
        self._loop_state().bus.close()
        if self._sessions is not None:
            self._sessions.give_up_questions()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one ASGI connection scope."""
        if scope["type"] != "http":
            await self._not_http(scope, receive, send)
            return
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if path == HEALTH:
            await send_bytes(send, 200, b"ok\n", [(b"content-type", b"text/plain")])
            return
        if self._oauth is not None and path in self._oauth.paths:
            await send_metadata(scope, send, self._oauth.resources[path.endswith("/")].metadata)
            return
        refusal = self._guard.check(scope)
        if refusal is not None:
            await _send_refusal(send, RpcError(REFUSED, refusal.message, status=refusal.status))
            return
        if self._cors:
            preflight = self._cors.preflight(scope)
            if preflight is not None:
                await send_bytes(send, 204, b"", preflight)
                return
            send = self._cors.sender(scope, send)
        try:
            await self._answer(path, scope, receive, send)
        except RpcError as error:
            await _send_refusal(send, error)

    async def _answer(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request. Raises RpcError for one that is refused before it is read as a message."""
        if path.rstrip("/") != PATH:
            text = f"There is nothing at this path; the MCP endpoint is {PATH}."
            if path.startswith(OAUTH_PATHS) and self._oauth is None:
                text = _NO_OAUTH if self._verifier is not None else _NO_LOGIN
            raise _Refusal(404, text)
        fields = dict(scope["headers"])
        if len(fields) != len(scope["headers"]):
            refuse_repeated(scope["headers"])
            # Join repeated Accept headers.
            accepted = [value for name, value in scope["headers"] if name == b"accept"]
            fields |= {b"accept": b",".join(accepted)} if accepted else {}
        challenge = self._challenges[path != PATH]
        principal = await self._authenticate(fields, challenge)
        if scope["method"] == "POST":
            await self._post(scope, receive, send, fields, principal, challenge)
        else:
            await self._session_itself(scope, receive, send, fields, principal)

    async def _authenticate(self, fields: Mapping[bytes, bytes], challenge: Challenge) -> Principal:
        """Return the caller. Raises RpcError (401, 400, 503)."""
        if self._behind_gate:
            return relayed(fields.get(CALLER)) or ANONYMOUS
        if self._verifier is None:
            return ANONYMOUS
        token = bearer(fields.get(b"authorization"))
        if self._oauth and token and (not token.isascii() or not token.isprintable() or " " in token):
            raise _Refusal(400, "The token in the Authorization header is malformed.", challenge.malformed())
        try:
            principal = None if token is None else await self._verifier.verify(token)
        except VerifierUnavailable as error:
            retry = (b"retry-after", str(error.retry_after).encode())
            raise _Refusal(503, "The identity provider does not answer; try again later.", retry) from None
        if principal is None:
            told = challenge.unauthorized(had_token=token is not None)
            raise _Refusal(401, "This server needs a valid bearer token in the Authorization header.", told)
        return principal

    async def _post(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        fields: dict[bytes, bytes],
        principal: Principal,
        challenge: Challenge,
    ) -> None:
        accepts_json, accepts_events = _accepted(fields.get(b"accept", b"*/*"))
        if not (accepts_json or accepts_events):
            raise _Refusal(406, "The Accept header must allow application/json or text/event-stream.")
        media_type = fields.get(b"content-type", b"")
        if media_type != b"application/json" and not _is_json(media_type):
            raise _Refusal(415, "The Content-Type header must be application/json.")
        if fields.get(b"content-encoding", b"identity") != b"identity":
            raise _Refusal(415, "The body must be sent as it is, without a Content-Encoding.")
        limit = self._limits.body_bytes
        try:
            body = await read_body(fields.get(b"content-length"), receive, limit)
        except BodyTooLarge:
            raise _Refusal(413, f"The body is larger than the {limit} bytes this server takes.") from None
        except ClientDisconnected:
            return
        token = None
        if b"authorization" in fields:
            token = bearer(fields[b"authorization"])
            if not self._keeps_token:
                del fields[b"authorization"]
        reply = Reply(receive, send, accepts_json, accepts_events, challenge)
        caller = _caller(principal, scope, fields if self._behind_gate else {})
        await self._endpoint.answer(Post(body, fields, principal, token, caller, reply, self._loop_state()))

    async def _session_itself(
        self, scope: Scope, receive: Receive, send: Send, fields: Mapping[bytes, bytes], principal: Principal
    ) -> None:
        """Serve a legacy session's stand-alone stream (GET), or end the session (DELETE)."""
        method, version = scope["method"], fields.get(VERSION)
        if self._sessions is None:
            raise _Refusal(405, "The MCP endpoint takes POST only: this server keeps no sessions.", self._allow)
        if version is not None and version.decode("latin-1").strip(" \t") not in LEGACY_VERSIONS:
            text = "The MCP endpoint takes POST only from clients of this MCP-Protocol-Version."
            raise _Refusal(405, text, (b"allow", b"POST"))
        if method not in self._methods:
            text = f"The MCP endpoint does not take {method}; the Allow header says what it takes."
            raise _Refusal(405, text, self._allow)
        if method == "GET" and not _accepted(fields.get(b"accept", b"*/*"))[1]:
            raise _Refusal(406, "The Accept header must allow text/event-stream.")
        session = self._endpoint.session(fields, principal, needed=True)
        assert session is not None
        if method == "DELETE":
            self._sessions.end(session)
            await send_bytes(send, 204, b"", [])
            return
        with self._loop_state().streams.held(_caller(principal, scope, fields if self._behind_gate else {})):
            watched = partial(self._loop_state().tokens.watched, bearer(fields.get(b"authorization")), principal)
            await follow(session, fields.get(b"last-event-id"), receive, send, watched)

    def _loop_state(self) -> LoopState:
        return self._by_loop.get(asyncio.get_running_loop()) or self._new_loop_state()

    def _new_loop_state(self) -> LoopState:
        """Make the state of this event loop: several may serve an application, in turn or at a time."""
        for loop in [loop for loop in self._by_loop if loop.is_closed()]:
            del self._by_loop[loop]
        state = self._by_loop[asyncio.get_running_loop()] = LoopState(
            self._limits, self._server.changes, self._stream_verifier
        )
        return state

    async def _not_http(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await send({"type": "websocket.close", "code": 1000})
            return
        for step, action in (("startup", self._dispatcher.open), ("shutdown", self._stop)):
            await receive()  # lifespan.startup, then lifespan.shutdown
            try:
                await self._step(action)
            except LifespanError as error:
                await send({"type": f"lifespan.{step}.failed", "message": str(error)})
                return
            await send({"type": f"lifespan.{step}.complete"})

    async def _step(self, action: Callable[[], Awaitable[None]]) -> None:
        """Enter or leave the server's lifespans; log what one of them raises, and raise LifespanError."""
        try:
            await action()
        except Exception as error:
            _log.exception("the lifespan of %s failed", self._server.name)
            text = f"the lifespan of {self._server.name} raised {type(error).__name__}: {error}"
            raise LifespanError(text) from error

    async def _stop(self) -> None:
        self.end_streams()
        del self._by_loop[asyncio.get_running_loop()]
        await self._dispatcher.close()


async def _look_at(providers: Sequence["OAuth"]) -> None:
    """Warn of providers at which nobody can log in, such as one with a wrong URL."""
    from portway.oauth.provider_metadata import objections

    for objection in await objections(providers):
        _log.warning("%s", objection)


def _caller(principal: Principal, scope: Scope, of_gate: Mapping[bytes, bytes]) -> Caller:
    """Return as whom a client is counted; `of_gate` are the header fields if the gate has written them."""
    if principal is not ANONYMOUS:
        return principal.identity
    if b"x-forwarded-for" in of_gate:
        return of_gate[b"x-forwarded-for"].decode("latin-1")
    client = scope.get("client")
    return client[0] if client else ""


def _is_json(media_type: bytes) -> bool:
    return media_type.split(b";", 1)[0].strip().lower() == b"application/json"


def _accepted(accept: bytes) -> tuple[bool, bool]:
    """Return whether an Accept header allows JSON, and event streams; kept, for clients send few different ones."""
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


async def _send_refusal(send: Send, error: RpcError) -> None:
    headers = error.headers if isinstance(error, _Refusal) else ()
    await send_bytes(send, error.status, encode_error(None, error), [JSON, *headers])
