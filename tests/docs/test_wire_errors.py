"""The errors of docs/errors-protocol.md, each provoked over a socket: the reply has the text of the page."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from portway import Context, Server
from portway.auth.tokens import NamedTokens
from portway.http.limits import Limits
from portway.transport.http_app import HttpApp
from tests.http.running_listener import Listener, read_all

ENVELOPE = {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}
TOKEN = b"Authorization: Bearer ada-secret"
server = Server("wire")


@server.tool(scopes=["admin"])
def guarded() -> None: ...


@server.prompt
def greet(name: str) -> str:
    return name


@server.tool
def failing() -> None:
    raise KeyError("ada-secret")


lasting = Server("lasting", sessions=True)


@lasting.tool(asks=True)
async def asking(ctx: Context) -> None:
    await ctx.list_roots(key="where")


def http(*headers: bytes, body: bytes = b"", line: bytes = b"POST /mcp", host: bytes = b"Host: localhost") -> bytes:
    lines = [line + b" HTTP/1.1", host, *headers, b"Content-Length: %d" % len(body), b"Connection: close"]
    return b"\r\n".join(filter(None, lines)) + b"\r\n\r\n" + body


def post(body: object, *headers: bytes, raw: bytes | None = None) -> bytes:
    body = raw if raw is not None else json.dumps(body).encode()
    return http(TOKEN, b"Content-Type: application/json", *headers, body=body)


def legacy(method: object = "ping", params: object = None, **changes: object) -> bytes:
    message: dict[str, object] = {"jsonrpc": "2.0", "id": 1, "method": method} | changes
    return post(message if params is None else message | {"params": params})


def modern(method: str, *headers: bytes, meta: object = ENVELOPE, **params: object) -> bytes:
    message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params | {"_meta": meta}}
    return post(message, b"MCP-Protocol-Version: 2026-07-28", *headers)


OTHER = {**ENVELOPE, "io.modelcontextprotocol/protocolVersion": "2030-01-01"}
CALL, LIST = b"Mcp-Method: tools/call", b"Mcp-Method: tools/list"
CASES: list[tuple[str, bytes]] = [
    ("The request is not valid HTTP/1.1.", b"HELLO\r\n\r\n"),
    ("The request headers are larger than … bytes.", http(b"X: " + b"x" * 70_000)),
    ("The request has more than … headers.", http(*[b"X: x"] * 201)),
    ("The request target must be a path that starts with '/'.", http(line=b"GET ftp://localhost/mcp")),
    ("HTTP/… is not supported here. Send HTTP/1.1.", b"GET /mcp HTTP/2.0\r\nHost: localhost\r\n\r\n"),
    (
        "The Transfer-Encoding of the request is not supported: only chunked is.",
        http(b"Transfer-Encoding: gzip, chunked"),
    ),
    ("The … header is sent twice.", http(b"Authorization: Bearer a", b"Authorization: Bearer b")),
    (
        "This server does not answer to that Host. To allow it, add it to PORTWAY_ALLOWED_HOSTS.",
        http(host=b"Host: evil.test"),
    ),
    (
        "This Origin is not allowed. To allow its pages, add it to PORTWAY_ALLOWED_ORIGINS.",
        http(b"Origin: http://evil.test"),
    ),
    ("The request must have exactly one Host header.", http(b"Host: localhost")),
    ("The Host header is not a host name with an optional port.", http(host=b"Host: a b")),
    ("There is nothing at this path; the MCP endpoint is ….", http(line=b"POST /sse")),
    (
        (
            "This server has no OAuth: it takes a bearer token in the Authorization header; ask its operator for one "
            "(PORTWAY_TOKENS)."
        ),
        http(line=b"GET /.well-known/oauth-protected-resource/mcp"),
    ),
    ("This server needs a valid bearer token in the Authorization header.", http()),
    ("The MCP endpoint takes POST only: this server keeps no sessions.", http(TOKEN, line=b"GET /mcp")),
    ("The Accept header must allow application/json or text/event-stream.", http(TOKEN, b"Accept: text/html")),
    ("The Content-Type header must be application/json.", http(TOKEN, body=b"{}")),
    ("The body must be sent as it is, without a Content-Encoding.", post({}, b"Content-Encoding: gzip")),
    ("The body is larger than the … bytes this server takes.", post({}).replace(b"Length: 2", b"Length: 9999999")),
    ("The message is not valid JSON in UTF-8: ….", post(None, raw=b"{")),
    ("The message is nested too deeply.", post(None, raw=b'{"a":' * 100_000)),
    ("The message must be a JSON object.", post(5)),
    (
        "A batch is not accepted: send one JSON-RPC message at a time (batches ended with 2025-06-18).",
        post([], b"MCP-Protocol-Version: 2025-11-25"),
    ),
    ("A batch must be a JSON array of 1 to … messages.", post([])),
    ("initialize must not be part of a batch.", post([{"jsonrpc": "2.0", "id": 1, "method": "initialize"}])),
    ('The message must carry "jsonrpc": "2.0".', legacy(jsonrpc="1.0")),
    ("The id must be a string or an integer.", legacy(id=None)),
    ("The message must have exactly one of method, result and error.", post({"jsonrpc": "2.0", "id": 1})),
    ("The method must be a string.", legacy(5)),
    ("The params must be a JSON object.", legacy("ping", [])),
    ("Invalid params: ….", legacy("tools/call", {"name": 5})),
    (
        "A client sends no responses in ….",
        post({"jsonrpc": "2.0", "id": 1, "result": {}}, b"MCP-Protocol-Version: 2026-07-28"),
    ),
    ('params._meta lacks "io.modelcontextprotocol/…", which every request carries.', modern("tools/list", meta={})),
    (
        'params._meta "io.modelcontextprotocol/clientCapabilities" must be an object.',
        modern("tools/list", meta={**ENVELOPE, "io.modelcontextprotocol/clientCapabilities": 1}),
    ),
    (
        "This protocol version is not supported; data.supported names those that are.",
        modern("tools/list", LIST, meta=OTHER).replace(b"Version: 2026-07-28", b"Version: 2030-01-01"),
    ),
    (
        "There is no log level …; use one of: ….",
        modern("tools/list", LIST, meta={**ENVELOPE, "io.modelcontextprotocol/logLevel": "loud"}),
    ),
    (
        "The Accept header must allow text/event-stream: subscriptions/listen is answered by one.",
        modern("subscriptions/listen", b"Mcp-Method: subscriptions/listen", b"Accept: application/json"),
    ),
    ("The … header is missing.", modern("tools/list")),
    ("The … header does not match the body.", modern("tools/list", CALL)),
    (
        "A header's =?base64?…?= value is not base64 of UTF-8 text.",
        modern("tools/call", CALL, b"Mcp-Name: =?base64?!?=", name="x"),
    ),
    ("The … header is sent twice.", modern("tools/list", CALL, CALL)),
    ("Method not found: …", legacy("no/such")),
    ("initialize needs params.protocolVersion, a string.", legacy("initialize", {})),
    ("params.name must name a ….", legacy("tools/call", {})),
    ("Unknown …: …", legacy("prompts/get", {"name": "no_such"})),
    ("resources/read needs params.uri, a string.", legacy("resources/read", {})),
    ("There is no such resource.", legacy("resources/read", {"uri": "no://such"})),
    ("The cursor is not one this server gave; start again without it.", legacy("tools/list", {"cursor": "x"})),
    (
        "A prompt's arguments must be an object of strings.",
        legacy("prompts/get", {"name": "greet", "arguments": {"name": 1}}),
    ),
    (
        "No question waits for this answer: without the Mcp-Session-Id header nothing is asked.",
        post({"jsonrpc": "2.0", "id": 1, "result": {}}),
    ),
    ("The token lacks a scope this needs: ….", legacy("tools/call", {"name": "guarded"})),
    ("The … … failed; the server's log has the cause under error id ….", legacy("tools/call", {"name": "failing"})),
]


def pattern(text: str) -> str:
    return re.escape(text).replace("…", ".+")


def error_text(answer: bytes) -> str:
    """Return the text of a refusal: the listener's plain one, a JSON-RPC error's message, or a failed tool's."""
    body = answer.partition(b"\r\n\r\n")[2]
    if body[:1] not in b"{[":
        return body.decode().strip()
    message: Any = json.loads(body)
    message = message[0] if isinstance(message, list) else message
    found: str = message["error"]["message"] if "error" in message else message["result"]["content"][0]["text"]
    return found


