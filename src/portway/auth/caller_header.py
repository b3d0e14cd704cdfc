"""The headers in which the gate tells an instance of Portway who calls, believed on its host's socket only.

An instance reads it only on the socket that its host alone can reach; on any other listener it is ignored.
"""

import base64

import msgspec

from portway.auth.principal import Principal

HEADER = b"portway-caller"
ASSERTION = b"x-portway-jwt-assertion"
"""A JWT that the gate has signed for the app, where the app wants it (`host/gate/caller_assertions.py`)."""


class _Relayed(msgspec.Struct, omit_defaults=True):
    issuer: str
    subject: str
    client: str | None = None
    scopes: list[str] = []
    obtainable: list[str] = []
    expires: float | None = None


_decode = msgspec.json.Decoder(_Relayed).decode


def relay(principal: Principal) -> bytes:
    """Return the header value for `principal`, without its claims."""
    scopes, obtainable = sorted(principal.scopes), sorted(principal.obtainable)
    who = principal.issuer, principal.subject, principal.client
    relayed = _Relayed(*who, scopes, obtainable, principal.expires)
    return base64.urlsafe_b64encode(msgspec.json.encode(relayed))


def relayed(value: bytes | None) -> Principal | None:
    """Return the caller of a header value; None if it is absent or unreadable."""
    if value is None:
        return None
    try:
        caller = _decode(base64.urlsafe_b64decode(value))
    except ValueError:
        return None
    return Principal(
        caller.issuer,
        caller.subject,
        caller.client,
        frozenset(caller.scopes),
        expires=caller.expires,
        obtainable=frozenset(caller.obtainable),
    )
