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
        parts = urlsplit(text)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
            raise ValueError(f"{text!r} is not an address: write http://host:port, https://host:port or unix:/path")
        tls = parts.scheme == "https"
        return cls(parts.hostname, parts.port or (443 if tls else 80), tls)

    @property
    def authority(self) -> str:
        """The value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.path or self.port == (443 if self.tls else 80) else f"{host}:{self.port}"
