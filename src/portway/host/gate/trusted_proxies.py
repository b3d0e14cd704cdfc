"""Believes X-Forwarded-For, -Proto and -Host of the proxies in front of the gate (`--behind-proxy`), and of nobody
else.

A proxy that is believed says by X-Forwarded-For whose request it passes on, by X-Forwarded-Proto whether that came over
TLS, and by X-Forwarded-Host by which name the host was called. RFC 7239's Forwarded is not read.
"""

import ipaddress
from collections.abc import Iterable
from typing import NamedTuple

from portway.http.asgi import Headers, Scope

UNIX = "unix"
"""Stands, among networks, for whoever connects to a Unix socket of the gate: only this user can."""

_MOST_HOPS = 32  # addresses of X-Forwarded-For that are looked at, the nearest first
_REMEMBERED = 1024
_LONGEST = 512  # bytes of the headers of a request that are remembered
_FORWARDED = frozenset((b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host"))


class _Told(NamedTuple):
    """What proxies say of a request; `client` and `host` are empty if they say nothing of them."""

    client: str
    scheme: str
    host: bytes


class TrustedProxies:
    """The proxies that the gate believes: `networks` are those of their addresses, in CIDR form, or `UNIX`.

    Raises ValueError for what is no network.
    """

    def __init__(self, networks: Iterable[str]) -> None:
        named = set(networks)
        self._unix = UNIX in named
        self._networks = [ipaddress.ip_network(network) for network in named - {UNIX}]
        self._trusted: dict[str, bool] = {}
        self._told: dict[tuple[tuple[bytes, bytes], ...], _Told] = {}

    def believe(self, scope: Scope) -> None:
        """Put into the request's scope what a trusted proxy says of it: client, scheme and Host.

        The client is the last address that is not a trusted proxy's: what comes before it is its own claim. Without
        X-Forwarded-Proto the client has used TLS, which is why there is a proxy.
        """
        peer = scope["client"]
        if not (self._unix if peer is None else self._trusts(peer[0])):
            return
        found = tuple([header for header in scope["headers"] if header[0] in _FORWARDED])
        told = self._told.get(found)
        if told is None:
            told = self._read(list(found))
            if sum(len(value) for _, value in found) <= _LONGEST:
                if len(self._told) >= _REMEMBERED:
                    self._told.clear()
                self._told[found] = told
        if told.client:
            scope["client"] = (told.client, 0)
        scope["scheme"] = told.scheme
        if told.host and (b"host", told.host) not in scope["headers"]:
            scope["headers"] = [(name, told.host if name == b"host" else value) for name, value in scope["headers"]]

    def _read(self, found: Headers) -> _Told:
        """Return what the headers say; one that is sent several times is one list (RFC 9110 section 5.3)."""
        lists: dict[bytes, bytes] = {}
        for name, value in found:
            lists[name] = lists[name] + b"," + value if name in lists else value
        scheme = "http" if _last(lists.get(b"x-forwarded-proto", b"")).lower() == b"http" else "https"
        client = self._client(lists.get(b"x-forwarded-for", b""))
        return _Told(client, scheme, _last(lists.get(b"x-forwarded-host", b"")))

    def _client(self, hops: bytes) -> str:
        """Return the address of the client from X-Forwarded-For, "" when it has none."""
        client = ""
        for hop in reversed(hops.rsplit(b",", _MOST_HOPS)[-_MOST_HOPS:]):
            address = _address(hop)
            if not address:
                break
            client = address
            if not self._trusts(address):
                break
        return client

    def _trusts(self, text: str) -> bool:
        trusted = self._trusted.get(text)
        if trusted is None:
            address = _parsed(text.partition("%")[0])
            trusted = any(address in network for network in self._networks)
            if len(self._trusted) >= _REMEMBERED:
                self._trusted.clear()
            self._trusted[text] = trusted
        return trusted


def _last(value: bytes) -> bytes:
    """Return the last of a header's values, which the nearest proxy has written."""
    return value.rpartition(b",")[2].strip()


def _parsed(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return an address; one of IPv4 also if it is written as a socket for both kinds does. Raises ValueError."""
    address = ipaddress.ip_address(text)
    return (address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None) or address


def _address(hop: bytes) -> str:
    """Return the address in one part of X-Forwarded-For, which may have a port; "" when it is none."""
    text = hop.strip().decode("latin-1")
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return str(_parsed(text))
    except ValueError:
        return ""