@pytest.fixture(scope="module")
def listener() -> Iterator[Listener]:
    listener = Listener(HttpApp(server, verifier=NamedTokens("ada:ada-secret")), Limits())
    yield listener
    listener.stop()
    listener.join()


@pytest.mark.parametrize(("text", "request_bytes"), CASES, ids=[text for text, _ in CASES])
def test_a_wrong_request_is_answered_with_the_documented_text(
    listener: Listener, text: str, request_bytes: bytes
) -> None:
    answer = listener.talk(request_bytes)
    assert re.fullmatch(pattern(text), error_text(answer))
    assert b"ada-secret" not in answer


def test_a_wrong_session_is_answered_with_the_documented_text() -> None:
    listener = Listener(HttpApp(lasting), Limits())
    try:
        for text, request_bytes in (
            ("This needs a session: send the Mcp-Session-Id header that came with the reply to initialize.", legacy()),
            (
                "The session has ended or is unknown: initialize a new one.",
                legacy().replace(TOKEN, b"Mcp-Session-Id: x"),
            ),
            ("The Accept header must allow text/event-stream.", http(b"Accept: application/json", line=b"GET /mcp")),
            (
                "The MCP endpoint takes POST only from clients of this MCP-Protocol-Version.",
                http(b"MCP-Protocol-Version: 2026-07-28", line=b"GET /mcp"),
            ),
            (
                "params.inputResponses.… is not a result of …: ….",
                modern("tools/call", CALL, b"Mcp-Name: asking", name="asking", inputResponses={"where": 5}),
            ),
            ("The MCP endpoint does not take …; the Allow header says what it takes.", http(line=b"PUT /mcp")),
        ):
            assert re.fullmatch(pattern(text), error_text(listener.talk(request_bytes)))
        greeting = {"protocolVersion": "2025-11-25", "capabilities": {"roots": {}}, "clientInfo": {}}
        opened = re.search(rb"(?i)mcp-session-id: \S+", listener.talk(legacy("initialize", greeting)))
        assert opened
        asking = legacy("tools/call", {"name": "asking"}).replace(TOKEN, opened[0] + b"\r\nAccept: application/json")
        text = (
            "The client cannot be asked: this needs a session, a running call, and text/event-stream in the Accept "
            "header."
        )
        assert text in error_text(listener.talk(asking))
    finally:
        listener.stop()
        listener.join()


