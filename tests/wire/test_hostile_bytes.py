"""The everything server gets damaged lines and requests: it answers what is a message, and keeps running."""

from __future__ import annotations

import http.client
import itertools
import json
import socket
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from tests.support import ROOT, SCRIPTS, started
from tests.transport.stdio_client import Pipes
from tests.wire.http_server import LEGACY, META, MODERN, request
from tests.wire.random_damage import damaged

if TYPE_CHECKING:
    from collections.abc import Iterator

EVERYTHING = ROOT / "examples" / "everything" / "server.py"
RUN = (SCRIPTS / "portway", "run", EVERYTHING, "--transport")
COUNTS = [1000, pytest.param(20_000, marks=[pytest.mark.slow])]
CAPABILITIES = {"elicitation": {"form": {}, "url": {}}, "sampling": {}, "roots": {}}
TEXT_TOOL = "test_simple_text"


def messages(version: str) -> list[bytes]:
    """Return one message of every kind that clients of a revision send, most with short replies."""
    asked = {"name": "test_input_required_result_elicitation", "arguments": {}}
    template = {"type": "ref/prompt", "name": "test_prompt_with_arguments"}
    calls: list[tuple[str, dict[str, Any]]] = [
        ("tools/call", {"name": TEXT_TOOL, "arguments": {}}),
        ("tools/call", {"name": "test_x_mcp_header", "arguments": {"region": "é"}}),
        ("tools/call", {"name": "json_schema_2020_12_tool", "arguments": {"phone": "1", "email": "e"}}),
        ("tools/call", {"name": "test_error_handling"}),
        ("tools/call", asked),
        ("resources/read", {"uri": "test://template/%41/data"}),
        ("prompts/get", {"name": "test_prompt_with_arguments", "arguments": {"arg1": "a", "arg2": "b"}}),
        ("completion/complete", {"ref": template, "argument": {"name": "arg1", "value": "pa"}}),
        ("no/such", {"cursor": None}),
    ]
    if version == MODERN:
        calls += [
            ("server/discover", {}),
            ("tools/call", asked | {"inputResponses": {"user_name": {"action": "accept", "content": {"name": "x"}}}}),
            ("tools/call", asked | {"requestState": "A" * 60}),
            ("subscriptions/listen", {"notifications": {"toolsListChanged": True, "resourceSubscriptions": ["x:y"]}}),
        ]
    else:
        who = {"name": "t", "version": "1"}
        opening = {"protocolVersion": version, "capabilities": CAPABILITIES, "clientInfo": who}
        calls += [
            ("initialize", opening),
            ("ping", {}),
            ("logging/setLevel", {"level": "debug"}),
            ("resources/subscribe", {"uri": "test://watched-resource"}),
        ]
    meta = {META + "clientCapabilities": CAPABILITIES} if version == MODERN else {}
    sent = [
        request(version, method, params, id=number, meta=meta | {"progressToken": number})[0]
        for number, (method, params) in enumerate(calls)
    ]
    sent += [
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 4}},
        {"jsonrpc": "2.0", "id": 1, "result": {"action": "accept", "content": {"name": "x"}}},
        {"jsonrpc": "2.0", "id": 1, "error": {"code": -1, "message": "no"}},
    ]
    return [json.dumps(message).encode() for message in sent]


SEEDS = messages(LEGACY) + messages(MODERN)


def check_message(message: Any) -> None:
    """Check that a message is JSON-RPC, and that an error has a message without a traceback."""
    for one in message if isinstance(message, list) else [message]:
        assert one["jsonrpc"] == "2.0"
        error = one.get("error")
        if error is not None:
            assert isinstance(error["code"], int)
            assert error["message"]
            assert "Traceback" not in error["message"]
            assert type(one["id"]) in (int, str, type(None))


@pytest.mark.parametrize("count", COUNTS)
def test_a_stdio_server_survives_damaged_lines(count: int) -> None:
    probe, _ = request(MODERN, "tools/call", {"name": TEXT_TOOL}, id="still there?")
    lines = damaged(SEEDS, count)
    with Pipes(*map(str, RUN), "stdio") as pipes:
        pipes.initialize(**CAPABILITIES)
        while batch := list(itertools.islice(lines, 50)):
            pipes.send(*batch, b"", probe)
            for message in iter(pipes.receive, None):
                check_message(message)
                if isinstance(message, dict) and message.get("id") == probe["id"]:
                    assert message["result"]["isError"] is False
                    break
        pipes.process.terminate()
        assert pipes.process.stderr
        assert b"Traceback" not in pipes.process.stderr.read()


