"""Reading a request's body, within a bound."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from portway.http.asgi import Receive


class BodyTooLarge(Exception):
    """The body is larger than the limit (413)."""


class ClientDisconnected(Exception):
    """The client left before its body was complete: there is nobody to answer."""


async def read_body(length: bytes | None, receive: Receive, limit: int) -> bytes:
    """The whole body, at most `limit` bytes. A Content-Length over the limit is refused before anything is read."""
    if length is not None and (len(length) > 18 or int(length) > limit):
        raise BodyTooLarge
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientDisconnected
    body: bytes = message.get("body", b"")
    if len(body) > limit:
        raise BodyTooLarge
    if not message.get("more_body", False):
        return body
    whole = bytearray(body)
    while message.get("more_body", False):
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnected
        whole += message.get("body", b"")
        if len(whole) > limit:
            raise BodyTooLarge
    return bytes(whole)
