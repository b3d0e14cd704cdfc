"""The caller of a request: issuer, subject, client, scopes, claims, expiry, and what tells callers apart."""

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import msgspec


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller as a verified token describes it (claims: RFC 9068).

    `expires` is in seconds since the epoch, None if the token does not expire. `obtainable` are scopes for which its
    client can ask with a new token.
    """

    issuer: str
    subject: str
    client: str | None = None
    scopes: frozenset[str] = frozenset()
    claims: Mapping[str, object] = field(default_factory=dict, hash=False)
    expires: float | None = None
    obtainable: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        object.__setattr__(self, "claims", MappingProxyType(dict(self.claims)))

    @property
    def identity(self) -> tuple[str, str, str | None]:
        """What distinguishes callers. A renewed token of the same name is the same caller."""
        return self.issuer, self.subject, self.client

    def is_over(self) -> bool:
        """Return whether the token has expired."""
        return self.expires is not None and time.time() >= self.expires

    def digest(self) -> bytes:
        """Return the identity as 16 bytes, for values that other processes read too."""
        return hashlib.sha256(msgspec.json.encode(self.identity)).digest()[:16]


ANONYMOUS = Principal(issuer="", subject="anonymous")
"""Any caller over stdio, or of a server that asks for no token."""
