"""An application on a real listener, and a client of it that speaks HTTP, with event streams and sessions."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from portway.http.event_stream import Event, EventParser
from portway.http.http_client import HttpClient, Response
from portway.http.serve import Bind, serve

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from portway.transport.http_app import HttpApp

MODERN, LEGACY = "2026-07-28", "2025-11-25"
ENVELOPE = {"io.modelcontextprotocol/protocolVersion": MODERN, "io.modelcontextprotocol/clientCapabilities": {}}
BASE = {"content-type": "application/json", "accept": "application/json, text/event-stream"}


def served(scenario: Callable[[str, HttpClient], Awaitable[None]], application: HttpApp) -> None:
    """Run `scenario(url, client)` against an application on a real listener, which then stops as a process would."""

    async def main() -> None:
        ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        stop = asyncio.Event()
        listening = asyncio.create_task(serve(application, Bind("127.0.0.1", 0), on_ready=ready.set_result, stop=stop))
        url = await ready
        client = HttpClient(url)
        try:
            await scenario(url, client)
        finally:
            await client.close()
            application.end_streams()
            stop.set()
            await listening

    asyncio.run(main())


def envelope(method: str, params: dict[str, Any] | None = None, request_id: object = 1, **meta: object) -> bytes:
    """Return the body of a modern request."""
    body = {"jsonrpc": "2.0", "id": request_id, "method": method}
    return json.dumps(body | {"params": (params or {}) | {"_meta": ENVELOPE | meta}}).encode()


async def request(client: HttpClient, http_method: str, body: bytes = b"", **headers: str) -> Response:
    """Send one request; `headers` by name with underscores."""
    fields = BASE | {name.replace("_", "-"): value for name, value in headers.items()}
    return await client.request(http_method, "/mcp", [(k.encode(), v.encode()) for k, v in fields.items()], body)


async def post(client: HttpClient, body: bytes, **headers: str) -> Response:
    """POST a body as it is."""
    return await request(client, "POST", body, **headers)


class Legacy:
    """A legacy client and the headers of all its requests, those of its session included."""

    def __init__(self, client: HttpClient, version: str = LEGACY, **headers: str) -> None:
        self.client = client
        self.version = version
        self.headers = headers

    async def initialize(self, **capabilities: object) -> Legacy:
        """Open a session, where the server gives one."""
        info = {"name": "posting", "version": "1"}
        params = {"protocolVersion": self.version, "capabilities": capabilities, "clientInfo": info}
        response = await self.send("initialize", params)
        assert json.loads(await response.read(99_999))["result"]["protocolVersion"] == self.version
        self.headers["mcp_protocol_version"] = self.version
        session = dict(response.headers).get(b"mcp-session-id")
        if session is not None:
            self.headers["mcp_session_id"] = session.decode()
        return self

    async def send(self, method: str, params: object = None, request_id: object = 1, **headers: str) -> Response:
        """POST a request, or a notification where `request_id` is None."""
        body = {"jsonrpc": "2.0", "method": method, "params": params or {}}
        return await self.raw(body if request_id is None else body | {"id": request_id}, **headers)

    async def raw(self, body: object, **headers: str) -> Response:
        """POST any JSON."""
        return await post(self.client, json.dumps(body).encode(), **self.headers | headers)

    async def call(self, tool: str, request_id: object = 1, **arguments: object) -> Response:
        """POST a tools/call that asks for progress."""
        params = {"name": tool, "arguments": arguments, "_meta": {"progressToken": 0}}
        return await self.send("tools/call", params, request_id)

    async def get(self, last_event_id: str = "", **headers: str) -> Response:
        """GET the session's stream, or resume one after an event."""
        resume = {"last_event_id": last_event_id} if last_event_id else {}
        return await request(self.client, "GET", **self.headers | resume | headers)


class Events:
    """The events of a response as they come."""

    def __init__(self, response: Response) -> None:
        assert dict(response.headers)[b"content-type"] == b"text/event-stream"
        self._response = response
        self._chunks = response.chunks()
        self._parser = EventParser()
        self._ready: list[Event] = []

    async def next(self) -> Event | None:
        """Return the next event, None at the end of the stream."""
        while not self._ready:
            chunk = await anext(self._chunks, None)
            if chunk is None:
                return None
            self._ready = self._parser.feed(chunk)
        return self._ready.pop(0)

    async def message(self) -> Any:
        """Return the JSON of the next event that has data."""
        while (event := await self.next()) is not None:
            if event.data:
                return json.loads(event.data)
        return None

    async def rest(self) -> list[Event]:
        """Return all events until the end of the stream."""
        events = []
        while (event := await self.next()) is not None:
            events.append(event)
        return events

    async def leave(self) -> None:
        """Close the connection, like a client that has lost the network."""
        await self._response.close()


async def reply(response: Response) -> Any:
    """Return the JSON of a whole response."""
    return json.loads(await response.read(9_999_999))
