"""How this server authenticates itself to its provider, as a client with a secret (RFC 6749 section 2.3.1)."""

import base64
from collections.abc import Collection
from urllib.parse import quote_plus

from portway.http.http_client import Headers
from portway.oauth.settings import OAuth


def authentication(settings: OAuth, methods: Collection[str]) -> tuple[Headers, dict[str, str]]:
    """Return the headers and the form fields that say who asks; `methods` are those that the provider takes."""
    if "client_secret_basic" in methods or "client_secret_post" not in methods:
        pair = f"{quote_plus(settings.client_id)}:{quote_plus(settings.client_secret)}"
        return [(b"authorization", b"Basic " + base64.b64encode(pair.encode()))], {}
    return [], {"client_id": settings.client_id, "client_secret": settings.client_secret}
