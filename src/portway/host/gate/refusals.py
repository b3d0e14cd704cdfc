"""The gate's refusals of requests without an app or a caller (401, 404, Host, Origin), with their texts and headers
such as Retry-After; where to log in.

Without a valid token, an app that exists and one that does not are refused with the same bytes, unless callers of the
app log in: then its metadata is public, and a refusal leads to it.
"""

from collections.abc import Iterator, Mapping

from portway.auth.challenge import NO_METADATA, Challenge
from portway.auth.tokens import OAUTH_PATHS, VerifierUnavailable, bearer
from portway.host.app_config import Access
from portway.host.gate.callers import Caller
from portway.host.gate.gate_call import GateCall
from portway.host.gate.instance_ids import reply_event_id
from portway.host.gate.metrics import Metrics
from portway.host.gate.path_access import ENDPOINT
from portway.host.gate.routing import Route, Routes
from portway.host.new_token import is_of_a_host
from portway.http.asgi import Scope, Send
from portway.http.host_and_origin import Refusal
from portway.http.response import JSON, send_bytes
from portway.oauth.refused_tokens import RefusedTokens, TokenRefusal
from portway.oauth.resource_metadata import WELL_KNOWN, send_metadata
from portway.protocol.errors import REFUSED, RpcError
from portway.protocol.jsonrpc import UnreadableMessage, encode_error


def _body(text: str) -> bytes:
    return encode_error(None, RpcError(REFUSED, text))


_UNAUTHORIZED = _body("A valid bearer token for this app is needed in the Authorization header.")
_MALFORMED = _body("The token in the Authorization header is malformed.")
_UNAVAILABLE = _body("The identity provider does not answer; try again later.")
_NO_TABLE = _body("The host is starting; try again soon.")
_NO_SUCH_PATH = _body("There is nothing at this path; the MCP endpoint of an app is /<app>/mcp.")
_OTHER_HOST = _body(
    "This host does not answer to that name; `portway up --domain` and `portway domain add` say to which it does."
)
_OTHER_ORIGIN = _body("This Origin is not allowed. `portway deploy --allow-origin` names the pages of an app.")
_NO_OAUTH = _body(
    "There is no OAuth here: an app takes a bearer token in the Authorization header, which `portway token create` "
    "makes."
)
_NO_TOKEN = TokenRefusal("it brings no token")
_UNKNOWN = TokenRefusal("its token is unknown here, has expired or was revoked")
_OF_NAME = (WELL_KNOWN, WELL_KNOWN + ENDPOINT[0])


