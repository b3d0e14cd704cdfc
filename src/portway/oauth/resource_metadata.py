"""Protected resource metadata, which tells clients where to log in and which scopes to ask for, and how a request for
it is answered (RFC 9728).
"""

from collections.abc import Iterable, Sequence
from urllib.parse import urlsplit

import msgspec

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


def resource_metadata(providers: Sequence[OAuth], name: str) -> bytes:
    """Return the metadata of a server as JSON; `name` is what people see."""
    issuers, scopes = [each.issuer for each in providers], scopes_of(providers)
    return msgspec.json.encode(ResourceMetadata(providers[0].resource, issuers, scopes, ("header",), name))


def scopes_of(providers: Iterable[OAuth]) -> list[str]:
    """Return the scopes that clients are told to ask for: those of every provider."""
    return list(dict.fromkeys(scope for each in providers for scope in each.scopes))


def metadata_url(settings: OAuth) -> str:
    """Return where the metadata is: the well-known path is put before that of the resource (section 3.1)."""
    parts = urlsplit(settings.resource)
    return f"{parts.scheme}://{parts.netloc}{WELL_KNOWN}{parts.path.rstrip('/')}"


async def send_metadata(scope: Scope, send: Send, metadata: bytes) -> None:
    """Answer a request for metadata, which the pages of every origin may read."""
    if scope["method"] == "OPTIONS":
        await send_bytes(send, 204, b"", _PREFLIGHT)
    elif scope["method"] in ("GET", "HEAD"):
        await send_bytes(send, 200, metadata, [JSON, _ANY_PAGE])
    else:
        await send_bytes(send, 405, b"", [(b"allow", b"GET, HEAD"), _ANY_PAGE])
