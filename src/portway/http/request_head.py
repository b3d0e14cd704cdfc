"""What the head of a request may be beyond what llhttp checks: its size and number of headers (431), its target (RFC
9112 sections 2.3, 3 and 6.1).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from portway.http.asgi import Headers
    from portway.http.limits import Limits

INVALID = "The request is not valid HTTP/1.1."
_ABSOLUTE: Final = re.compile(rb"(?i:https?)://([^/?]+)(.*)")
_HASH: Final = ord("#")


class HeadRefused(Exception):
    """The head is answered with an error. `args` are the status and the sentence."""


def check_head(target: bytes, headers: Headers, limits: Limits, received: int) -> None:
    """Raise HeadRefused for a fragment in the target or a head over the limits.

    `received` is an upper bound of the head's size: a part of the body may be included.
    """
    if _HASH in target:  # RFC 9112 section 3.2: a target has no fragment
        raise HeadRefused(400, INVALID)
    if len(headers) > limits.header_count:
        raise HeadRefused(431, f"The request has more than {limits.header_count} headers.")
    if received > limits.header_bytes:
        size = len(target) + sum(len(name) + len(value) + 4 for name, value in headers)
        if size > limits.header_bytes:
            raise HeadRefused(431, f"The request headers are larger than {limits.header_bytes} bytes.")


def origin_form(target: bytes, headers: Headers) -> tuple[bytes, Headers]:
    """Return path and query of an absolute target, and the headers with its authority as Host (RFC 9112 §3.2.2).

    Raise HeadRefused for any other target that is no path.
    """
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None:
        raise HeadRefused(400, "The request target must be a path that starts with '/'.")
    authority, rest = absolute.groups()
    path = rest if rest.startswith(b"/") else b"/" + rest
    return path, [(name, authority if name == b"host" else value) for name, value in headers]
