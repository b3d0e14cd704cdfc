"""Which headers the gate forwards to an instance and back to the client, and which it drops, adds or rewrites (cookies,
X-Forwarded-*, Origin).
"""

from portway.auth.challenge import needed_scopes
from portway.host.gate.gate_call import GateCall
from portway.host.gate.routing import Route
from portway.host.gate.session_ids import SessionIds
from portway.http.asgi import Headers, Scope
from portway.protocol.headers import SESSION

LAST_EVENT_ID = b"last-event-id"

# These belong to one connection (RFC 9110 section 7.6.1), or are written again for the next one.
_HOP = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer transfer-encoding "
    b"upgrade content-length".split()
)
# Never sent to an instance: the caller's credentials, and headers that only the gate may set.
_ENDS_HERE = _HOP | frozenset(b"authorization cookie host expect forwarded x-real-ip x-request-id".split())
_ENDS_HERE_TOO = (b"portway-", b"x-portway-", b"x-forwarded-")  # what a name begins with
# What the gate has judged or sets passes on, but under its own name alone.
_JUDGED = frozenset((LAST_EVENT_ID, b"content-type", b"content-encoding"))
_JUDGED_TOO = b"mcp-"  # what a name begins with
_STAYS_THERE = _HOP | frozenset((b"set-cookie", b"x-request-id", b"server", b"date"))
_CREDENTIALS = (b"authorization", b"cookie")
# All apps share the origin of their MCP endpoints, so only the headers of the protocol pass there.
_OF_ENDPOINT = frozenset(b"allow cache-control content-encoding content-type mcp-protocol-version retry-after".split())
_KNOWN_NAMES = 1024
_SCHEMES = {"http": b"http", "https": b"https"}


class _Passes(dict[bytes, bool]):
    """Whether a request header is passed on, by its name; remembers the answer for a bounded number of names."""

    def __missing__(self, name: bytes) -> bool:
        meant = name.replace(b"_", b"-")  # WSGI, and servers like it, take one for the other
        passes = meant not in _ENDS_HERE and not meant.startswith(_ENDS_HERE_TOO)
        if meant != name and (meant in _JUDGED or meant.startswith(_JUDGED_TOO)):
            passes = False
        if len(self) < _KNOWN_NAMES:
            self[name] = passes
        return passes


_passes = _Passes()


def forwarded(scope: Scope, fields: dict[bytes, bytes], call: GateCall) -> Headers:
    """Return the headers of the request to the instance."""
    headers: Headers = scope["headers"]
    kept = [item for item in headers if _passes[item[0]]]
    connection = fields.get(b"connection")
    if connection is not None and connection not in (b"keep-alive", b"close"):
        named = {name.strip().lower() for name in connection.split(b",")}
        kept = [item for item in kept if item[0] not in named]
    if b"origin" in fields:
        kept = [item for item in kept if item[0] != b"origin"]
        if call.line.era == "http":  # the gate has judged that of a call
            kept.append((b"origin", _own_origin(fields[b"origin"], fields[b"host"], call.route)))
    if SESSION in fields and call.line.era != "http":
        kept = [item for item in kept if item[0] != SESSION]
        if call.session is not None and not call.session.opening:
            kept.append((SESSION, call.session.upstream))
    if LAST_EVENT_ID in fields and call.session is not None:
        kept = [item for item in kept if item[0] != LAST_EVENT_ID]
        if call.after:
            kept.append((LAST_EVENT_ID, call.after))
    kept += (
        call.caller.header,
        (b"x-forwarded-host", fields[b"host"]),
        (b"x-forwarded-proto", _SCHEMES[scope["scheme"]]),
        call.identity,
    )
    if call.route.assertions is not None and call.caller.app:
        kept.append(call.route.assertions.header(call.caller))
    if call.route.authorization is not None and call.access == "gate":
        kept.append(call.route.authorization)
    if call.access == "app":
        credentials = _CREDENTIALS if call.line.era == "http" else (b"authorization",)
        if call.caller.app:  # the gate knows the token: it is the gate's
            credentials = (b"cookie",)
        kept += [item for item in headers if item[0] in credentials]
    if (client := scope["client"]) is not None:
        kept.append((b"x-forwarded-for", client[0].encode()))
    return kept


def _own_origin(origin: bytes, host: bytes, route: Route) -> bytes:
    """Return an Origin as the app knows itself: a page of a custom domain is the app's own, like its Host."""
    name, _, port = host.partition(b":")
    scheme, _, authority = origin.partition(b"://")
    if authority != host or name.lower().rstrip(b".") not in route.hosts:
        return origin
    return scheme + b"://" + route.hostname + (b":" + port if port else b"")


def returned(headers: Headers, call: GateCall, session_ids: SessionIds) -> tuple[bytes, Headers]:
    """Return the content type of an instance's reply, in lower case, and the headers of the reply to the client."""
    content_type = b""
    kept = [call.identity]
    if call.line.era == "http":
        kept += [_as_seen(item, call) for item in headers if item[0] not in _STAYS_THERE]
        if call.access == "app":
            kept += [(name, _of_own_host(value)) for name, value in headers if name == b"set-cookie"]
        return content_type, kept
    for item in headers:
        if item[0] in _OF_ENDPOINT:
            kept.append(item)
            if item[0] == b"content-type":
                content_type = item[1].lower()
        elif item[0] == b"www-authenticate" and call.access == "app" and item[1][:7].lower() == b"bearer ":
            kept.append(item)  # a browser asks its user for a password upon other schemes
        elif item[0] == b"www-authenticate" and (needed := needed_scopes(item[1])):
            kept.append(call.challenge.forbidden(needed))
        elif item[0] == SESSION and (token := _client_id(call, session_ids, item[1])) is not None:
            kept.append((SESSION, token))
    return content_type, kept


def _as_seen(header: tuple[bytes, bytes], call: GateCall) -> tuple[bytes, bytes]:
    """Return a header for the client of another path.

    A Location has not the app's own origin: its server does not know port and scheme of the client's URL. A challenge
    for more scopes leads to the app's metadata.
    """
    name, url = header
    if name == b"www-authenticate" and call.access == "gate" and (needed := needed_scopes(url)):
        return call.challenge.forbidden(needed)
    if name != b"location":
        return header
    for origin in call.backend.origins if call.backend is not None else ():
        if url == origin or url.startswith(origin + b"/"):
            return name, url.removeprefix(origin) or b"/"
    return header


def _of_own_host(cookie: bytes) -> bytes:
    """Return a Set-Cookie value without its Domain: a cookie of one app is none of the others'."""
    pair, *attributes = cookie.split(b";")
    return b";".join([pair, *(each for each in attributes if each.partition(b"=")[0].strip().lower() != b"domain")])


def _client_id(call: GateCall, session_ids: SessionIds, upstream: bytes) -> bytes | None:
    """Return the client's id of an instance's session; None when the reply may not carry one, or it is not valid."""
    if call.session is not None and (call.session.opening or upstream == call.session.upstream):
        return call.session.token
    if call.backend is None or (call.session is None and call.line.method != "initialize"):
        return None
    place = call.backend.instance.id
    token = session_ids.seal(call.route.name, call.caller, place, upstream, call.opening, shows_forms=call.shows_forms)
    if token is not None and call.session is None and call.backend.sessions is not None:
        call.backend.sessions += 1
    return token
