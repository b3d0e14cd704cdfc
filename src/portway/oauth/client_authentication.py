"""How this server or client authenticates itself at a provider: basic, post or none (RFC 6749 section 2.3.1)."""

import base64
from collections.abc import Collection
from urllib.parse import quote_plus

from portway.http.http_client import Headers
from portway.oauth.settings import OAuth

FORM = (b"content-type", b"application/x-www-form-urlencoded")
"""The header of what is sent to an endpoint of a provider as a form."""


def authentication(settings: OAuth, methods: Collection[str]) -> tuple[Headers, dict[str, str]]:
    """Return the headers and the form fields by which this server says who asks; the provider takes `methods`."""
    is_basic = "client_secret_basic" in methods or "client_secret_post" not in methods
    method = "client_secret_basic" if is_basic else "client_secret_post"
    return client_authentication(settings.client_id, settings.client_secret, method)


def client_authentication(client_id: str, secret: str, method: str) -> tuple[Headers, dict[str, str]]:
    """Return the headers and the form fields of a method of RFC 7591 section 2: basic, post, or "none"."""
    if method == "client_secret_basic":
        pair = f"{quote_plus(client_id)}:{quote_plus(secret)}"
        return [(b"authorization", b"Basic " + base64.b64encode(pair.encode()))], {}
    return [], {"client_id": client_id} | ({"client_secret": secret} if method == "client_secret_post" else {})
