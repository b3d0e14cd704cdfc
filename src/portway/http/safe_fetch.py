"""`safe_fetch`: a request to a URL that somebody else chose, which reaches no private address: redirects, allowed
hosts, sizes and times are bounded (SSRF).

The host's name is looked up once, every address that it has is checked, and the connection is made to a checked one, so
that a name which changes its address in between (DNS rebinding) changes nothing.
"""

import asyncio
import contextlib
import re
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urljoin

from portway.counted import counted
from portway.exceptions import ToolError
from portway.http.http_client import ConnectFailed, Headers, HttpClient, Response, UpstreamError
from portway.http.localhost import name_to_look_up
from portway.http.public_addresses import is_public
from portway.http.web_url import HostList, WebUrl, read_url

_REDIRECTS = (301, 302, 303, 307, 308)
_SECRET = ("authorization", "cookie", "proxy-authorization")  # these headers are for the host that was asked first
_BODY = ("content-type", "content-length", "content-encoding")
_TOKEN = re.compile(
    r"(?!(?:host|connection|content-length|transfer-encoding)\Z)[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.IGNORECASE
)
_LONGEST_SHOWN = 200
_MOST_ADDRESSES = 4  # of a name that are tried


class FetchError(ToolError):
    """A URL could not be fetched, or may not be. A tool that lets it pass tells the client its text."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """An answer. `url` is where it came from, after redirects; `headers` have lower-case names."""

    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes


async def safe_fetch(
    url: str,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    hosts: Iterable[str] | None = None,
    max_bytes: int = 1024 * 1024,
    timeout: float = 20.0,  # noqa: ASYNC109 - of the whole, redirects included
    redirects: int = 3,
    private: bool = False,
) -> Fetched:
    """Fetch a URL of http or https, and follow at most so many redirects, each checked like the first URL.

    `hosts` are the only ones allowed: `api.example.com`, `*.example.com`, with a port if only that one is meant. Only
    hosts on the internet are connected to, or, with `private`, any. `max_bytes` bounds the answer's body, `timeout`
    (seconds) the whole. Any status is returned. Raises FetchError.
    """
    allowed = None if hosts is None else HostList(hosts)
    try:
        async with asyncio.timeout(timeout):
            return await _follow(url, method, dict(headers or {}), body, allowed, max_bytes, redirects, private=private)
    except TimeoutError:
        raise FetchError(f"{_shown(url)} did not answer within {counted(timeout, 'second')}.") from None


async def _follow(
    url: str,
    method: str,
    headers: dict[str, str],
    body: bytes,
    allowed: HostList | None,
    max_bytes: int,
    redirects: int,
    *,
    private: bool,
) -> Fetched:
    parts = _read(url)
    for followed in range(redirects + 1):
        if allowed is not None and not allowed.admits(parts):
            raise FetchError(f"{_shown(parts.origin)} is not of an allowed host: {', '.join(allowed.entries)}.")
        addresses = await _checked_addresses(parts, private=private)
        try:
            fields = _fields(method, headers)
            response, content = await request_at(parts, addresses, method, fields, body, max_bytes)
        except (UpstreamError, ValueError) as error:
            raise FetchError(f"{_shown(url)} could not be fetched: {error}.") from None
        status = response.status
        answered = {name.decode("latin-1"): value.decode("latin-1") for name, value in response.headers}
        if status not in _REDIRECTS or "location" not in answered or not redirects:
            return Fetched(parts.origin + parts.target, status, answered, content)
        if followed == redirects:
            break
        following = _read(urljoin(parts.origin + parts.target, answered["location"]))
        if parts.scheme == "https" and following.scheme == "http":
            raise FetchError(f"{_shown(url)} leads from https to http, which is not followed.")
        if following.origin != parts.origin:
            headers = {name: value for name, value in headers.items() if name.lower() not in _SECRET}
        if status == 303 or (status in (301, 302) and method == "POST"):
            method, body = "GET" if method != "HEAD" else method, b""
            headers = {name: value for name, value in headers.items() if name.lower() not in _BODY}
        parts = following
    raise FetchError(f"{_shown(url)} leads on more than {redirects} times.")


async def look_up(url: WebUrl) -> list[str]:
    """Return the addresses of a URL's host. Raises OSError when there are none."""
    host = name_to_look_up(url.host)
    found = await asyncio.get_running_loop().getaddrinfo(host, url.port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


async def request_at(
    url: WebUrl, addresses: Sequence[str], method: str, headers: Headers, body: bytes, max_bytes: int
) -> tuple[Response, bytes]:
    """Send a request to the host of `url`, at the first of its addresses to which there is a connection.

    Without any address, it goes through the proxy that the environment names for that host.
    Return the response and its body. Raises UpstreamError, also for a body that is longer than `max_bytes`, and
    ValueError for what HTTP cannot send.
    """
    if not addresses:
        return await _request(url, None, method, headers, body, max_bytes)
    *others, last = addresses[:_MOST_ADDRESSES]
    for address in others:
        with contextlib.suppress(ConnectFailed):
            return await _request(url, address, method, headers, body, max_bytes)
    return await _request(url, last, method, headers, body, max_bytes)


async def _request(
    url: WebUrl, address: str | None, method: str, headers: Headers, body: bytes, max_bytes: int
) -> tuple[Response, bytes]:
    async with HttpClient(url.origin, connects_to=address, by_proxy=address is None) as client:
        response = await client.request(method, url.target, headers, body)
        return response, await response.read(max_bytes)


def _fields(method: str, headers: Mapping[str, str]) -> Headers:
    """Return headers as they are sent. Raises ValueError for those that HTTP has not, or that are set here."""
    if not _TOKEN.fullmatch(method) or not all(_TOKEN.fullmatch(name) for name in headers):
        raise ValueError("the method or the name of a header is none of HTTP")
    if any(max(value, default="") > "ÿ" for value in headers.values()):
        raise ValueError("the value of a header has a character that HTTP has not: encode it, as in %D1%8B")
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]


def _read(url: str) -> WebUrl:
    try:
        return read_url(url)
    except ValueError as error:
        raise FetchError(f"{_shown(url)} is not fetched: it is {error}.") from None


async def _checked_addresses(url: WebUrl, *, private: bool) -> list[str]:
    try:
        addresses = await look_up(url)
    except (OSError, UnicodeError):
        addresses = []
    if not addresses or not (private or all(map(is_public, addresses))):  # told alike: inner names are no secret then
        raise FetchError(f"{_shown(url.host)} has no address on the internet.")
    return addresses


def _shown(url: str) -> str:
    return url if len(url) <= _LONGEST_SHOWN and url.isprintable() else ascii(url[:_LONGEST_SHOWN])
