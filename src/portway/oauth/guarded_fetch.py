"""Fetches JSON of an identity provider, guarded: https, no private address unless allowed, 512 KB and 10 s at most, no
redirects.
"""

import asyncio
from typing import NamedTuple, TypeVar

import msgspec

from portway.http.http_client import Headers, UpstreamError
from portway.http.public_addresses import is_public
from portway.http.safe_fetch import look_up, request_at
from portway.http.tunnel import proxy_to
from portway.http.web_url import HostList, WebUrl, read_url
from portway.oauth.settings import is_loopback
from portway.protocol.jsonrpc import UNREADABLE

T = TypeVar("T")
_SECONDS = 10.0  # for the look-up of the name and the whole answer
_MOST_BYTES = 512 * 1024
_OUTSIDE = HostList("*")


class GuardedFetchError(Exception):
    """It could not be fetched; the message is one sentence for the operator. `status` is the answer's, 0 for none."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class PrivateAddress(GuardedFetchError):
    """The host is in this machine's network, and that was not allowed."""


class Answer(NamedTuple):
    """What a provider answered."""

    status: int
    body: bytes
    headers: Headers = ()


async def fetch_json(url: str, kind: type[T], *, private: bool, body: bytes | None = None, headers: Headers = ()) -> T:
    """Return the JSON that a URL answers with. Raises `GuardedFetchError`, and what `fetch` raises."""
    answer = await fetch(url, private=private, body=body, headers=headers)
    if answer.status != 200:
        raise GuardedFetchError(f"{url} answers with status {answer.status}", answer.status)
    try:
        return msgspec.json.decode(answer.body, type=kind)
    except UNREADABLE:
        raise GuardedFetchError(f"{url} does not answer with the JSON that is expected there") from None


async def fetch(
    url: str,
    *,
    private: bool,
    body: bytes | None = None,
    headers: Headers = (),
    for_user: bool = False,
    method: str = "",
) -> Answer:
    """GET a URL, POST a body to it, or do what `method` says. Redirects are not followed. Raises `GuardedFetchError`.

    Only https, and plain http to this machine, if the URL says localhost. With `private`, the host may be in this
    machine's network. What a person runs (`for_user`) also goes to names below localhost, and through the proxy that
    the environment names, which looks names up itself: then an inner name or address is known by its form alone.
    """
    try:
        async with asyncio.timeout(_SECONDS):
            method = method or ("GET" if body is None else "POST")
            return await _fetch(method, url, body, headers, private=private, for_user=for_user)
    except TimeoutError:
        raise GuardedFetchError(f"{url} did not answer within {_SECONDS:g} s") from None


async def _fetch(
    method: str, url: str, body: bytes | None, headers: Headers, *, private: bool, for_user: bool
) -> Answer:
    try:
        parts = read_url(url)
        is_by_proxy = for_user and parts.scheme == "https" and proxy_to(parts.host) is not None
    except ValueError:
        raise GuardedFetchError(f"{url[:200]} is no URL") from None
    except OSError as error:
        raise GuardedFetchError(f"{url} could not be read: {error}") from None
    if is_by_proxy and not private and not _OUTSIDE.admits(parts):
        raise _is_private(parts)
    addresses = [] if is_by_proxy else await _addresses(parts, url, private=private, for_user=for_user)
    fields = [(b"accept", b"application/json"), *headers]
    try:
        response, content = await request_at(parts, addresses, method, fields, body or b"", _MOST_BYTES)
    except (UpstreamError, ValueError) as error:
        raise GuardedFetchError(f"{url} could not be read: {error}") from None
    return Answer(response.status, content, response.headers)


async def _addresses(parts: WebUrl, url: str, *, private: bool, for_user: bool) -> list[str]:
    """Return the addresses that may be connected to, so that the name is not looked up again."""
    is_here = is_loopback(parts.origin) or (for_user and parts.host.endswith(".localhost"))
    if parts.scheme != "https" and not is_here:
        raise GuardedFetchError(f"{url[:200]} is no https URL")
    try:
        addresses = await look_up(parts)
    except (OSError, UnicodeError):
        raise GuardedFetchError(f"the host {parts.host[:100]} is not found") from None
    if not private and not all(map(is_public, addresses)):
        raise _is_private(parts)
    return addresses


def _is_private(parts: WebUrl) -> PrivateAddress:
    return PrivateAddress(f"{parts.host} is in the network of this machine, and PORTWAY_AUTH_PRIVATE is not 1")
