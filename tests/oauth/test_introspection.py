"""Opaque access tokens, which a server asks its provider about: how often, and what it makes of the answers."""

from __future__ import annotations

import asyncio
import base64
import time
from typing import Any

import httpx2
import pytest

from portway import OAuth, Server
from portway.exceptions import SettingError
from portway.http.http_client import HttpClient
from portway.oauth import introspection
from portway.oauth.settings import from_environment
from tests.oauth.key_publisher import KeyPublisher, publishing
from tests.oauth.providers import provider as real_provider
from tests.oauth.vault import RESOURCE, call, make_server, scenario
from tests.support import eventually

CLIENT = {"client_id": "vault", "client_secret": "s:1", "opaque": True}


def vault(*providers: KeyPublisher) -> Server:
    return make_server(*providers, **CLIENT)


def test_the_provider_says_once_a_minute_whose_an_opaque_token_is(
    provider: KeyPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = provider.open("opaque.with.dots!", aud=[RESOURCE], scope="read write")

    async def steps(client: HttpClient) -> None:
        provider.gives.clear()
        calls = [asyncio.create_task(call(client, token)) for _ in range(5)]
        await asyncio.to_thread(eventually, lambda: provider.forms)
        provider.gives.set()
        assert {answer[:2] for answer in await asyncio.gather(*calls)} == {(200, "ada c read write")}
        assert (await call(client, token, "move"))[:2] == (200, "moved")
        assert len(provider.forms) == 1
        assert provider.forms[0] == {
            "token": token,
            "token_type_hint": "access_token",
            "authorization": "Basic " + base64.b64encode(b"vault:s%3A1").decode(),
        }
        provider.opaque[token] = {"active": False}  # revoked
        assert (await call(client, token))[0] == 200
        monkeypatch.setattr(introspection, "_SECONDS", 0.0)
        status, _, headers = await call(client, token)
        assert status == 401
        assert headers[b"www-authenticate"].startswith(b'Bearer error="invalid_token", ')

    scenario(vault(provider), steps)


BAD: dict[str, dict[str, Any] | None] = {
    "unknown": None,
    "revoked": {"active": False},
    "active-by-word": {"active": "true"},
    "for-nobody": {"aud": None},
    "for-another": {"aud": "https://other.example/mcp"},
    "of-another-issuer": {"iss": "https://evil.example"},
    "expired": {"exp": int(time.time()) - 60},
    "bound-to-a-key": {"token_type": "DPoP"},
    "to-refresh": {"typ": "Refresh"},
    "nobodys": {"sub": None, "client_id": None},
}


def test_every_other_opaque_token_is_invalid_and_not_asked_about_again(provider: KeyPublisher) -> None:
    for name, says in BAD.items():
        if says is not None:
            provider.open(name, **{"aud": RESOURCE} | says)

    async def steps(client: HttpClient) -> None:
        for name in [*BAD, "a.b", "a.b.c.d.e"] * 2:
            assert (await call(client, name))[0] == 401, name
        assert len(provider.forms) == len(BAD) + 2
        own = provider.token(RESOURCE)
        for jwt in (own[:-4] + "AAAA", provider.token(RESOURCE, iss="https://evil.example")):
            assert (await call(client, jwt))[0] == 401
        assert (await call(client, own))[0] == 200
        assert len(provider.forms) == len(BAD) + 2  # a JWT is never asked about

    scenario(vault(provider), steps)


def test_an_opaque_token_is_not_sent_to_a_provider_that_is_not_to_be_asked(provider: KeyPublisher) -> None:
    async def steps(client: HttpClient) -> None:
        assert (await call(client, provider.open("opaque", aud=RESOURCE)))[0] == 401

    scenario(make_server(provider), steps)
    assert provider.forms == []


def test_of_several_providers_the_one_that_knows_a_token_is_believed(provider: KeyPublisher) -> None:
    async def steps(client: HttpClient) -> None:
        token = other.open("opaque", aud=RESOURCE)
        assert (await call(client, token))[0] == 200
        provider.is_down = True
        assert (await call(client, other.open("another", aud=RESOURCE)))[0] == 200
        assert (await call(client, "unknown"))[0] == 503

    with publishing() as other:
        scenario(vault(provider, other), steps)


def test_while_the_provider_is_down_an_opaque_token_is_not_called_invalid(
    provider: KeyPublisher, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    token = provider.open("opaque", aud=RESOURCE)

    async def steps(client: HttpClient) -> None:
        provider.is_down = True
        status, _, headers = await call(client, token)
        assert status == 503
        assert headers[b"retry-after"] == b"30"
        provider.is_down = False
        assert (await call(client, token))[0] == 503  # it is not asked again at once
        monkeypatch.setattr(introspection, "_PAUSE_SECONDS", 0.0)
        assert (await call(client, token))[0] == 200
        provider.instead["/introspect"] = (400, {"error": "invalid_request"})
        assert (await call(client, "malformed"))[0] == 401
        provider.instead["/introspect"] = (401, {"error": "invalid_client"})
        assert (await call(client, "unknown"))[0] == 503

    scenario(vault(provider), steps)
    assert "could not be asked about a token: " in caplog.text
    assert token not in caplog.text
    assert "s:1" not in caplog.text


def test_a_provider_without_an_introspection_endpoint_is_named_in_the_log(
    provider: KeyPublisher, caplog: pytest.LogCaptureFixture
) -> None:
    provider.instead["/.well-known/openid-configuration"] = (200, {"issuer": provider.url})

    async def steps(client: HttpClient) -> None:
        assert (await call(client, "opaque"))[0] == 503

    scenario(vault(provider), steps)
    assert "its metadata has no introspection_endpoint: it cannot be asked, so leave opaque out" in caplog.text


def test_a_flood_of_unknown_tokens_has_sixteen_questions_open_and_leaves_known_ones_alone(
    provider: KeyPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = provider.open("known", aud=RESOURCE)

    async def steps(client: HttpClient) -> None:
        assert (await call(client, known))[0] == 200
        provider.gives.clear()
        flood = [asyncio.create_task(call(client, f"bad-{number}")) for number in range(40)]
        await asyncio.to_thread(eventually, lambda: len(provider.forms) == 1 + 16 and sum(map(_done, flood)) == 24)
        assert (await call(client, known))[0] == 200
        monkeypatch.setattr(introspection, "_SECONDS", 0.0)
        again = asyncio.create_task(call(client, known))
        await asyncio.to_thread(eventually, lambda: len(provider.forms) == 1 + 17)
        provider.gives.set()
        assert (await again)[0] == 200
        statuses = [(await each)[0] for each in flood]
        assert (statuses.count(401), statuses.count(503)) == (16, 24)

    scenario(vault(provider), steps)


def _done(task: asyncio.Task[Any]) -> bool:
    return task.done()


@pytest.mark.slow
def test_a_real_provider_is_asked_about_the_opaque_tokens_that_it_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    resource, machine = "http://localhost/mcp", ("machine", "machine-secret")
    with real_provider() as real:
        real.tell("set", format="opaque")
        token = real.machine_token(resource, "read")
        client_of_it: dict[str, Any] = {"client_id": machine[0], "client_secret": machine[1], "opaque": True}

        async def steps(client: HttpClient) -> None:
            assert (await call(client, token))[:2] == (200, "client_id=machine machine read")
            revoked = {"data": {"token": token}, "auth": machine}
            answer = await asyncio.to_thread(httpx2.post, f"{real.issuer}/token/revocation", **revoked)
            answer.raise_for_status()
            monkeypatch.setattr(introspection, "_SECONDS", 0.0)
            assert (await call(client, token))[0] == 401

        scenario(make_server(real.issuer, audience=resource, **client_of_it), steps)


def test_opaque_tokens_need_credentials_of_the_server() -> None:
    given = {
        "PORTWAY_AUTH_ISSUER": "https://login.example",
        "PORTWAY_AUTH_AUDIENCE": RESOURCE,
        "PORTWAY_AUTH_OPAQUE": "1",
    }
    with pytest.raises(SettingError) as refused:
        from_environment(given)
    said = (
        "PORTWAY_AUTH_OPAQUE needs PORTWAY_AUTH_CLIENT_ID and PORTWAY_AUTH_CLIENT_SECRET: the provider tells only its "
        "clients whose a token is"
    )
    assert str(refused.value) == said
    client = {"PORTWAY_AUTH_CLIENT_ID": "vault", "PORTWAY_AUTH_CLIENT_SECRET": "s:1"}
    assert from_environment(given | client) == (OAuth("https://login.example", RESOURCE, **CLIENT),)
    assert "s:1" not in repr(from_environment(given | client))
