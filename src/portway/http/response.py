"""Sends a whole response over ASGI, or cuts one that cannot be completed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from portway.http.request_cycle import RequestCycle

if TYPE_CHECKING:
    from portway.http.asgi import Headers, Send

JSON = (b"content-type", b"application/json")


async def send_bytes(send: Send, status: int, body: bytes, headers: Headers) -> None:
    """Send one response. `headers` include the content type; the content length is added."""
    headers = [*headers, (b"content-length", b"%d" % len(body))]
    cycle = getattr(send, "__self__", None)
    if type(cycle) is RequestCycle and cycle.answer(status, headers, body):  # our HTTP server, with no wrapper between
        return
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def cut_short(send: Send) -> None:
    """End a response that cannot be completed, so that the client sees it cut. Do nothing if it is complete."""
    cycle = getattr(send, "__self__", None)
    if type(cycle) is RequestCycle:
        cycle.fail()
