"""Connections through a proxy: HTTPS_PROXY, ALL_PROXY and NO_PROXY are read, CONNECT is sent.

They are read as other programs read them, in lower case first. Only a proxy with an `http://` URL is known.
"""

import asyncio
import base64
import os
import socket
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

_VARIABLES = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
_HEAD_BYTES = 16_384
_USUAL_PORT = 80


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy, and its value of Proxy-Authorization (RFC 7617), "" for none."""

    host: str
    port: int
    credential: str = field(default="", repr=False)


def proxy_to(host: str) -> Proxy | None:
    """Return the proxy through which a host is reached by TLS; None for a direct connection. Raises OSError."""
    value = next(filter(None, (os.environ.get(name) for name in _VARIABLES)), "")
    if not value or host in ("localhost", "127.0.0.1", "::1") or host.endswith(".localhost"):
        return None
    from urllib.request import proxy_bypass  # slow to import

    if proxy_bypass(host):
        return None
    try:
        parts = urlsplit(value if "://" in value else f"http://{value}")
        port = parts.port or _USUAL_PORT
    except ValueError:
        raise OSError("HTTPS_PROXY is no URL as in http://proxy.example.com:3128") from None
    if parts.scheme != "http" or not parts.hostname:
        raise OSError("HTTPS_PROXY is no http:// URL, and other proxies are not supported")
    credential = ""
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        credential = f"Basic {base64.b64encode(pair.encode()).decode()}"
    return Proxy(parts.hostname, port, credential)


async def tunnel(proxy: Proxy, authority: str) -> socket.socket:
    """Return a connection to a host and port, made by the proxy (CONNECT, RFC 9110 section 9.3.6). Raises OSError."""
    loop = asyncio.get_running_loop()
    connected = await _connected(proxy)
    try:
        lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}"]
        if proxy.credential:
            lines.append(f"Proxy-Authorization: {proxy.credential}")
        await loop.sock_sendall(connected, "\r\n".join([*lines, "", ""]).encode("ascii"))
        head = b""
        while b"\r\n\r\n" not in head:  # nothing follows it: with TLS, the client speaks first
            piece = await loop.sock_recv(connected, 4096)
            head += piece
            if not piece or len(head) > _HEAD_BYTES:
                raise OSError("the proxy of HTTPS_PROXY does not answer properly")
        status = head.split(b" ", 2)[1:2]
        if status != [b"200"]:
            told = b"".join(status)[:3].decode("ascii", "replace")
            raise OSError(f"the proxy of HTTPS_PROXY answers with status {told}")
    except BaseException:
        connected.close()
        raise
    return connected


async def _connected(proxy: Proxy) -> socket.socket:
    loop = asyncio.get_running_loop()
    error: OSError = OSError("the proxy of HTTPS_PROXY has no address")
    for family, kind, protocol, _, address in await loop.getaddrinfo(proxy.host, proxy.port, type=socket.SOCK_STREAM):
        connected = socket.socket(family, kind, protocol)
        try:
            connected.setblocking(False)
            await loop.sock_connect(connected, address)
        except OSError as refused:
            connected.close()
            error = OSError(f"the proxy of HTTPS_PROXY cannot be reached: {refused.strerror}")
        except BaseException:
            connected.close()
            raise
        else:
            return connected
    raise error