class Refusals:
    """Answers what never becomes a call. Two of its refusals differ only in the request id."""

    def __init__(self, routes: Routes, metrics: Metrics, prefix: str, numbers: Iterator[int]) -> None:
        """Request ids are of the `prefix` and the next of the `numbers`."""
        self._routes = routes
        self._metrics = metrics
        self._prefix, self._numbers = prefix, numbers
        self._refused_tokens = RefusedTokens()

    async def guarded(self, send: Send, refusal: Refusal) -> None:
        """Refuse a request for its Host or Origin."""
        body = {421: _OTHER_HOST, 403: _OTHER_ORIGIN}.get(refusal.status) or _body(refusal.message)
        await self._refuse(send, refusal.status, body)

    async def no_such_path(self, scope: Scope, send: Send, fields: Mapping[bytes, bytes]) -> bool:
        """Answer a request for a path of the host that is no app's. Return False if it may be an app's endpoint.

        The metadata of an app is at the well-known path before that of its endpoint (RFC 9728 section 3.1).
        """
        path = scope["path"]
        if path.startswith(WELL_KNOWN):
            route = self._routes.paths.get(path.removeprefix(WELL_KNOWN))
            if route is not None and route.login is not None:
                await send_metadata(scope, send, route.login.at(fields[b"host"], scope["path"]).metadata)
                return True
        elif path.rstrip("/").endswith("/mcp") and path.count("/") <= 3:
            return False
        await self._refuse(send, 404, _NO_OAUTH if path.startswith(OAUTH_PATHS) else _NO_SUCH_PATH)
        return True

    async def tell(self, scope: Scope, send: Send, route: Route | None, fields: Mapping[bytes, bytes]) -> bool:
        """Answer a request for the metadata of the app that has the host name. Return False for any other request.

        The name is of one app, so the metadata is also at the well-known path without that of the endpoint.
        """
        if route is None or route.login is None or scope["path"].rstrip("/") not in _OF_NAME:
            return False
        await send_metadata(scope, send, route.login.at(fields[b"host"], scope["path"]).metadata)
        return True

    async def log_in(
        self, send: Send, route: Route | None, fields: Mapping[bytes, bytes], access: Access, path: str
    ) -> Caller | None:
        """Return who asks for a path by an access token; refuse the request and return None if that is nobody."""
        authorization = fields.get(b"authorization", b"")
        token = bearer(authorization)
        login = None if route is None or access != "gate" else route.login
        challenge = NO_METADATA
        if login is not None:
            challenge = login.at(fields[b"host"], path).challenge
            if token is not None and not (token.isascii() and token.isprintable() and " " not in token):
                await self._refuse(send, 400, _MALFORMED, challenge.malformed())
                return None
            try:
                caller = None if token is None else await self._routes.logins.find(login, authorization, token)
            except VerifierUnavailable as error:
                await self._refuse(send, 503, _UNAVAILABLE, (b"retry-after", b"%d" % error.retry_after))
                return None
            if caller is not None:
                return caller
        if not self._routes.complete:
            await self._refuse(send, 503, _NO_TABLE, (b"retry-after", b"1"))
            return None
        self._metrics.refused += 1
        await self._refuse(send, 401, _UNAUTHORIZED, challenge.unauthorized(had_token=token is not None))
        if login is None or token is None or is_of_a_host(token):  # else the check of access tokens has told why
            self._tell("" if route is None else route.name, authorization, token)
        return None

    def _tell(self, app: str, authorization: bytes, token: str | None) -> None:
        """Log why a request was refused, after the answer, so that its time does not tell which apps exist."""
        if token is None:
            self._refused_tokens.tell_of_app(app, _NO_TOKEN)
        elif (caller := self._routes.callers.find(authorization)) is None:
            self._refused_tokens.tell_of_app(app, _UNKNOWN)
        else:
            self._refused_tokens.tell_of_app(app, TokenRefusal("its token is one of the app %s", caller.app))

    async def _refuse(self, send: Send, status: int, body: bytes, *headers: tuple[bytes, bytes]) -> None:
        identity = (b"x-request-id", (self._prefix + str(next(self._numbers))).encode())
        await send_bytes(send, status, body, [JSON, identity, *headers])


async def refuse_call(call: GateCall, send: Send, error: RpcError) -> None:
    """Answer with an error: as an event if the reply has begun as a stream, else as JSON."""
    body = encode_error(error.request_id if isinstance(error, UnreadableMessage) else call.request_id, error)
    call.line.bytes_out += len(body)
    if call.stream is not None and call.stream.opened:
        await call.stream.event(body, reply_event_id(call.identity[1]) if call.resumable else b"")
        await call.stream.close()
        return
    call.line.status = error.status
    headers = [JSON, call.identity]
    if error.status in (429, 503):
        seconds = error.data["retryAfter"] if isinstance(error.data, dict) else 1
        headers.append((b"retry-after", b"%d" % seconds))
    elif isinstance(error.data, dict) and "requiredScopes" in error.data:
        challenge = Challenge(call.challenge.metadata, error.data["requiredScopes"])
        is_known = error.status == 403
        headers.append(challenge.forbidden(challenge.scopes) if is_known else challenge.unauthorized(had_token=False))
    elif error.status == 401:
        headers.append(call.challenge.unauthorized(had_token=True))
    await send_bytes(send, error.status, body, headers)
