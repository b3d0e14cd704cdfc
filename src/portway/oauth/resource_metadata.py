"""Protected resource metadata: where clients of a server log in (RFC 9728)."""

from collections.abc import Sequence
from urllib.parse import urlsplit

import msgspec

from portway.oauth.settings import OAuth

WELL_KNOWN = "/.well-known/oauth-protected-resource"


class ResourceMetadata(msgspec.Struct, omit_defaults=True):
    """The members that clients read (RFC 9728 section 2)."""

    resource: str
    authorization_servers: list[str]
    scopes_supported: list[str] = []
    bearer_methods_supported: Sequence[str] = ()
    resource_name: str = ""


def resource_metadata(settings: OAuth, name: str) -> bytes:
    """Return the metadata of a server as JSON; `name` is what people see."""
    return msgspec.json.encode(
        ResourceMetadata(settings.resource, [settings.issuer], list(settings.scopes), ("header",), name)
    )


def metadata_url(settings: OAuth) -> str:
    """Return where the metadata is: the well-known path is put before that of the resource (section 3.1)."""
    parts = urlsplit(settings.resource)
    return f"{parts.scheme}://{parts.netloc}{WELL_KNOWN}{parts.path.rstrip('/')}"
