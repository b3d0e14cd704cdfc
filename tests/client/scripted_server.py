"""An HTTP server with scripted answers, such as no correct server sends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from tests.connection_server import serving


class Request(NamedTuple):
    """`message` is the body: a JSON object, or the fields of a form."""

    verb: str
    target: str
    headers: dict[str, str]
    message: dict[str, Any]


class Reply(NamedTuple):
    """`body` is sent as JSON; a list is sent as an event stream of its items, left open when it holds None.

    An item of bytes is an event as it is written.
    """

    body: Any = None
    status: int = 200
    headers: dict[str, str] = {}  # noqa: RUF012 - never changed


Script = Callable[[Request], Awaitable[Reply]]


@asynccontextmanager
async def scripted(script: Script) -> AsyncIterator[str]:
    """Yield the URL of a server that answers with `script`. An exception in it ends the connection."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while request := await _read(reader):
                await _write(writer, await script(request))
        except asyncio.CancelledError:
            writer.transport.abort()

    async with serving(serve) as port:
        yield f"http://127.0.0.1:{port}/mcp"


async def _read(reader: asyncio.StreamReader) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    verb, target, _ = head[0].split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    is_form = headers.get("content-type") == "application/x-www-form-urlencoded"
    message = dict(parse_qsl(body.decode())) if is_form else json.loads(body) if body else {}
    return Request(verb, target, headers, message)


async def _write(writer: asyncio.StreamWriter, reply: Reply) -> None:
    headers = {"content-type": "application/json", **reply.headers}
    if isinstance(reply.body, list):
        headers |= {"content-type": "text/event-stream", "connection": "close"}
        body = b"".join(
            item if isinstance(item, bytes) else b"data: %b\n\n" % json.dumps(item).encode()
            for item in reply.body
            if item is not None
        )
    else:
        body = b"" if reply.body is None else json.dumps(reply.body).encode()
        headers["content-length"] = str(len(body))
    head = f"HTTP/1.1 {reply.status} X\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    writer.write(head.encode() + b"\r\n" + body)
    await writer.drain()
    if isinstance(reply.body, list):
        if None in reply.body:
            await asyncio.Event().wait()
        raise ConnectionError
