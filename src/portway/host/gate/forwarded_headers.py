"""Which headers pass the gate, and what it makes of them on the way."""

from functools import partial

from portway.host.gate.gate_call import Call
from portway.host.gate.session_ids import HEADER as SESSION
from portway.host.gate.session_ids import Sessions
from portway.http.asgi import Headers

# Of one connection (RFC 9110 section 7.6.1), or remade by whoever sends the message on.
_HOP = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer transfer-encoding "
    b"upgrade content-length".split()
)
# Never passed on: the caller's credentials, which end here, and what the gate alone may say.
_ENDS_HERE = _HOP | frozenset(
    b"authorization cookie host expect forwarded x-forwarded-for x-forwarded-host x-forwarded-proto x-real-ip "
    b"x-request-id".split()
)
_STAYS_THERE = _HOP | frozenset((b"set-cookie", b"x-request-id", b"server", b"date"))
_KNOWN_NAMES = 1024


class _Passes(dict[bytes, bool]):
    """Whether a header of that name is passed on; worked out once for each name, for a bounded number of them."""

    def __missing__(self, name: bytes) -> bool:
        passes = name not in _ENDS_HERE and not name.startswith(b"portway-")
        if len(self) < _KNOWN_NAMES:
            self[name] = passes
        return passes


_passes = _Passes()


def forwarded(headers: Headers, fields: dict[bytes, bytes], call: Call, scheme: bytes) -> Headers:
    """The client's headers as the instance gets them."""
    kept = [item for item in headers if _passes[item[0]]]
    connection = fields.get(b"connection")
    if connection is not None and connection not in (b"keep-alive", b"close"):
        named = {name.strip().lower() for name in connection.split(b",")}
        kept = [item for item in kept if item[0] not in named]
    if SESSION in fields and call.line.era != "http":
        kept = [item for item in kept if item[0] != SESSION]
        if call.session is not None:
            kept.append((SESSION, call.session.upstream))
    kept += (
        call.caller.header,
        (b"x-forwarded-host", fields[b"host"]),
        (b"x-forwarded-proto", scheme),
        (b"x-request-id", call.line.request.encode()),
    )
    return kept


def returned(headers: Headers, call: Call, sessions: Sessions) -> tuple[bytes, Headers]:
    """The type of an instance's reply, and its headers as the client gets them."""
    content_type = b""
    kept = [(b"x-request-id", call.line.request.encode())]
    for item in headers:
        if item[0] not in _STAYS_THERE:
            kept.append(item)
            if item[0] == b"content-type":
                content_type = item[1].lower()
    if call.session is not None or call.line.method == "initialize":
        kept = [item for item in map(partial(_sealed, call, sessions), kept) if item is not None]
    return content_type, kept


def _sealed(call: Call, sessions: Sessions, item: tuple[bytes, bytes]) -> tuple[bytes, bytes] | None:
    """A header of a reply, with the client's id of the session in place of the instance's."""
    if item[0] != SESSION:
        return item
    if call.session is not None and item[1] == call.session.upstream:
        return SESSION, call.session.token
    assert call.backend is not None
    token = sessions.seal(call.route.name, call.caller, call.backend.instance.id, item[1])
    return None if token is None else (SESSION, token)
