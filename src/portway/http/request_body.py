"""Reads the body of a request, up to a limit (413)."""

from __future__ import annotations

from types import MethodType
from typing import TYPE_CHECKING

from portway.http.request_cycle import RequestCycle

if TYPE_CHECKING:
    from portway.http.asgi import Receive


class BodyTooLarge(Exception):
    """The body is larger than the limit (413)."""


class ClientDisconnected(Exception):
    """The client left before its body was complete."""


async def read_body(length: bytes | None, receive: Receive, limit: int) -> bytes:
    """Return the whole body, chunked or not; `length` is the Content-Length header.

    Raise BodyTooLarge as soon as the length or the bytes received exceed `limit`, ClientDisconnected.
    """
    if length is not None and (len(length) > 18 or int(length) > limit):
        raise BodyTooLarge
    cycle = receive.__self__ if type(receive) is MethodType else None
    if type(cycle) is RequestCycle and (whole := cycle.whole_body()) is not None:  # of our HTTP server
        if len(whole) > limit:
            raise BodyTooLarge
        return whole
    body, more = bytearray(), True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnected
        body += message.get("body", b"")
        if len(body) > limit:
            raise BodyTooLarge
        more = message.get("more_body", False)
    return bytes(body)