def heads(session: str) -> list[bytes]:
    """Return the headers of well-formed requests, without Host and Content-Length."""
    modern = {"Mcp-Param-Region": "=?base64?w6k=?="} | request(MODERN, "tools/call", {"name": TEXT_TOOL})[1]
    legacy = {"Mcp-Session-Id": session, "Last-Event-ID": "x-1", "Origin": "http://localhost"}
    blocks = (modern, legacy | request(LEGACY, "tools/call")[1], request(LEGACY, "initialize")[1])
    return ["\r\n".join(f"{name}: {value}" for name, value in block.items()).encode() for block in blocks]


class RawConnection:
    """A kept-alive connection that sends any bytes, correctly framed."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname
        self._address = (parts.hostname, parts.port)
        self._host = parts.netloc.encode()
        self._socket = socket.create_connection(self._address, timeout=10)

    def close(self) -> None:
        self._socket.close()

    def ask(self, head: bytes, body: bytes) -> tuple[int, http.client.HTTPMessage, bytes]:
        """Return status, headers and body of the response; of an event stream only the first piece."""
        framing = b"Host: %b\r\nContent-Length: %d" % (self._host, len(body))
        self._socket.sendall(b"POST /mcp HTTP/1.1\r\n%b\r\n%b\r\n\r\n%b" % (framing, head, body))
        response = http.client.HTTPResponse(self._socket, method="POST")
        response.begin()
        payload = response.read1() if response.headers.get_content_type() == "text/event-stream" else response.read()
        if not response.isclosed() or response.will_close:
            self.reconnect()
        return response.status, response.headers, payload

    def reconnect(self) -> None:
        self._socket.close()
        self._socket = socket.create_connection(self._address, timeout=10)

    def send_raw(self, data: bytes) -> None:
        """Send bytes that need not be a request, and read until the server disconnects."""
        with socket.create_connection(self._address, timeout=10) as other:
            other.sendall(data)
            other.shutdown(socket.SHUT_WR)
            answer = b""
            try:
                while piece := other.recv(65536):
                    answer += piece
            except ConnectionError:
                pass
        assert not answer or answer.startswith(b"HTTP/1.1 ")
        assert b"Traceback" not in answer


STATUSES = {200, 202, 400, 403, 404, 405, 406, 413, 415, 421, 429, 431, 503}


@pytest.fixture
def raw() -> Iterator[RawConnection]:
    command = (*RUN, "http", "--host", "127.0.0.1", "--port", "0")
    with started(*command, ready=r"http://127\.0\.0\.1:(\d+)") as child:
        assert child.match
        raw = RawConnection(f"http://127.0.0.1:{child.match[1]}")
        yield raw
        raw.close()
        assert child.process.poll() is None
        assert "Traceback" not in "".join(child.lines)


def open_session(raw: RawConnection) -> str:
    """Open a legacy session with all client capabilities; return its id."""
    head = "\r\n".join(f"{name}: {value}" for name, value in request(LEGACY, "initialize")[1].items())
    opening = next(message for message in messages(LEGACY) if b'"initialize"' in message)
    _, response, _ = raw.ask(head.encode(), opening)
    return response["Mcp-Session-Id"]


@pytest.mark.parametrize("count", COUNTS)
def test_an_http_server_survives_damaged_heads_and_bodies(raw: RawConnection, count: int) -> None:
    session = open_session(raw)
    ours = heads(session)
    requests = [b"\r\n".join(filter(None, head.replace(b"\r", b"\n").split(b"\n"))) for head in damaged(ours, count)]
    for number, (head, body) in enumerate(zip(requests, damaged(SEEDS, count), strict=True)):
        whole = ours[number % len(ours)] if number % 2 else head
        try:
            status, _, payload = raw.ask(whole, body)
        except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
            pytest.fail(f"{error!r} after {whole!r}\n{body!r}")
        assert status in STATUSES, (status, whole, body, payload)
        if payload.startswith((b"{", b"[")):
            check_message(json.loads(payload))


@pytest.mark.parametrize("count", COUNTS)
def test_an_http_server_survives_bytes_that_are_no_request(raw: RawConnection, count: int) -> None:
    session = open_session(raw)
    whole = [
        b"%b /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n%b\r\n\r\n%b" % (verb, len(body), head, body)
        for verb in (b"POST", b"GET", b"DELETE")
        for head in heads(session)
        for body in SEEDS[:3]
    ]
    for number, data in enumerate(damaged(whole, count)):
        raw.send_raw(data)
        if number % 100 == 0:
            raw.reconnect()
            assert raw.ask(heads(session)[0], SEEDS[len(messages(LEGACY))])[0] == 200
