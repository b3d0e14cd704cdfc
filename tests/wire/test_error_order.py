"""Which error a request with several faults gets over HTTP, in each era: the most general fault comes first."""

from __future__ import annotations

import http.client
import json

import pytest

from portway.protocol.versions import LEGACY_VERSIONS
from tests.wire.full_server import ADMIN_TOKEN, READER_TOKEN
from tests.wire.http_server import LEGACY, META, MODERN, VERSIONS, Json, request

VERSION, METHOD, NAME = "MCP-Protocol-Version", "Mcp-Method", "Mcp-Name"
CALL = {"name": "secret", "arguments": []}


# A modern call with every fault. Each step corrects one more fault and gets the error of the next.
STEPS: tuple[tuple[Json, dict[str, str | None], str, int, int], ...] = (
    ({META + "clientCapabilities": None}, {VERSION: "x", METHOD: "x", NAME: None}, "1999-01-01", 400, -32602),
    ({}, {VERSION: "x", METHOD: "x", NAME: None}, "1999-01-01", 400, -32020),
    ({}, {METHOD: "x", NAME: None}, "1999-01-01", 400, -32020),
    ({}, {NAME: None}, "1999-01-01", 400, -32020),
    ({}, {}, "1999-01-01", 400, -32022),
    ({}, {}, MODERN, 403, 1000),
)


@pytest.mark.parametrize(("meta", "changes", "version", "status", "code"), STEPS)
def test_a_modern_request_gets_the_error_of_its_first_fault(client, meta, changes, version, status, code):
    message, headers = request(
        MODERN, "tools/call", CALL, meta={META + "protocolVersion": version} | meta, token=READER_TOKEN
    )
    headers = {VERSION: version} | {k: v for k, v in headers.items() if k != VERSION} | changes
    reply = client.send(json.dumps(message).encode(), {k: v for k, v in headers.items() if v is not None})
    assert (reply.status, reply.last["error"]["code"]) == (status, code)
    assert reply.last["id"] == 1


def test_scopes_come_before_arguments_and_arguments_last(client):
    reply = client.ask(MODERN, "tools/call", CALL, token=ADMIN_TOKEN)
    assert (reply.status, reply.last["error"]["code"]) == (400, -32602)


@pytest.mark.parametrize("name", [VERSION, METHOD, NAME])
def test_a_routing_header_sent_twice_is_refused(client, name):
    message, headers = request(MODERN, "tools/call", {"name": "nothing"}, token=ADMIN_TOKEN)
    body = json.dumps(message).encode()
    connection = http.client.HTTPConnection(client.authority, timeout=120)
    connection.putrequest("POST", "/mcp")
    for key, value in [*headers.items(), (name, headers[name]), ("Content-Length", str(len(body)))]:
        connection.putheader(key, value)
    connection.endheaders(body)
    response = connection.getresponse()
    assert (response.status, json.loads(response.read())["error"]["code"]) == (400, -32020)
    connection.close()


@pytest.mark.parametrize("version", [*LEGACY_VERSIONS, "2026-07-28", "1999-01-01", ""])
@pytest.mark.parametrize("header", [None, "2025-11-25", "2026-07-28"])
def test_initialize_agrees_on_the_version_asked_for_or_the_latest_of_its_era(client, version, header):
    message, headers = request(
        LEGACY, "initialize", {"protocolVersion": version, "capabilities": {}}, token=READER_TOKEN
    )
    headers |= {} if header is None else {VERSION: header}
    reply = client.send(json.dumps(message).encode(), headers | {METHOD: "initialize"})
    assert reply.status == 200
    assert reply.last["result"]["protocolVersion"] == (version if version in LEGACY_VERSIONS else LEGACY)


