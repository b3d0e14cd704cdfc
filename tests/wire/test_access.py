"""Access control over HTTP: era × method × token. A refusal comes before any work and reveals nothing."""

from __future__ import annotations

import json

import pytest

from tests.wire.full_server import ADMIN_TOKEN, READER_TOKEN, app
from tests.wire.http_server import LEGACY, MODERN, VERSIONS, Client, request, served

GUARDED = {
    "tools/call": {"name": "secret"},
    "resources/read": {"uri": "note://secret"},
    "prompts/get": {"name": "plan"},
}
OPEN = {
    "tools/call": {"name": "weather", "arguments": {"city": "Oslo"}},
    "resources/read": {"uri": "note://static"},
    "prompts/get": {"name": "talk", "arguments": {"topic": "tea"}},
    "tools/list": {},
}
TOKENS = {None: 401, "made-up": 401, READER_TOKEN: 403, ADMIN_TOKEN: 200}


@pytest.mark.parametrize("token", TOKENS)
@pytest.mark.parametrize("method", GUARDED)
@pytest.mark.parametrize("version", VERSIONS)
def test_a_guarded_component_is_for_callers_with_its_scope(client, version, method, token):
    reply = client.ask(version, method, GUARDED[method], token=token)
    assert reply.status == TOKENS[token]
    challenge = reply.headers.get("www-authenticate")
    if reply.status == 401:
        assert challenge is not None
        assert challenge.startswith("Bearer")
        assert ("error=" in challenge) == (token is not None)  # RFC 6750 §3.1: no error code where no token was sent
        assert "secret" not in reply.body.decode()
    elif reply.status == 403:
        assert challenge == 'Bearer error="insufficient_scope", scope="admin"'
        assert (reply.last["id"], reply.last["error"]["code"]) == (1, 1000)
        assert "hidden" not in reply.body.decode()
    else:
        assert challenge is None
        assert "hidden" in reply.body.decode()


@pytest.mark.parametrize("method", OPEN)
@pytest.mark.parametrize("version", VERSIONS)
def test_a_component_without_scopes_is_for_every_caller_with_a_token(client, version, method):
    statuses = [client.ask(version, method, OPEN[method], token=token).status for token in TOKENS]
    assert statuses == [401, 401, 200, 200]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_name_that_does_not_exist_is_refused_as_such_and_not_as_forbidden(client, version):
    reply = client.ask(version, "tools/call", {"name": "absent"}, token=READER_TOKEN)
    assert reply.last["error"]["code"] == -32602


@pytest.mark.parametrize(
    ("authorization", "challenge"),
    [
        *((nothing, "Bearer") for nothing in ("", "Bearer", "Bearer ", "Bearer \t ")),
        *((f"{before}{ADMIN_TOKEN}", "Bearer") for before in ("", "Basic ", "Bearer", "Token ", "Digest ", "Bearer,")),
        (f"Bearer {ADMIN_TOKEN} x", 'Bearer error="invalid_token"'),
        ("Bearer \x80", 'Bearer error="invalid_token"'),
    ],
)
def test_only_a_well_formed_bearer_token_is_one(client, authorization, challenge):
    _, headers = request(LEGACY, "ping")
    reply = client.send(b"{}", headers | {"Authorization": authorization})
    assert (reply.status, reply.headers["www-authenticate"]) == (401, challenge)


@pytest.mark.parametrize(
    "authorization",
    [f"Bearer {ADMIN_TOKEN}", f"bearer {ADMIN_TOKEN}", f"BEARER {ADMIN_TOKEN}", f"Bearer   {ADMIN_TOKEN}  "],
)
def test_the_scheme_is_read_in_any_case(client, authorization):
    reply = client.send(b"{}", request(LEGACY, "ping")[1] | {"Authorization": authorization})
    assert reply.status == 400


def test_a_token_in_the_query_is_not_looked_at(client):
    reply = client.send(b"{}", request(MODERN, "ping")[1], path=f"/mcp?access_token={ADMIN_TOKEN}")
    assert reply.status == 401


@pytest.mark.parametrize("verb", ["GET", "DELETE", "PUT"])
def test_a_stranger_learns_nothing_by_other_verbs(client, verb):
    assert client.send(b"", {}, verb=verb).status == 401
    known = {"Authorization": f"Bearer {READER_TOKEN}", "MCP-Protocol-Version": MODERN}
    assert client.send(b"", known, verb=verb).status == 405


def test_a_batch_is_no_way_around_a_scope(client):
    ways = [*GUARDED.items(), ("resources/subscribe", {"uri": "note://secret"})]
    pings = {"jsonrpc": "2.0", "id": 0, "method": "ping"}
    headers = request("2025-03-26", "ping", token=READER_TOKEN)[1]
    for method, params in ways:
        call = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        reply = client.send(json.dumps([pings, call]).encode(), headers)
        assert reply.status == 403, "the whole of it, so that it can be sent again"
        assert reply.headers["www-authenticate"] == 'Bearer error="insufficient_scope", scope="admin"'
        assert "hidden" not in reply.body.decode()


def test_without_tokens_every_caller_is_anonymous_and_has_no_scope():
    with served(app()) as url:
        client = Client(url)
        for version in VERSIONS:
            assert [client.ask(version, method, GUARDED[method]).status for method in GUARDED] == [403] * 3
            assert [client.ask(version, method, OPEN[method]).status for method in OPEN] == [200] * 4
        client.close()
