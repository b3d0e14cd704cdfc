"""Bearer tokens: the verifier port, and named tokens kept as digests (RFC 6750)."""

import hashlib
from typing import Protocol

from portway.auth.principal import Principal


class TokenVerifier(Protocol):
    """Turns a bearer token into a caller."""

    async def verify(self, token: str) -> Principal | None:
        """The caller `token` stands for; None when it is unknown, expired or revoked."""


def digest(token: str) -> str:
    """The hex SHA-256 under which a token is kept; tokens are random, so no salt or stretching is needed."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def bearer(authorization: bytes | None) -> str | None:
    """The token of an Authorization header value, None when there is none of that scheme."""
    if authorization is None or authorization[:7].lower() != b"bearer ":
        return None
    return authorization[7:].strip(b" \t").decode("latin-1") or None


class TokenSyntaxError(ValueError):
    """PORTWAY_TOKENS cannot be read; the message never shows a token."""


class NamedTokens:
    """Tokens written as `name:token[:scope+scope],…` (PORTWAY_TOKENS).

    They are looked up by digest: how long that takes tells nothing about how much of a guess was right.
    """

    def __init__(self, text: str) -> None:
        self._by_digest: dict[str, Principal] = {}
        for position, entry in enumerate(filter(None, map(str.strip, text.split(","))), start=1):
            name, _, rest = entry.partition(":")
            token, _, scopes = rest.partition(":")
            if not name or not token:
                raise TokenSyntaxError(f"PORTWAY_TOKENS entry {position} is not name:token[:scope+scope].")
            if not token.isascii() or not token.isprintable() or " " in token:
                raise TokenSyntaxError(f"PORTWAY_TOKENS entry {position} has a token no header can carry: use ASCII.")
            principal = Principal("portway", name, name, frozenset(filter(None, scopes.split("+"))))
            if self._by_digest.setdefault(digest(token), principal) is not principal:
                raise TokenSyntaxError(f"PORTWAY_TOKENS entry {position} repeats the token of an earlier one.")

    async def verify(self, token: str) -> Principal | None:
        """The caller of that name, None for an unknown token."""
        return self._by_digest.get(digest(token))
