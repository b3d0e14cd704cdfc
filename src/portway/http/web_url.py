"""URLs of http and https, read so strictly that no other reader can find another host in them; lists of allowed hosts.

Python, browsers (WHATWG URL) and C libraries differ on backslashes, user names, percent-encoding and numbers in the
place of a host. Whatever they differ on is refused here.
"""

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote

from portway.http.public_addresses import is_public

_URL = re.compile(
    r"(?P<scheme>https?)://(?:\[(?P<v6>[0-9a-f:.]{2,45})\]|(?P<name>[a-z0-9._-]{1,254}))"
    r"(?::(?P<port>[0-9]{1,5}))?(?P<rest>[/?#][^\s\\\x00-\x1f\x7f-\x9f]*)?",
    re.IGNORECASE,
)
_NO_URL = "no URL as in https://example.com/path"
_NO_HOST = "no URL with the name or the address of a host"
_LONGEST = 8192  # characters
_NUMBER = re.compile(r"(?:[0-9]+|0x[0-9a-f]*)", re.IGNORECASE)
_USUAL = {"http": 80, "https": 443}
_INNER = (
    *(".localhost", ".localdomain", ".local", ".internal", ".intranet", ".private"),
    *(".corp", ".lan", ".home", ".home.arpa"),
)
"""Names within a network (RFC 6761, RFC 6762 appendix G, RFC 8375)."""
_UNQUOTED = "/?%!$&'()*+,;=:@~-._[]"


@dataclass(frozen=True, slots=True)
class WebUrl:
    """A URL. `host` is in lower case, without brackets or a last dot; `target` is path and query as HTTP sends them."""

    scheme: str
    host: str
    port: int
    target: str

    @property
    def is_usual_port(self) -> bool:
        return self.port == _USUAL[self.scheme]

    @property
    def origin(self) -> str:
        """Return scheme, host and port as a URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}" if self.is_usual_port else f"{self.scheme}://{host}:{self.port}"


def read_url(text: str) -> WebUrl:
    """Read a URL. Raises ValueError for what is none, or what others may read as the URL of another host."""
    found = _URL.fullmatch(text) if len(text) <= _LONGEST else None
    if found is None:
        raise ValueError(_NO_URL)
    scheme = found["scheme"].lower()
    host = _address(found["v6"] if ":" in found["v6"] else "") if found["v6"] else _name(found["name"])
    port = int(found["port"] or _USUAL[scheme])
    if not 0 < port < 65536:
        raise ValueError(_NO_URL)
    rest = (found["rest"] or "").partition("#")[0]
    return WebUrl(scheme, host, port, quote(rest if rest.startswith("/") else "/" + rest, _UNQUOTED, errors="replace"))


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise ValueError(_NO_HOST) from None


def _name(text: str) -> str:
    name = text.lower().removesuffix(".")
    labels = name.split(".")
    if not all(0 < len(label) < 64 for label in labels):
        raise ValueError(_NO_HOST)
    # 127.1, 2130706433, 0x7f.1 and 0177.0.0.1 are addresses to some readers.
    return _address(name) if _NUMBER.fullmatch(labels[-1]) else name


class HostList:
    """The hosts that URLs may have.

    An entry is a host (`api.example.com`), all below one (`*.example.com`), or `*` for every host that is on the
    internet by its name or address; with a port, only that one. An address or a name of an inner network is admitted
    only if it is an entry itself. Names are not looked up. Raises ValueError for an entry that is no such host.
    """

    def __init__(self, entries: Iterable[str]) -> None:
        self.entries = tuple(entries)
        self._exact: set[tuple[str, int]] = set()
        self._below: list[tuple[str, int]] = []
        self._any: set[int] = set()
        for entry in self.entries:
            host, port = _entry(entry)
            if host == "*":
                self._any.add(port)
            elif host.startswith("*."):
                self._below.append((host[1:], port))
            else:
                self._exact.add((host, port))

    def admits(self, url: WebUrl) -> bool:
        """Whether a URL may be used."""
        host, ports = url.host, (0, url.port)
        if any((host, port) in self._exact for port in ports):
            return True
        if any(host.endswith(suffix) and port in ports for suffix, port in self._below):
            return True
        return not self._any.isdisjoint(ports) and _is_outside(host)


def _entry(text: str) -> tuple[str, int]:
    """Return the host of an entry, and its port, 0 for any."""
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]") or not port.isdigit():
        host, port = text, ""
    star = "*" if host == "*" else "*." if host.startswith("*.") else ""
    wrong = ValueError(f"{text!r} is no host as in example.com, *.example.com or example.com:8443")
    try:
        url = read_url(f"http://{'x' if star == '*' else host.removeprefix(star)}:{port or 1}")
    except ValueError:
        raise wrong from None
    if not {*"/?#"}.isdisjoint(text) or (star == "*." and _is_address(url.host)):
        raise wrong
    return "*" if star == "*" else star + url.host, int(port or 0)


def _is_outside(host: str) -> bool:
    """Whether a host is on the internet, as far as its name or address says."""
    return is_public(host) if _is_address(host) else "." in host and not host.endswith(_INNER)


def _is_address(host: str) -> bool:
    return ":" in host or _NUMBER.fullmatch(host.rpartition(".")[2]) is not None
