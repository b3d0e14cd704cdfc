"""What a refused caller is told in the header WWW-Authenticate (RFC 6750 section 3, RFC 9728 section 5.1)."""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

_SCOPES = re.compile(rb'[ ,]scope="([\x21\x23-\x5b\x5d-\x7e ]{1,2048})"')
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


def needed_scopes(challenge: bytes) -> list[str]:
    """Return the scopes that a WWW-Authenticate value asks for in addition; none if it asks for something else."""
    found = _SCOPES.search(challenge)
    if found is None or b'error="insufficient_scope"' not in challenge or challenge[:7].lower() != b"bearer ":
        return []
    return found[1].decode().split()


NO_METADATA = Challenge()
"""The challenges where nobody can log in."""
