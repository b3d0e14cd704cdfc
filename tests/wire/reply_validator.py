"""Validates everything that servers of this process send over HTTP, in whatever test."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Asgi = Callable[..., Awaitable[None]]


def validated(application: Asgi, faults: list[str]) -> Asgi:
    """Wrap `application.__call__` so that its invalid messages are added to `faults`."""

    async def call(self: Any, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return await application(self, scope, receive, send)
        request_body, response_body, headers, complete = bytearray(), bytearray(), {}, False

        async def receiving() -> Any:
            event = await receive()
            request_body.extend(event.get("body") or b"")
            return event

        async def sending(event: Any) -> None:
            nonlocal complete
            headers.update(event.get("headers", ()))
            response_body.extend(event.get("body") or b"")
            complete = event["type"] == "http.response.body" and not event.get("more_body", False)
            await send(event)

        try:
            await application(self, scope, receiving, sending)
        finally:
            if (
                scope["path"] == "/mcp" and complete and not request_body.startswith(b"[")
            ):  # a batch: the request of a reply is unknown
                faults.extend(
                    invalid_messages(
                        scope, bytes(request_body), headers.get(b"content-type", b""), bytes(response_body)
                    )
                )

    return call


def invalid_messages(scope: Any, request_body: bytes, content_type: bytes, response_body: bytes) -> list[str]:
    """Describe the messages of a response that are invalid in its revision."""
    from tests.wire.http_server import messages, revision
    from tests.wire.oracle import validate

    faults = []
    headers = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]}
    version, method = revision(request_body, headers.get("mcp-protocol-version"))
    for message in messages(content_type.decode(), response_body):
        if scope["method"] == "GET" and "method" not in message:
            continue  # a resumed reply: only its client knows the request
        try:
            validate(version, method, message)
        except Exception as error:  # noqa: BLE001 - a model may raise anything
            faults.append(f"{version} {method}: {json.dumps(message)[:500]}\n{error}")
    return faults
