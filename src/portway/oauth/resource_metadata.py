"""Protected resource metadata, which tells clients where to log in and which scopes to ask for, and how a request for
it is answered (RFC 9728).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import msgspec

from portway.auth.challenge import Challenge
from portway.http.asgi import Scope, Send
from portway.http.response import JSON, send_bytes
from portway.oauth.settings import OAuth

WELL_KNOWN = "/.well-known/oauth-protected-resource"
_ANY_PAGE = (b"access-control-allow-origin", b"*")  # it is for everybody
_PREFLIGHT = [
    _ANY_PAGE,
    (b"access-control-allow-methods", b"GET"),
    (b"access-control-allow-headers", b"*"),
    (b"access-control-max-age", b"600"),
]


class ResourceMetadata(msgspec.Struct, omit_defaults=True):
    """The members that clients read (RFC 9728 section 2)."""

    resource: str
    authorization_servers: list[str]
    scopes_supported: list[str] = []
    bearer_methods_supported: Sequence[str] = ()
    resource_name: str = ""


@dataclass(frozen=True, slots=True)
class Resource:
    """A server under one URL: the `metadata` as JSON, and the challenges that lead there."""

    metadata: bytes
    challenge: Challenge


Resources = tuple[Resource, Resource]
"""A server under its URL without a slash at the end, and with one.

Clients compare the URL in the metadata with the one that they use, letter by letter (section 3.3).
"""


def resources(providers: Sequence[OAuth], name: str) -> Resources:
    """Return what clients of a server are told; `name` is what people see. A URL without a path has no two forms."""
    scopes = list(dict.fromkeys(scope for each in providers for scope in each.scopes))
    url = providers[0].resource
    parts = urlsplit(url)
    path = parts.path.rstrip("/")
    urls = [url.rstrip("/"), url.rstrip("/") + "/"] if path else [url, url]

    def under(url: str, end: str) -> Resource:
        told = ResourceMetadata(url, [each.issuer for each in providers], scopes, ("header",), name)
        # The well-known path is put before that of the resource (section 3.1).
        address = f"{parts.scheme}://{parts.netloc}{WELL_KNOWN}{path}{end}"
        return Resource(msgspec.json.encode(told), Challenge(address, scopes))

    return under(urls[0], ""), under(urls[1], "/" if path else "")


async def send_metadata(scope: Scope, send: Send, metadata: bytes) -> None:
    """Answer a request for metadata, which the pages of every origin may read."""
    if scope["method"] == "OPTIONS":
        await send_bytes(send, 204, b"", _PREFLIGHT)
    elif scope["method"] in ("GET", "HEAD"):
        await send_bytes(send, 200, metadata, [JSON, _ANY_PAGE])
    else:
        await send_bytes(send, 405, b"", [(b"allow", b"GET, HEAD"), _ANY_PAGE])
