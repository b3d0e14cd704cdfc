"""Which web pages may read the server's answers (CORS): origins, preflight, exposed headers
(https://fetch.spec.whatwg.org/#http-cors-protocol).

Only pages that are named may call. No credentials are allowed: a page sends its token itself, never a cookie.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from portway.exceptions import SettingError
from portway.http.asgi import Headers, Message, Scope, Send

_NAMED = re.compile(r"(https?)://(\[[0-9a-f:.]+\]|[a-z0-9_](?:[a-z0-9._-]*))(?::([0-9]{1,5}))?/?")
_DEFAULT_PORTS = {"http": "80", "https": "443"}
_METHODS = b"GET, POST, DELETE"
_REQUEST_HEADERS = frozenset(
    (
        b"accept",
        b"authorization",
        b"content-type",
        b"last-event-id",
        b"mcp-method",
        b"mcp-name",
        b"mcp-protocol-version",
        b"mcp-session-id",
    )
)
_PARAM = b"mcp-param-"
_EXPOSED = (b"access-control-expose-headers", b"Mcp-Session-Id, WWW-Authenticate, Retry-After")
_MAX_AGE = (b"access-control-max-age", b"600")
_VARY = (b"vary", b"Origin")


class Cors:
    """The pages that may call, by exact scheme, host and port. Raises SettingError for what is no origin."""

    def __init__(self, origins: Iterable[str] = ()) -> None:
        self.origins = frozenset(map(_origin, origins))

    def __bool__(self) -> bool:
        return bool(self.origins)

    def allows(self, origin: bytes) -> bool:
        """Tell whether the page of this Origin header is named."""
        return origin in self.origins

    def preflight(self, scope: Scope) -> Headers | None:
        """Return the headers of the 204 for a named page's preflight; None for any other request."""
        headers = dict(scope["headers"])
        origin = headers.get(b"origin", b"")
        if scope["method"] != "OPTIONS" or b"access-control-request-method" not in headers or not self.allows(origin):
            return None
        asked = [name.strip().lower() for name in headers.get(b"access-control-request-headers", b"").split(b",")]
        allowed = [name for name in asked if name in _REQUEST_HEADERS or name.startswith(_PARAM)]
        return [
            (b"access-control-allow-origin", origin),
            (b"access-control-allow-methods", _METHODS),
            (b"access-control-allow-headers", b", ".join(allowed)),
            _MAX_AGE,
            (b"vary", b"Origin, Access-Control-Request-Headers"),
        ]

    def sender(self, scope: Scope, send: Send) -> Send:
        """Return `send` with the headers that let a named page read the response."""
        origin = next((value for name, value in scope["headers"] if name == b"origin"), b"")
        added = [_VARY]
        if self.allows(origin):
            added += [(b"access-control-allow-origin", origin), _EXPOSED]

        async def send_readable(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *added]}
            await send(message)

        return send_readable


def is_origin(text: str) -> bool:
    """Return whether `Cors` takes a text."""
    return _NAMED.fullmatch(text.strip().lower()) is not None


def _origin(text: str) -> bytes:
    """Write an origin as browsers do: in lower case, without the scheme's own port."""
    match = _NAMED.fullmatch(text.strip().lower())
    if match is None:
        raise SettingError(
            f"{text.strip()!r} is not an origin; write scheme, host and port, as in https://app.example.com or "
            "http://localhost:6274"
        )
    scheme, host, port = match.groups()
    return f"{scheme}://{host}{f':{port}' if port and port != _DEFAULT_PORTS[scheme] else ''}".encode()
