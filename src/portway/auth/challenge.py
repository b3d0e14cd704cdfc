"""The header WWW-Authenticate: how a refused caller is told why and which scopes it needs (401, 403, 400), and how a
client reads it.

RFC 6750 section 3, RFC 9110 section 11.6.1, RFC 9728 section 5.1.
"""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

_SCOPES = re.compile(r"[\x21\x23-\x5b\x5d-\x7e ]{1,2048}")
_MOST_READ = 8192  # characters of a header
_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PART = re.compile(  # a parameter, a scheme, or another word, which is passed over whole
    rf'({_NAME})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]*))|({_NAME})(?=[\s,]|$)|{_NAME}'
)
Header = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Challenge:
    """The challenges of one server. `metadata` is the URL of its protected resource metadata, "" for none.

    `scopes` are those that a client should ask for first.
    """

    metadata: str = ""
    scopes: Collection[str] = ()

    def unauthorized(self, *, had_token: bool) -> Header:
        """Return the header of a 401. Only a caller that sent a token is told of an error (RFC 6750 section 3.1)."""
        return self._header("invalid_token" if had_token else "", self.scopes)

    def malformed(self) -> Header:
        """Return the header of a 400."""
        return self._header("invalid_request", self.scopes)

    def forbidden(self, needed: Iterable[str]) -> Header:
        """Return the header of a 403 that names every scope the request needs."""
        return self._header("insufficient_scope", sorted(needed))

    def _header(self, error: str, scopes: Collection[str]) -> Header:
        fields = {"error": error, "scope": " ".join(scopes), "resource_metadata": self.metadata}
        told = ", ".join(f'{name}="{value}"' for name, value in fields.items() if value)
        return (b"www-authenticate", f"Bearer {told}".rstrip().encode())


@dataclass(frozen=True, slots=True)
class BearerChallenge:
    """What a server says in its challenge Bearer; "" for what is absent."""

    resource_metadata: str = ""
    scope: str = ""
    error: str = ""

    @property
    def asks_for_scopes(self) -> bool:
        """Whether the token that was sent lacks scopes, which the server names."""
        return self.error == "insufficient_scope" and bool(self.scope)


def read_challenge(header: str) -> BearerChallenge | None:
    """Return the first challenge of the scheme Bearer; None if there is none."""
    is_bearer = False
    parameters: dict[str, str] = {}
    for found in _PART.finditer(header[:_MOST_READ]):
        name, quoted, plain, scheme = found.groups()
        if scheme is not None:
            if is_bearer:
                break
            is_bearer = scheme.lower() == "bearer"
        elif name is not None and is_bearer:
            value = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            parameters.setdefault(name.lower(), value)
    if not is_bearer:
        return None
    return BearerChallenge(*(parameters.get(name, "") for name in ("resource_metadata", "scope", "error")))


def needed_scopes(header: bytes) -> list[str]:
    """Return the scopes that a WWW-Authenticate value asks for in addition; none if it asks for something else.

    There are none, too, where a character stands in them that a scope may not have.
    """
    challenge = read_challenge(header.decode("latin-1"))
    if challenge is None or not challenge.asks_for_scopes or not _SCOPES.fullmatch(challenge.scope):
        return []
    return challenge.scope.split()


NO_METADATA = Challenge()
"""The challenges where nobody can log in."""
