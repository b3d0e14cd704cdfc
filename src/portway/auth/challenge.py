"""What a refused caller is told in the header WWW-Authenticate (RFC 6750 section 3, RFC 9728 section 5.1)."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

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