@pytest.mark.parametrize(
    ("limits", "text", "request_bytes"),
    [
        (Limits(connections=0), "The server has reached its limit of connections. Try again in a moment.", http()),
        (
            Limits(header_seconds=0.05),
            "The request headers did not arrive within … seconds.",
            b"POST /mcp HTTP/1.1\r\n",
        ),
        (Limits(stall_seconds=0.05), "The request body stopped arriving for … seconds.", post({})[:-1]),
    ],
)
def test_a_limit_of_the_listener_is_answered_with_the_documented_text(
    limits: Limits, text: str, request_bytes: bytes
) -> None:
    listener = Listener(HttpApp(server, verifier=NamedTokens("ada:ada-secret")), limits)
    try:
        assert re.fullmatch(pattern(text), error_text(listener.talk(request_bytes)))
    finally:
        listener.stop()
        listener.join()


def test_a_request_that_waits_when_the_listener_stops_is_answered_with_the_documented_text() -> None:
    begun = threading.Event()

    @server.tool
    def waits() -> None:
        begun.set()
        threading.Event().wait(1)

    listener = Listener(HttpApp(server), Limits(shutdown_seconds=0))
    with listener.connect() as sock:
        sock.sendall(legacy("tools/call", {"name": "waits"}))
        assert begun.wait(8)
        listener.stop()
        assert (
            error_text(read_all(sock))
            == "The server stopped before the answer was complete; the request may have been carried out."
        )
    listener.join()


def test_too_many_requests_at_once_are_answered_with_the_documented_text(listener: Listener) -> None:
    answer = listener.talk(legacy().replace(b"Connection: close", b"X: x") * 200)
    assert re.search(pattern("More than … requests wait on this connection."), answer.decode())
