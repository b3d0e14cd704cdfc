"""Reads a JSON Web Token in its compact form, and trusts nothing of it (RFC 7515, RFC 7519, RFC 8725)."""

import base64
import re
from typing import Any

import msgspec
from msgspec import UNSET

from portway.protocol.jsonrpc import UNREADABLE

_COMPACT = re.compile(r"([\w-]+)\.([\w-]+)\.([\w-]*)", re.ASCII)
_TYPES = ("jwt", "at+jwt", "application/at+jwt")
_LONGEST_ID = 256  # characters of the name of a key


class Header(msgspec.Struct):
    """The members that are read. A key that a token brings along (`jwk`, `jku`, `x5c`, `x5u`) is none of them."""

    alg: str
    kid: str = ""
    typ: str = "jwt"
    crit: Any = UNSET
    b64: Any = UNSET

    @property
    def is_typed(self) -> bool:
        """Whether it says that this is an access token."""
        return self.typ.lower() in _TYPES[1:]

    @property
    def is_plain(self) -> bool:
        """Whether the token may be an access token, and is signed as RFC 7515 says, without extensions."""
        is_extended = self.crit is not UNSET or self.b64 is not UNSET
        return self.typ.lower() in _TYPES and not is_extended and len(self.kid) <= _LONGEST_ID


class Jwt(msgspec.Struct):
    """A token, read: what it says, and what its signature must be of."""

    header: Header
    claims: dict[str, Any]
    signed: bytes
    signature: bytes


_header = msgspec.json.Decoder(Header).decode
_claims = msgspec.json.Decoder(dict[str, Any]).decode


def read_jwt(token: str) -> Jwt | None:
    """Return the parts of a token; None for what is no signed JWT, such as an opaque or an encrypted token."""
    found = _COMPACT.fullmatch(token)
    if found is None:
        return None
    try:
        header, claims, signature = (base64.urlsafe_b64decode(part + "==") for part in found.groups())
        return Jwt(_header(header), _claims(claims), token[: found.end(2)].encode(), signature)
    except UNREADABLE:
        return None