def test_the_error_of_an_unsupported_version_names_the_versions_that_discovery_names(client):
    message, headers = request(MODERN, "tools/list", meta={META + "protocolVersion": "2099-01-01"}, token=READER_TOKEN)
    reply = client.send(json.dumps(message).encode(), headers | {VERSION: "2099-01-01"})
    discovered = client.ask(MODERN, "server/discover", token=READER_TOKEN).last["result"]
    assert reply.last["error"]["data"] == {"supported": discovered["supportedVersions"], "requested": "2099-01-01"}
    assert "serverInfo" not in discovered


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("verb", ["GET", "DELETE", "PUT", "HEAD"])
def test_without_sessions_only_post_is_accepted(client, sessionless, version, verb):
    for target in [sessionless] if version == LEGACY else [sessionless, client]:
        reply = target.send(b"", {VERSION: version, "Authorization": f"Bearer {READER_TOKEN}"}, verb=verb)
        assert (reply.status, reply.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize(("session", "status"), [(None, 400), ("abc", 404)])
@pytest.mark.parametrize("verb", ["GET", "DELETE"])
def test_get_and_delete_need_an_existing_session(client, verb, session, status):
    headers = {VERSION: LEGACY, "Authorization": f"Bearer {READER_TOKEN}", "Accept": "text/event-stream"}
    reply = client.send(b"", headers | ({} if session is None else {"Mcp-Session-Id": session}), verb=verb)
    assert reply.status == status


@pytest.mark.parametrize("version", VERSIONS)
def test_a_server_without_sessions_ignores_a_foreign_session_id(client, sessionless, version):
    target = sessionless if version == LEGACY else client
    for method in ("initialize", "tools/list", "server/discover"):
        message, headers = request(version, method, {"protocolVersion": LEGACY}, token=READER_TOKEN)
        reply = target.send(json.dumps(message).encode(), headers | {"Mcp-Session-Id": "abc", "Last-Event-ID": "7"})
        plain = target.send(json.dumps(message).encode(), headers)
        assert "mcp-session-id" not in reply.headers
        assert (reply.status, reply.messages) == (plain.status, plain.messages)


def test_without_sessions_no_capability_that_needs_one_is_announced(client, sessionless):
    params = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    with_sessions, without = (
        one.ask(LEGACY, "initialize", params, token=READER_TOKEN).last["result"]["capabilities"]
        for one in (client, sessionless)
    )
    assert with_sessions["resources"] == {"listChanged": True, "subscribe": True}
    assert "logging" in with_sessions
    assert without == {"tools": {}, "resources": {}, "prompts": {}, "completions": {}}
    for method in ("logging/setLevel", "resources/subscribe", "resources/unsubscribe"):
        assert (
            sessionless.ask(LEGACY, method, {"level": "info", "uri": "a:b"}, token=READER_TOKEN).last["error"]["code"]
            == -32601
        )


@pytest.mark.parametrize(
    ("version", "body", "status"),
    [
        (LEGACY, b'{"jsonrpc":"2.0","method":"notifications/initialized"}', 202),
        (LEGACY, b'{"jsonrpc":"2.0","method":"notifications/unheard/of","params":{"x":[]}}', 202),
        (LEGACY, b'{"jsonrpc":"2.0","method":"notifications/initialized","params":null}', 202),
        (LEGACY, b'{"jsonrpc":"2.0","id":9,"result":{}}', 400),
        (LEGACY, b'{"jsonrpc":"2.0","id":9,"error":{"code":1,"message":""}}', 400),
        (MODERN, b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}', 202),
        (MODERN, b'{"jsonrpc":"2.0","id":9,"result":{}}', 400),
    ],
)
def test_a_notification_is_acknowledged_with_an_empty_202(client, version, body, status):
    reply = client.send(body, request(version, "ping", token=READER_TOKEN)[1])
    assert reply.status == status
    if status == 202:
        assert reply.body == b""
        assert "content-type" not in reply.headers


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("tools/list", {"uri": 7, "name": [], "protocolVersion": {}, "requestId": [], "arguments": 3}),
        ("ping", None),
        ("tools/call", {"name": "nothing", "arguments": None, "cursor": {}}),
        ("prompts/get", {"name": "talk", "arguments": {"topic": "t"}, "uri": 1}),
    ],
)
def test_a_parameter_the_method_does_not_have_may_be_anything(client, method, params):
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    reply = client.send(body, request(LEGACY, method, token=READER_TOKEN)[1])
    assert "result" in reply.last
