"""Where a peer listens."""

from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Address:
    """A host and port (`tls` for https), or a Unix socket when `path` is set."""

    host: str
    port: int = 0
    tls: bool = False
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Read `http://host[:port]`, `https://host[:port]` or `unix:/path`; ValueError names what is wrong."""
        if text.startswith("unix:/"):
            return cls("localhost", path=text.removeprefix("unix:"))
        try:
            parts = urlsplit(text)
            scheme, host, port = parts.scheme, parts.hostname, parts.port
            usable = scheme in ("http", "https") and parts.username is None and text.isascii()
        except ValueError:  # a bracket left open, a port that is none
            usable, scheme, host, port = False, "", None, None
        if not usable or not host:
            raise ValueError(f"{text!r} is not an address: write http://host:port, https://host:port or unix:/path")
        return cls(host, port or (443 if scheme == "https" else 80), scheme == "https")

    @property
    def authority(self) -> str:
        """The value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.path or self.port == (443 if self.tls else 80) else f"{host}:{self.port}"
