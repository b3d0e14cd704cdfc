"""Who is calling."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller as a verified token describes it (RFC 9068 names the claims).

    `expires` is in seconds since the epoch, None for a token that does not expire.
    """

    issuer: str
    subject: str
    client: str | None = None
    scopes: frozenset[str] = frozenset()
    claims: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    expires: float | None = None


ANONYMOUS = Principal(issuer="", subject="anonymous")
"""The caller of a server that asks for no token, or over stdio."""
