"""Fetches JSON of an identity provider, guarded: where it may be, how large it is, how long it takes."""

import asyncio
import socket
from typing import NamedTuple, TypeVar
from urllib.parse import urlsplit

import msgspec

from portway.http.http_client import Headers, HttpClient, UpstreamError
from portway.http.public_addresses import is_public
from portway.oauth.settings import is_loopback
from portway.protocol.jsonrpc import UNREADABLE

T = TypeVar("T")
_SECONDS = 10.0  # for the look-up of the name and the whole answer
_MOST_BYTES = 512 * 1024


class FetchError(Exception):
    """It could not be fetched; the message is one sentence for the operator. `status` is the answer's, 0 for none."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class Answer(NamedTuple):
    """What a provider answered."""

    status: int
    body: bytes


async def fetch_json(url: str, kind: type[T], *, private: bool) -> T:
    """Return the JSON at a URL. Raises `FetchError`, and what `fetch` raises."""
    answer = await fetch(url, private=private)
    if answer.status != 200:
        raise FetchError(f"{url} answers with status {answer.status}", answer.status)
    try:
        return msgspec.json.decode(answer.body, type=kind)
    except UNREADABLE:
        raise FetchError(f"{url} does not answer with the JSON that is expected there") from None


async def fetch(url: str, *, private: bool, body: bytes | None = None, headers: Headers = ()) -> Answer:
    """GET a URL, or POST a body to it. Redirects are not followed. Raises `FetchError`.

    Only https, and plain http to this machine, if the URL says localhost. With `private`, the host may be in this
    machine's network.
    """
    try:
        async with asyncio.timeout(_SECONDS):
            return await _fetch(url, body, headers, private=private)
    except TimeoutError:
        raise FetchError(f"{url} did not answer within {_SECONDS:g} s") from None


async def _fetch(url: str, body: bytes | None, headers: Headers, *, private: bool) -> Answer:
    try:
        parts = urlsplit(url)
        address = await _address(parts.hostname or "", parts.port or 443, url, private=private)
        client = HttpClient(url, connects_to=address)
    except ValueError:
        raise FetchError(f"{url[:200]} is no URL") from None
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    fields = [(b"accept", b"application/json"), *headers]
    try:
        response = await client.request("GET" if body is None else "POST", target, fields, body or b"")
        return Answer(response.status, await response.read(_MOST_BYTES))
    except (UpstreamError, ValueError) as error:
        raise FetchError(f"{url} could not be read: {error}") from None
    finally:
        await client.close()


async def _address(host: str, port: int, url: str, *, private: bool) -> str:
    """Return an address that may be connected to, so that the name is not looked up again."""
    if not (url.startswith("https://") or (url.startswith("http://") and is_loopback(url))):
        raise FetchError(f"{url[:200]} is no https URL")
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise FetchError(f"the host {host[:100]} is not found") from None
    addresses = [str(entry[4][0]) for entry in found]
    if not private and not is_loopback(url) and not all(map(is_public, addresses)):
        raise FetchError(f"{host} is in the network of this machine, and PORTWAY_AUTH_PRIVATE is not 1")
    return addresses[0]
