"""Bearer tokens (RFC 6750): the Authorization header is read, the tokens of PORTWAY_TOKENS are checked by their
digests; the `TokenVerifier` protocol.
"""

import hashlib
import time
from typing import Protocol

from portway.auth.principal import Principal
from portway.exceptions import SettingError

OAUTH_PATHS = ("/.well-known/oauth-", "/.well-known/openid-", "/register", "/authorize", "/token")
"""The beginnings of the paths at which clients look for OAuth (RFC 7591, RFC 8414, RFC 9728)."""

_SILENT_SECONDS = 3600.0


class VerifierUnavailable(Exception):
    """Whether a token is valid cannot be told now; it may be tried again after `retry_after` seconds.

    `silent` is how many seconds ago the provider last said that it is.
    """

    retry_after = 30

    def __init__(self, silent: float = 0.0) -> None:
        super().__init__()
        self.silent = silent


class TokenVerifier(Protocol):
    """Verifies bearer tokens; an extension point."""

    async def verify(self, token: str) -> Principal | None:
        """Return the caller that `token` identifies; None for a token that is unknown, expired or revoked.

        Raises `VerifierUnavailable`.
        """


async def is_still_good(verifier: TokenVerifier, token: str, principal: Principal) -> bool:
    """Return whether a token that was good may keep open what it has opened: not expired, taken back or narrowed.

    While that cannot be told, it may until it expires: an outage of the provider takes nobody's right away.
    """
    try:
        found = await verifier.verify(token)
    except VerifierUnavailable as error:
        return is_good_meanwhile(principal.expires, error)
    return found is not None and principal.scopes <= found.scopes


def is_good_meanwhile(expires: float | None, error: VerifierUnavailable) -> bool:
    """Return whether a token that was good may last while nobody can tell: until it expires, without an end an hour."""
    return error.silent < _SILENT_SECONDS if expires is None else time.time() < expires


LONGEST_TOKEN = 16_384  # characters, of one that a provider made


def is_sendable(text: str) -> bool:
    """Return whether HTTP can carry a text where it takes one without spaces, such as a token."""
    return text.isascii() and text.isprintable() and " " not in text


def digest(token: str) -> str:
    """Return the hex SHA-256 under which a token is kept; tokens are random, so it needs no salt or stretching."""
    return hashlib.sha256(token.encode()).hexdigest()


def bearer(authorization: bytes | None) -> str | None:
    """Return the token of an Authorization header value; None without a token or for another scheme."""
    if authorization is None or authorization[:7].lower() != b"bearer ":
        return None
    return authorization[7:].strip(b" \t").decode("latin-1") or None


class NamedTokens:
    """The tokens of PORTWAY_TOKENS: `name:token[:scope+scope],…`. Raises SettingError for another text.

    They are looked up by digest, so the time it takes reveals nothing of a token.
    """

    def __init__(self, text: str) -> None:
        self._by_digest: dict[str, Principal] = {}
        for position, entry in enumerate(filter(None, map(str.strip, text.split(","))), start=1):
            name, _, rest = entry.partition(":")
            token, _, scopes = rest.partition(":")
            if not name or not token:
                raise SettingError(f"PORTWAY_TOKENS entry {position} is not name:token[:scope+scope].")
            if not is_sendable(token):
                raise SettingError(f"PORTWAY_TOKENS entry {position} has a token no header can carry: use ASCII.")
            principal = Principal("portway", name, name, frozenset(filter(None, scopes.split("+"))))
            if self._by_digest.setdefault(digest(token), principal) is not principal:
                raise SettingError(f"PORTWAY_TOKENS entry {position} repeats the token of an earlier one.")

    async def verify(self, token: str) -> Principal | None:
        """Return the caller named with `token`; None for an unknown token."""
        return self._by_digest.get(digest(token))
