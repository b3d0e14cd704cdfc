"""A server on a real socket, in a thread of this process, and a client that sends exactly what a test gives it."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from msgspec import UNSET

from portway.http.serve import Bind, Limits, serve
from portway.protocol.era import classify
from portway.protocol.jsonrpc import UnreadableMessage, decode
from portway.protocol.versions import Era
from tests.wire.oracle import LEGACY, META, MODERN, Json, validate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Validate = Callable[[Json], object]

VERSIONS = (LEGACY, MODERN)
ROUTED_BY = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}


@dataclass(frozen=True)
class Reply:
    """The response to one POST: `messages` are the notifications and the reply, in order."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    messages: list[Json] = field(default_factory=list)

    @property
    def last(self) -> Json:
        return self.messages[-1]


class Stream:
    """An open event stream, on its own connection."""

    def __init__(self, connection: http.client.HTTPConnection, validate: Validate) -> None:
        self._connection = connection
        self._response = connection.getresponse()
        self._validate = validate
        self.status = self._response.status
        self.headers = self._response.headers
        self.messages: list[Json] = []
        """The messages received so far."""
        self.event_id = ""
        self.retry = ""

    def next(self) -> Json | None:
        """Return the next message, None at the end of the stream. A JSON reply is a stream of one message."""
        if self.headers.get_content_type() == "application/json":
            return self._take(self._response.read())
        for line in self._response:
            name, _, value = line.decode().rstrip("\r\n").partition(":")
            if name == "id":
                self.event_id = value.strip()
            elif name == "retry":
                self.retry = value.strip()
            elif name == "data" and value.strip():
                return self._take(value)
        return None

    def _take(self, text: str | bytes) -> Json | None:
        if not text:
            return None
        self.messages.append(json.loads(text))
        self._validate(self.messages[-1])
        return self.messages[-1]

    def rest(self) -> list[Json]:
        """Read all messages until the stream ends."""
        decoded = list(iter(self.next, None))
        self.close()
        return decoded

    def close(self) -> None:
        self._response.close()
        self._connection.close()


class Client:
    """A kept-alive connection that adds only Content-Length and Host to a request.

    Every received message is validated with the models of its revision, unless `validated` is False.
    """

    def __init__(self, url: str, *, path: str = "/mcp", validated: bool = True) -> None:
        self.url = url
        parts = urlsplit(url)
        self._path = path
        self._validated = validated
        self.authority = parts.netloc
        self._connection = self._connect()

    def send(self, body: bytes, headers: Mapping[str, str], *, verb: str = "POST", path: str = "") -> Reply:
        self._connection.request(verb, path or self._path, body, dict(headers))
        response = self._connection.getresponse()
        payload = response.read()
        reply = Reply(response.status, {k.lower(): v for k, v in response.getheaders()}, payload)
        reply.messages.extend(messages(reply.headers.get("content-type", ""), payload))
        validate = self._validate(body, headers)
        for message in reply.messages:
            validate(message)
        return reply

    def stream(self, body: bytes, headers: Mapping[str, str], *, verb: str = "POST", method: str = "") -> Stream:
        """Send a request and read the reply event by event; a GET may fetch the reply to an earlier `method`."""
        connection = self._connect()
        connection.request(verb, self._path, body, dict(headers))
        return Stream(connection, self._validate(body, headers, method))

    def ask(self, version: str, method: str, params: Json | None = None, **changes: Any) -> Reply:
        """Send a well-formed request of a revision; `changes` are the keywords of `request`."""
        message, headers = request(version, method, params, **changes)
        return self.send(json.dumps(message).encode(), headers)

    def listen(self, version: str, method: str, params: Json | None = None, **changes: Any) -> Stream:
        """Do the same as `ask`, but read the reply event by event."""
        message, headers = request(version, method, params, **changes)
        return self.stream(json.dumps(message).encode(), headers)

    def close(self) -> None:
        self._connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.authority, timeout=120)

    def _validate(self, body: bytes, headers: Mapping[str, str], method: str = "") -> Validate:
        version, asked = revision(body, headers.get("MCP-Protocol-Version"))
        return partial(validate, version, method or asked) if self._validated else lambda _: None


def revision(body: bytes, version: str | None) -> tuple[str, str]:
    """Return the revision and the method of a request; for an unreadable one, those of its error reply."""
    try:
        message = decode(body)
    except UnreadableMessage:
        return LEGACY, ""
    era = classify(message, version)
    return MODERN if era is Era.MODERN else LEGACY, "" if message.method is UNSET else message.method


def request(
    version: str,
    method: str,
    params: Json | None = None,
    *,
    id: int | str = 1,  # noqa: A002 - the wire's name
    meta: Json | None = None,
    token: str | None = None,
    session: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> tuple[Json, dict[str, str]]:
    """Return the message and headers that a conforming client sends."""
    headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"} | dict(
        headers or {}
    )
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    if session is not None:
        headers["Mcp-Session-Id"] = session
    if method != "initialize":
        headers["MCP-Protocol-Version"] = version
    params = dict(params or {})
    meta = dict(meta or {})
    if version == MODERN:
        meta = {META + "protocolVersion": version, META + "clientCapabilities": {}} | meta
        headers["Mcp-Method"] = method
        if method in ROUTED_BY and ROUTED_BY[method] in params:
            headers["Mcp-Name"] = params[ROUTED_BY[method]]
    if meta:
        params["_meta"] = meta
    message: Json = {"jsonrpc": "2.0", "id": id, "method": method}
    return (message | {"params": params} if params else message), headers


def messages(content_type: str, body: bytes) -> list[Json]:
    """Return the messages of a response, in order; an event that was cut off is left out."""
    if content_type.startswith("text/event-stream"):
        events = body.decode().replace("\r\n", "\n").split("\n\n")[:-1]
        lines = [line for event in events for line in event.splitlines()]
        return [json.loads(line[5:]) for line in lines if line.startswith("data:") and line[5:].strip()]
    if not body or content_type != "application/json":
        return []
    decoded = json.loads(body)
    return decoded if isinstance(decoded, list) else [decoded]  # a batch


@contextmanager
def served(app: Any) -> Iterator[str]:
    """Serve an ASGI application on a free port of 127.0.0.1 while the block lasts; give its URL."""
    ready, addresses, failures = threading.Event(), [], []

    async def main() -> None:
        stops.append(stop := asyncio.Event())
        loops.append(asyncio.get_running_loop())

        def on_ready(url: str) -> None:
            addresses.append(url)
            ready.set()

        await serve(app, Bind(host="127.0.0.1", port=0), Limits(shutdown_seconds=1), on_ready=on_ready, stop=stop)

    def work() -> None:
        try:
            asyncio.run(main())
        except BaseException as error:  # noqa: BLE001 - raised in the thread of the test
            failures.append(error)
        finally:
            ready.set()

    stops: list[asyncio.Event] = []
    loops: list[asyncio.AbstractEventLoop] = []
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    ready.wait(120)
    if failures:
        raise failures[0]
    try:
        yield addresses[0]
    finally:
        loops[0].call_soon_threadsafe(stops[0].set)
        thread.join(10)
        assert not thread.is_alive(), "the server did not stop"
        if failures:
            raise failures[0]
