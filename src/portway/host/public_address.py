"""Every URL that the host prints, signs or tells an app: of the host, an app's endpoint, its repository, its hook."""

from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit


def public_url(domain: str, listening: str) -> str:
    """Return the URL of a host: by TLS at its domain, or else the one where it listens, for this machine only."""
    return listening if is_local(domain) else f"https://{domain}"


def is_local(domain: str) -> bool:
    """Return whether names below a domain lead to the machine itself (RFC 6761 section 6.3)."""
    return domain == "localhost" or domain.endswith(".localhost")


@dataclass(frozen=True, slots=True)
class PublicAddress:
    """The `url` of the host, without a path, and the `domain` below which its apps have names."""

    url: str
    domain: str

    @property
    def port(self) -> int:
        """The port of the URL."""
        parts = urlsplit(self.url)
        return parts.port or {"http": 80, "https": 443}[parts.scheme]

    def endpoint(self, app: str) -> str:
        """Return the URL of an app's MCP endpoint."""
        return f"{self.url}/{app}/mcp"

    def endpoints(self, app: str, domains: Iterable[str]) -> dict[str, str]:
        """Return every URL of an app's MCP endpoint, by the host name in it. The first is the one of the host."""
        found = {urlsplit(self.url).hostname or self.domain: self.endpoint(app)}
        for name in ("127.0.0.1", "localhost") if is_local(self.domain) else ():
            found.setdefault(name, f"{self.origin(name)}/{app}/mcp")
        return found | {name: f"{self.origin(name)}/mcp" for name in (self.hostname(app), *domains)}

    @property
    def management(self) -> str:
        """The URL of the management API for those who call from afar."""
        return f"{self.url}/_portway/mcp"

    def repository(self, app: str) -> str:
        """Return the URL of an app's git repository."""
        return f"{self.url}/{app}.git"

    def hook(self, app: str) -> str:
        """Return the URL for the webhooks of a linked app."""
        return f"{self.url}/_portway/hooks/{app}"

    def hostname(self, app: str) -> str:
        """Return the name of an app below the host's domain; its instances see it in the Host header."""
        return f"{app}.{self.domain}"

    def origin(self, hostname: str) -> str:
        """Return the URL of a host name of an app, without a path."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{hostname}" + (f":{parts.port}" if parts.port else "")
