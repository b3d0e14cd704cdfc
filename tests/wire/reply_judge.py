"""Holds what servers of this process send over HTTP to the models of its revision, whatever the test."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Asgi = Callable[..., Awaitable[None]]


def judged(application: Asgi, faults: list[str]) -> Asgi:
    """`application.__call__` with its messages judged; what does not hold is added to `faults`."""

    async def call(self: Any, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return await application(self, scope, receive, send)
        asked, said, headers, whole = bytearray(), bytearray(), {}, False

        async def receiving() -> Any:
            event = await receive()
            asked.extend(event.get("body") or b"")
            return event

        async def sending(event: Any) -> None:
            nonlocal whole
            headers.update(event.get("headers", ()))
            said.extend(event.get("body") or b"")
            whole = event["type"] == "http.response.body" and not event.get("more_body", False)
            await send(event)

        try:
            await application(self, scope, receiving, sending)
        finally:
            if scope["path"] == "/mcp" and whole and not asked.startswith(b"["):  # of a batch, who answers what?
                faults.extend(unsound(scope, bytes(asked), headers.get(b"content-type", b""), bytes(said)))

    return call


def unsound(scope: Any, asked: bytes, content_type: bytes, said: bytes) -> list[str]:
    """What of a response is no message of its revision."""
    from tests.wire.http_server import messages, revision
    from tests.wire.oracle import judge

    faults = []
    headers = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]}
    version, method = revision(asked, headers.get("mcp-protocol-version"))
    for message in messages(content_type.decode(), said):
        if scope["method"] == "GET" and "method" not in message:
            continue  # a reply that was fetched later: to what, only its client knows
        try:
            judge(version, method, message)
        except Exception as error:  # noqa: BLE001 - whatever a model has to say against it
            faults.append(f"{version} {method}: {json.dumps(message)[:500]}\n{error}")
    return faults
