"""What outlives a call at a server alone: it is its caller's own, and ends with the caller's right to it."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest

from portway import Context, Server
from portway.auth import tokens
from portway.http.http_client import HttpClient
from portway.oauth import introspection, signing_keys
from portway.transport import token_watch
from tests.oauth.key_publisher import KeyPublisher
from tests.oauth.vault import RESOURCE, call, in_seconds, make_server, scenario
from tests.support import eventually
from tests.transport.http_client import MODERN, Events, Legacy, envelope, post, reply


def vault(provider: KeyPublisher, **settings: Any) -> Server:
    server = make_server(provider, page_size=1, **settings)

    @server.tool
    async def log(ctx: Context) -> str:
        await ctx.info("looked")
        return "logged"

    @server.tool(asks=True)
    async def greet(ctx: Context) -> str:
        answer = await ctx.elicit("Who?", str)
        return f"{answer.data} by {ctx.caller.subject}"

    return server


def bearer(token: str) -> str:
    return f"Bearer {token}"


async def listen(client: HttpClient, token: str) -> Events:
    """Listen as a modern client; return the stream after its acknowledgement."""
    body = envelope("subscriptions/listen", {"notifications": {"toolsListChanged": True}}, "l")
    headers = {"mcp_protocol_version": MODERN, "mcp_method": "subscriptions/listen", "authorization": bearer(token)}
    response = await post(client, body, **headers)
    assert response.status == 200, await response.read(9999)
    events = Events(response)
    assert (await events.message())["method"] == "notifications/subscriptions/acknowledged"
    return events


async def follow(client: HttpClient, token: str) -> Events:
    """Open the stand-alone stream of a new legacy session."""
    legacy = await Legacy(client, authorization=bearer(token)).initialize()
    events = Events(await legacy.get())
    assert await events.next() is not None
    return events


EXPIRES = pytest.param("it expires", marks=pytest.mark.slow)  # which takes twenty seconds


@pytest.mark.parametrize("ends", [EXPIRES, "its key is taken back", "the provider revokes it"])
def test_streams_end_with_the_token_that_opened_them(
    provider: KeyPublisher, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    for module, name in (
        (token_watch, "LOOK_SECONDS"),
        (signing_keys, "_FRESH_SECONDS"),
        (signing_keys, "_PAUSE_SECONDS"),
        (introspection, "_SECONDS"),
    ):
        monkeypatch.setattr(module, name, 0.01)
    is_opaque = ends == "the provider revokes it"
    token = provider.open("opaque", aud=RESOURCE) if is_opaque else provider.token(RESOURCE)
    if ends == "it expires":
        token = provider.token(RESOURCE, exp=in_seconds(-10))  # within the skew for twenty seconds more
    provider.add("two")
    lasting = provider.token(RESOURCE, "two")

    async def steps(client: HttpClient) -> None:
        modern, legacy, other = (
            await listen(client, token),
            await follow(client, token),
            await listen(client, lasting),
        )
        provider.keys.pop("one", None)
        provider.opaque.clear()
        rest = await asyncio.wait_for(legacy.rest(), 120)
        assert not any(event.data for event in rest)
        result = await asyncio.wait_for(modern.message(), 120)
        assert result["id"] == "l"
        assert result["result"]["resultType"] == "complete"
        assert await modern.next() is None
        assert (await call(client, token))[0] == 401  # which tells the client to get another
        waiting = asyncio.ensure_future(other.next())
        assert (await asyncio.wait((waiting,), timeout=0.1))[0] == set()
        waiting.cancel()
        await other.leave()

    opaque = {"client_id": "vault", "client_secret": "s", "opaque": True} if is_opaque else {}
    scenario(vault(provider, **opaque), steps)


@pytest.mark.parametrize("ends", ["the provider revokes it", "it expires", "it has no end and an hour passes"])
def test_an_outage_of_the_provider_ends_no_stream_before_its_token_does(
    provider: KeyPublisher, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    for module, name in (
        *((token_watch, "LOOK_SECONDS"), (introspection, "_SECONDS")),
        *((introspection, "_PAUSE_SECONDS"), (introspection, "_REFUSED_SECONDS")),
    ):
        monkeypatch.setattr(module, name, 0.01)
    exp = {} if ends.startswith("it has no end") else {"exp": in_seconds(600)}
    token = provider.open("opaque", aud=RESOURCE, **exp)

    async def steps(client: HttpClient) -> None:
        modern = await listen(client, token)
        legacy = await follow(client, token)
        provider.is_down = True
        asked = len(provider.forms)
        await asyncio.to_thread(eventually, lambda: len(provider.forms) > asked + 5)
        assert (await call(client, token))[0] == 503
        waiting = asyncio.ensure_future(modern.next())
        assert (await asyncio.wait((waiting,), timeout=0.1))[0] == set()
        if ends == "it expires":
            monkeypatch.setattr(time, "time", lambda: 3_000_000_000.0)
        elif ends.startswith("it has no end"):
            monkeypatch.setattr(tokens, "_SILENT_SECONDS", 0.0)
        else:
            provider.opaque.clear()
            provider.is_down = False
        assert await waiting is not None, "its result"
        await legacy.rest()

    scenario(vault(provider, client_id="vault", client_secret="s", opaque=True), steps)


def test_a_session_is_of_one_subject_of_one_issuer_whichever_of_its_tokens_come(provider: KeyPublisher) -> None:
    async def steps(client: HttpClient) -> None:
        legacy = await Legacy(client, authorization=bearer(provider.token(RESOURCE))).initialize()
        renewed = provider.token(RESOURCE, exp=in_seconds(900))
        assert (await reply(await legacy.send("ping", authorization=bearer(renewed))))["result"] == {}
        for other in (provider.token(RESOURCE, sub="eve"), provider.token(RESOURCE, client_id="other")):
            stolen = bearer(other)
            assert (await legacy.send("ping", authorization=stolen)).status == 404
            assert (await legacy.get(authorization=stolen)).status == 404
            assert (await legacy.call("log")).status == 200
        legacy.headers["authorization"] = bearer(provider.token(RESOURCE, exp=in_seconds(-60)))
        assert (await legacy.send("ping")).status == 401

    scenario(vault(provider), steps)


def test_a_cursor_is_its_callers_own(provider: KeyPublisher) -> None:
    async def page(client: HttpClient, token: str, cursor: str = "") -> dict[str, Any]:
        params = {"cursor": cursor} if cursor else {}
        named = {"mcp_protocol_version": MODERN, "mcp_method": "tools/list", "authorization": bearer(token)}
        response = await post(client, envelope("tools/list", params), **named)
        return dict(json.loads(await response.read(99_999)))

    async def steps(client: HttpClient) -> None:
        cursor = (await page(client, provider.token(RESOURCE, scope="read write")))["result"]["nextCursor"]
        renewed = provider.token(RESOURCE, scope="read write", exp=in_seconds(900))
        assert (await page(client, renewed, cursor))["result"]["tools"][0]["name"] == "move"
        stolen = await page(client, provider.token(RESOURCE, scope="read write", sub="eve"), cursor)
        assert stolen["error"]["message"] == "The cursor is not one this server gave; start again without it."

    scenario(vault(provider), steps)


def test_an_open_question_is_of_the_caller_who_was_asked(provider: KeyPublisher) -> None:
    async def greet(client: HttpClient, token: str, **more: Any) -> dict[str, Any]:
        params = {"name": "greet", "arguments": {}} | more
        body = envelope("tools/call", params, **{"io.modelcontextprotocol/clientCapabilities": {"elicitation": {}}})
        named = {"mcp_protocol_version": MODERN, "mcp_method": "tools/call", "mcp_name": "greet"}
        response = await post(client, body, authorization=bearer(token), **named)
        return dict(json.loads(await response.read(99_999)))

    async def steps(client: HttpClient) -> None:
        asked = (await greet(client, provider.token(RESOURCE)))["result"]
        (question,) = asked["inputRequests"]
        answer = {question: {"action": "accept", "content": {"value": "Grace"}}}
        answered = {"requestState": asked["requestState"], "inputResponses": answer}
        stolen = await greet(client, provider.token(RESOURCE, sub="eve"), **answered)
        assert "Grace" not in json.dumps(stolen)
        assert "error" in stolen
        renewed = await greet(client, provider.token(RESOURCE, exp=in_seconds(900)), **answered)
        assert renewed["result"]["content"][0]["text"] == "Grace by ada"

    scenario(vault(provider), steps)
