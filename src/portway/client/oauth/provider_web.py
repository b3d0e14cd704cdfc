"""Which addresses a server may lead the client to: https, and no private network unless the server is in one.

Addresses in a private network are asked only if the server itself, whose URL the user gave, is in one: a server on the
internet cannot lead the client to this machine or its network.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from portway.http.http_client import Headers
from portway.http.public_addresses import is_public
from portway.http.safe_fetch import look_up
from portway.http.web_url import read_url
from portway.oauth.client_authentication import FORM
from portway.oauth.guarded_fetch import Answer, GuardedFetchError, PrivateAddress, fetch
from portway.oauth.settings import is_loopback

_JSON = (b"content-type", b"application/json")


class ForbiddenAddress(GuardedFetchError):
    """The address is none that this server may lead to."""


@dataclass(frozen=True, slots=True)
class ProviderWeb:
    """The part of the web that a server may lead to: with `private`, also this machine and its network."""

    private: bool

    async def get(self, url: str) -> Answer:
        """GET a URL. Raises `GuardedFetchError`."""
        return await self._fetch(url)

    async def post_form(self, url: str, fields: Mapping[str, str], headers: Headers = ()) -> Answer:
        """POST a form. Raises `GuardedFetchError`."""
        return await self._fetch(url, urlencode(fields).encode(), (FORM, *headers))

    async def post_json(self, url: str, value: Mapping[str, object]) -> Answer:
        """POST JSON. Raises `GuardedFetchError`."""
        return await self._fetch(url, json.dumps(value).encode(), (_JSON,))

    async def delete(self, url: str, headers: Headers) -> Answer:
        """DELETE a URL. Raises `GuardedFetchError`."""
        return await self._fetch(url, headers=headers, method="DELETE")

    def check(self, url: str) -> None:
        """Raise `ForbiddenAddress` for a URL that is not https; plain http is for this machine alone."""
        try:
            parts = read_url(url)
        except ValueError:
            parts = None
        is_here = parts is not None and (is_loopback(parts.origin) or parts.host.endswith(".localhost"))
        if parts is None or not (parts.scheme == "https" or is_here) or not url.isascii():
            raise ForbiddenAddress(f"{url[:200]!r} is no https URL")
        if is_here and not self.private:
            raise _led_inside(url)

    async def _fetch(self, url: str, body: bytes | None = None, headers: Headers = (), method: str = "") -> Answer:
        self.check(url)
        try:
            return await fetch(url, private=self.private, body=body, headers=headers, for_user=True, method=method)
        except PrivateAddress:
            raise _led_inside(url) from None


def _led_inside(url: str) -> ForbiddenAddress:
    return ForbiddenAddress(f"{url[:200]} is in the network of this machine, where a server elsewhere may not lead")


async def web_of(url: str) -> ProviderWeb:
    """Return the part of the web that the server at `url` may lead to."""
    try:
        addresses = await look_up(read_url(url))
    except (OSError, ValueError):  # nothing is there, or not to be asked
        addresses = []
    return ProviderWeb(private=not all(map(is_public, addresses)))
