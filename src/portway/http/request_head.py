"""What the head of a request may be (RFC 9112 section 3). llhttp has parsed it; this is what the parser lets pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from portway.http.asgi import Headers
    from portway.http.limits import Limits

INVALID = "The request is not valid HTTP/1.1."
_HASH: Final = ord("#")


class HeadRefused(Exception):
    """The head is answered with an error. `args` are the status and the sentence."""


def check_head(target: bytes, headers: Headers, limits: Limits, received: int) -> None:
    """Raise HeadRefused for a bad request target or a head over the limits; `received` counts a body's bytes too."""
    if not target.startswith(b"/"):  # RFC 9112 section 3.2.2: an absolute target would overrule Host
        raise HeadRefused(400, "The request target must be a path that starts with '/'.")
    if _HASH in target:  # RFC 9112 section 3.2: a target has no fragment
        raise HeadRefused(400, INVALID)
    if len(headers) > limits.header_count:
        raise HeadRefused(431, f"The request has more than {limits.header_count} headers.")
    if received > limits.header_bytes:
        size = len(target) + sum(len(name) + len(value) + 4 for name, value in headers)
        if size > limits.header_bytes:
            raise HeadRefused(431, f"The request headers are larger than {limits.header_bytes} bytes.")
