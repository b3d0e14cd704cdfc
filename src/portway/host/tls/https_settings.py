"""The HTTPS settings of `portway up`: domain, ports, where certificates come from."""

from dataclasses import dataclass
from pathlib import Path

HTTPS_PORT = 443
HTTP_PORT = 80


class HttpsError(Exception):
    """HTTPS cannot be served; the message is one sentence for the operator."""


@dataclass(frozen=True, slots=True)
class HttpsSettings:
    """What `portway up` was told of HTTPS. Port 0 is any free one.

    With `certificate` and `key`, files in PEM form, no authority is asked. Without, certificates come by ACME: from
    `acme_server`, the URL of its directory ("" for Let's Encrypt), whose own certificate `acme_ca` vouches for.
    """

    domain: str
    https_port: int = HTTPS_PORT
    http_port: int = HTTP_PORT
    certificate: Path | None = None
    key: Path | None = None
    acme_server: str = ""
    acme_email: str = ""
    acme_ca: Path | None = None
