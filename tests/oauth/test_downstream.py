"""`Context.token_for`: which tokens for other services a tool gets for its caller, and when the provider is asked."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from joserfc import jwk, jwt

from portway import Context, DownstreamError, OAuth, Server
from portway.auth.caller_header import relay
from portway.auth.principal import Principal
from portway.exceptions import SettingError
from portway.http.http_client import HttpClient
from portway.oauth import downstream
from portway.transport.configured_app import configured_app
from tests.host.running_host import host
from tests.oauth.key_publisher import KeyPublisher
from tests.oauth.vault import RESOURCE
from tests.support import eventually
from tests.transport.http_client import MODERN, envelope, post, served

ORDERS = "https://orders.example.com"
Call = Callable[..., Awaitable[str]]


def make_server(issuer: str, grant: str = "exchange") -> Server:
    settings: dict[str, Any] = {"client_id": "port:way", "client_secret": "s/1", "downstream": grant} if grant else {}
    server = Server("shop", auth=OAuth(issuer, RESOURCE, **settings))

    @server.tool
    async def token(ctx: Context, audience: str, scopes: list[str] | str = "") -> str:
        entered.release()
        try:
            return await ctx.token_for(audience, scopes or ())
        except DownstreamError as error:
            return str(error)

    @server.tool
    async def shown(ctx: Context) -> str:
        return f"{ctx._exchange!r} {ctx!r} {dict(ctx.headers)}"

    entered = asyncio.Semaphore(0)
    return server


def scenario(server: Server, steps: Callable[[Call], Awaitable[None]]) -> None:
    async def run(_: str, client: HttpClient) -> None:
        async def call(token: str, tool: str = "token", **arguments: object) -> str:
            body = envelope("tools/call", {"name": tool, "arguments": arguments})
            named = {"mcp_protocol_version": MODERN, "mcp_method": "tools/call", "mcp_name": tool}
            response = await post(client, body, authorization=f"Bearer {token}", **named)
            found: str = json.loads(await response.read(99_999))["result"]["content"][0]["text"]
            return found

        await steps(call)

    served(run, configured_app(server))


def test_the_callers_token_is_exchanged_for_one_of_the_audience_and_scopes(provider: KeyPublisher) -> None:
    own = provider.token(RESOURCE)

    async def steps(call: Call) -> None:
        assert await call(own, audience=ORDERS, scopes=["write", "read"]) == "given-1"
        assert await call(own, audience=ORDERS, scopes=["read", "write"]) == "given-1"
        assert await call(own, audience=ORDERS, scopes=["read"]) == "given-2"
        assert await call(own, audience="orders") == "given-3"
        assert await call(provider.token(RESOURCE, jti="renewed"), audience="orders") == "given-4"

    scenario(make_server(provider.url), steps)
    assert provider.forms[0] == {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "subject_token": own,
        "subject_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "requested_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "audience": ORDERS,
        "resource": ORDERS,
        "scope": "read write",
        "authorization": "Basic " + base64.b64encode(b"port%3Away:s%2F1").decode(),
    }
    assert "resource" not in provider.forms[2]
    assert len(provider.forms) == 4


def test_client_credentials_ask_as_the_server_itself_once_for_all_callers(
    provider: KeyPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downstream, "_MARGIN_SECONDS", 700)  # more than is left of the callers' own tokens
    provider.lifetime = 3000

    async def steps(call: Call) -> None:
        for subject in ("ada", "ben"):
            assert await call(provider.token(RESOURCE, sub=subject), audience=ORDERS) == "given-1"

    metadata = {"issuer": provider.url, "jwks_uri": f"{provider.url}/keys", "token_endpoint": f"{provider.url}/token"}
    methods = {"token_endpoint_auth_methods_supported": ["client_secret_post"]}
    provider.instead["/.well-known/openid-configuration"] = (200, metadata | methods)
    scenario(make_server(provider.url, "client_credentials"), steps)
    (form,) = provider.forms
    assert form["grant_type"] == "client_credentials"
    assert (form["client_id"], form["client_secret"], form["authorization"]) == ("port:way", "s/1", "")
    assert "subject_token" not in form


def test_calls_that_want_the_same_token_at_once_ask_for_it_once(provider: KeyPublisher) -> None:
    own = provider.token(RESOURCE)
    provider.gives.clear()

    async def steps(call: Call) -> None:
        calls = [asyncio.create_task(call(own, audience=ORDERS)) for _ in range(5)]
        await asyncio.to_thread(eventually, lambda: provider.forms)
        calls.pop().cancel()
        provider.gives.set()
        assert await asyncio.gather(*calls) == ["given-1"] * 4

    scenario(make_server(provider.url), steps)
    assert len(provider.forms) == 1


def test_a_token_is_renewed_before_it_expires_and_serves_on_while_the_provider_is_down(
    provider: KeyPublisher, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(downstream, "_RENEW_SHARE", 1)
    monkeypatch.setattr(downstream, "_PAUSE_SECONDS", 0)
    provider.lifetime = 40
    own = provider.token(RESOURCE)

    async def steps(call: Call) -> None:
        assert await call(own, audience=ORDERS) == "given-1"
        provider.is_down = True
        assert await call(own, audience=ORDERS) == "given-1"
        refused = f"no token for {ORDERS}: its token endpoint answers with status 503"
        await asyncio.to_thread(eventually, lambda: refused in caplog.text)
        provider.is_down = False
        assert await call(own, audience=ORDERS) == "given-1"
        await asyncio.to_thread(eventually, lambda: len(provider.forms) == 3)
        while (given := await call(own, audience=ORDERS)) == "given-1":
            pass
        assert given == "given-3"

    scenario(make_server(provider.url), steps)


def test_a_token_that_is_about_to_expire_is_not_handed_out_again(provider: KeyPublisher) -> None:
    own = provider.token(RESOURCE)
    provider.lifetime = 9

    async def steps(call: Call) -> None:
        assert [await call(own, audience=ORDERS) for _ in range(2)] == ["given-1", "given-2"]

    scenario(make_server(provider.url), steps)


def test_no_more_tokens_are_kept_than_the_cache_holds(provider: KeyPublisher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downstream, "_MOST_HELD", 2)
    own = provider.token(RESOURCE)

    async def steps(call: Call) -> None:
        names = ["a", "b", "a", "c", "a", "b"]
        given = [await call(own, audience=name) for name in names]
        assert given == ["given-1", "given-2", "given-1", "given-3", "given-1", "given-4"]

    scenario(make_server(provider.url), steps)


MENDS = {
    "invalid_client": "check PORTWAY_AUTH_CLIENT_ID and PORTWAY_AUTH_CLIENT_SECRET",
    "unauthorized_client": "allow this grant to the server's client at the provider",
    "unsupported_grant_type": "use another PORTWAY_AUTH_DOWNSTREAM, or switch the grant on at the provider",
    "invalid_target": "register the audience at the provider, and allow it to the server's client",
    "invalid_scope": "allow the scopes to the server's client at the provider",
    "invalid_grant": "the provider does not exchange this caller's token",
    "invalid_request": "the provider does not exchange this caller's token",
}
ANSWERS = [
    *((400, {"error": code}, f"the provider answers {code}: {mend}") for code, mend in MENDS.items()),
    (400, {"error": "other\x1b[2J"}, "its token endpoint answers with status 400"),
    (302, {}, "its token endpoint answers with status 302"),
    (200, {"token_type": "Bearer"}, " does not answer as a token endpoint does"),
    (200, {"access_token": "t", "token_type": "N_A"}, f" gave no bearer token for {ORDERS}"),
    (200, {"access_token": "a b", "token_type": "Bearer"}, f" gave no bearer token for {ORDERS}"),
    (200, {"access_token": "OWN", "token_type": "Bearer"}, f" gave the caller's own token back for {ORDERS}"),
]


@pytest.mark.parametrize(("status", "body", "told"), ANSWERS)
def test_what_a_provider_refuses_or_answers_wrongly_is_told_with_its_mend(
    provider: KeyPublisher, caplog: pytest.LogCaptureFixture, status: int, body: dict[str, str], told: str
) -> None:
    own = provider.token(RESOURCE)
    provider.instead["/token"] = (status, {key: own if value == "OWN" else value for key, value in body.items()})

    async def steps(call: Call) -> None:
        text = await call(own, audience=ORDERS)
        assert text.endswith(told)
        assert text in caplog.text

    scenario(make_server(provider.url), steps)
    assert own not in caplog.text


def test_a_wrong_wish_is_refused_before_the_provider_is_asked(provider: KeyPublisher) -> None:
    own = provider.token(RESOURCE)

    async def steps(call: Call) -> None:
        assert (
            await call(own, audience="")
            == "'' is no audience: give the URL of the service, or its name at the provider"
        )
        assert (
            await call(own, audience=ORDERS, scopes=["a b"])
            == "'a b' is no scope: it has no spaces, quotes and backslashes"
        )
        assert (
            await call(own, audience=ORDERS, scopes="read")
            == "scopes are a list of texts, as in token_for(audience, ['read'])"
        )

    scenario(make_server(provider.url), steps)
    assert not provider.forms


def test_a_named_token_is_never_sent_to_the_provider(provider: KeyPublisher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORTWAY_TOKENS", "carl:named-secret")

    async def steps(call: Call) -> None:
        text = f"only a token of {provider.url} is exchanged, and carl came without: log in there"
        assert await call("named-secret", audience=ORDERS) == text

    scenario(make_server(provider.url), steps)
    assert not provider.forms


def test_what_many_calls_obtain_at_once_is_bounded(provider: KeyPublisher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downstream, "_MOST_OBTAINED", 1)
    own = provider.token(RESOURCE)
    provider.gives.clear()

    async def steps(call: Call) -> None:
        first = asyncio.create_task(call(own, audience="a"))
        await asyncio.to_thread(eventually, lambda: provider.forms)
        assert await call(own, audience="b") == "too many tokens are being obtained at this moment: try again"
        provider.gives.set()
        assert await first == "given-1"

    scenario(make_server(provider.url), steps)


def test_the_right_to_other_tokens_ends_with_the_callers(
    provider: KeyPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = provider.token(RESOURCE)

    async def steps(call: Call) -> None:
        assert await call(own, audience=ORDERS) == "given-1"
        now = downstream.time.time
        monkeypatch.setattr(downstream.time, "time", lambda: now() + 700)
        text = "the caller's token has expired during the call, and so has the right to others: call again"
        monkeypatch.setattr("portway.oauth.access_tokens._Known.is_good", lambda _: True)
        assert await call(own, audience=ORDERS) == text

    scenario(make_server(provider.url), steps)


@pytest.mark.parametrize("grant", ["exchange", "client_credentials", ""])
def test_no_handler_and_no_log_shows_the_callers_token(
    provider: KeyPublisher, caplog: pytest.LogCaptureFixture, grant: str
) -> None:
    caplog.set_level(logging.DEBUG)
    own = provider.token(RESOURCE)

    async def steps(call: Call) -> None:
        assert "Bearer" not in await call(own, "shown")
        await call(own, audience=ORDERS)

    server = make_server(provider.url, grant)
    scenario(server, steps)
    assert own not in caplog.text
    assert "s/1" not in caplog.text + repr(server.auth)


def test_a_server_without_a_grant_or_over_stdio_says_how_to_get_one(provider: KeyPublisher) -> None:
    text = (
        "this server obtains no tokens for other services: set PORTWAY_AUTH_DOWNSTREAM and serve HTTP; "
        "over stdio, take credentials from the environment"
    )

    async def steps(call: Call) -> None:
        assert await call(provider.token(RESOURCE), audience=ORDERS) == text

    scenario(make_server(provider.url, ""), steps)


SETTINGS = [
    ({"CLIENT_ID": "a"}, "PORTWAY_AUTH_CLIENT_ID and PORTWAY_AUTH_CLIENT_SECRET need each other: set both"),
    ({"DOWNSTREAM": "swap"}, "there is no PORTWAY_AUTH_DOWNSTREAM swap; use exchange or client_credentials"),
    (
        {"DOWNSTREAM": "exchange"},
        (
            "PORTWAY_AUTH_DOWNSTREAM needs PORTWAY_AUTH_CLIENT_ID and PORTWAY_AUTH_CLIENT_SECRET: "
            "register this server as a client at the provider"
        ),
    ),
]


@pytest.mark.parametrize(("given", "told"), SETTINGS)
def test_settings_that_cannot_work_are_refused_at_the_start(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], told: str
) -> None:
    for name, value in ({"ISSUER": "https://login.example.com", "AUDIENCE": RESOURCE} | given).items():
        monkeypatch.setenv(f"PORTWAY_AUTH_{name}", value)
    with pytest.raises(SettingError) as refused:
        configured_app(Server("shop"))
    assert str(refused.value) == told


def test_behind_a_gate_a_server_asks_as_itself_unless_the_gate_says_who_calls(
    provider: KeyPublisher, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PORTWAY_SOCKET", str(tmp_path / "app.sock"))
    with pytest.raises(SettingError) as refused:
        configured_app(make_server(provider.url))
    assert str(refused.value) == (
        "PORTWAY_AUTH_DOWNSTREAM=exchange needs the caller's token, which ends at the host's gate: set "
        "x-portway.assertion: true to exchange the gate's assertion, or use client_credentials, or --access app"
    )

    async def steps(call: Call) -> None:
        assert await call("", audience=ORDERS) == "given-1"

    scenario(make_server(provider.url, "client_credentials"), steps)


def test_behind_a_gate_its_assertion_is_exchanged_once_for_each_caller_and_their_rights(
    provider: KeyPublisher, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PORTWAY_SOCKET", str(tmp_path / "app.sock"))
    monkeypatch.setenv("PORTWAY_ASSERTION_ISSUER", "https://host.example")
    body = envelope("tools/call", {"name": "token", "arguments": {"audience": ORDERS}})
    named = {"mcp_protocol_version": MODERN, "mcp_method": "tools/call", "mcp_name": "token"}

    async def run(_: str, client: HttpClient) -> None:
        async def call(
            subject: str, *scopes: str, issuer: str = provider.url, ends: float | None = None, **claims: object
        ) -> str:
            caller = relay(Principal(issuer, subject, "c", frozenset(scopes), expires=ends)).decode()
            assertion = {
                "x_portway_jwt_assertion": provider.token("app", sub=subject, jti=os.urandom(8).hex(), **claims)
            }
            asserted = {} if claims.get("iss") == "" else assertion
            sent = {"authorization": "Bearer of-the-gate", "portway_caller": caller} | asserted
            response = await post(client, body, **named, **sent)
            found: str = json.loads(await response.read(99_999))["result"]["content"][0]["text"]
            return found

        assert [await call("ada", "read") for _ in range(2)] == ["given-1", "given-1"], "two assertions of one caller"
        assert await call("ben", "read") == "given-2"
        assert await call("ada") == "given-3", "with other rights"
        assert await call("ada", "read", exp=1) == "given-1"
        told = "the caller's token has expired during the call, and so has the right to others: call again"
        assert await call("ada", "read", ends=1.0) == told
        late = "the gate's assertion of the caller ends within a minute, which this call has outlasted"
        assert await call("cat", exp=1) == f"{late}: ask for the token sooner"
        foreign = f"only a token of {provider.url} is exchanged, and ada came without: log in there"
        assert await call("ada", issuer="portway") == await call("ada", iss="") == foreign
        for code in ("invalid_grant", "invalid_request"):
            provider.instead["/token"] = (400, {"error": code})
            mend = "let the provider take this host's assertions for the app as subject tokens"
            assert await call("dan") == f"no token for {ORDERS}: the provider answers {code}: {mend}"

    served(run, configured_app(make_server(provider.url)))
    types = {form["subject_token_type"] for form in provider.forms}
    assert (types, len(provider.forms)) == ({"urn:ietf:params:oauth:token-type:jwt"}, 5)
    assert [jwt.decode(form["subject_token"], provider.keys["one"]).claims["sub"] for form in provider.forms[:3]] == [
        *("ada", "ben", "ada")
    ]


HOSTED = """
from portway import Context, Server

server = Server("shop")

@server.tool
async def token(ctx: Context) -> str:
    return await ctx.token_for("orders", ["read"])

@server.tool
def ends(ctx: Context) -> float | None:
    return ctx.caller.expires
"""


@pytest.mark.slow
def test_a_hosted_app_gets_tokens_as_itself_by_its_own_variables(provider: KeyPublisher, tmp_path: Path) -> None:
    (folder := tmp_path / "shop").mkdir()
    (folder / "server.py").write_text(HOSTED)
    given = {"ISSUER": provider.url, "AUDIENCE": RESOURCE, "DOWNSTREAM": "client_credentials"}
    given |= {"CLIENT_ID": "shop", "CLIENT_SECRET": "planted-secret"}
    words = [f"PORTWAY_AUTH_{name}={value}" for name, value in given.items()]
    with host(tmp_path / "data", [folder], walls=False, options=["--trust-all-apps"]) as running:
        assert running.portway("env", "set", "shop", *words).returncode == 0
        assert running.call("shop", "token", running.ready["token"]) == {"result": "given-1"}
        assert "planted-secret" not in running.portway("logs", "shop").stdout
        exchanged = running.portway("env", "set", "shop", "PORTWAY_AUTH_DOWNSTREAM=exchange")
        assert "needs the caller's token, which ends at the host's gate" in exchanged.stderr
        assert running.call("shop", "token", running.ready["token"]) == {"result": "given-1"}
    (form,) = provider.forms
    assert (form["grant_type"], form["audience"], form["scope"]) == ("client_credentials", "orders", "read")


@pytest.mark.slow
def test_a_hosted_app_exchanges_what_the_gate_says_of_its_caller(provider: KeyPublisher, tmp_path: Path) -> None:
    (folder := tmp_path / "shop").mkdir()
    (folder / "server.py").write_text(HOSTED)
    (folder / "render.yaml").write_text(
        "services: [{type: web, name: shop, runtime: python, x-portway: {assertion: true}}]"
    )
    given = {"ISSUER": provider.url, "AUDIENCE": RESOURCE, "DOWNSTREAM": "exchange"}
    given |= {"CLIENT_ID": "shop", "CLIENT_SECRET": "planted-secret"}
    options = ["--trust-all-apps", "--auth-issuer", provider.url]
    with host(tmp_path / "data", [folder], walls=False, options=options) as running:
        words = [f"PORTWAY_AUTH_{name}={value}" for name, value in given.items()]
        assert running.portway("env", "set", "shop", *words).returncode == 0
        url = running.ready["url"]
        for subject, token in (("ada", "given-1"), ("ben", "given-2"), ("ada", "given-1")):
            assert running.call("shop", "token", provider.token(f"{url}/shop/mcp", sub=subject)) == {"result": token}
        own = provider.token(f"{url}/shop/mcp", exp=4_000_000_000)
        ends = running.call("shop", "ends", own)["result"]
        assert 0 <= ends - 4_000_000_000 <= 60, "when the gate takes the token no longer: clocks differ a little"
        told = "came without: log in there"
        named = running.portway("token", "create", "shop", "ada").stdout.strip()
        assert running.portway("call", f"{url}/shop/mcp", "token", "--token", named).returncode == 1
        eventually(lambda: told in running.portway("logs", "shop").stdout)
        keys = jwk.KeySet.import_key_set(httpx2.get(f"{url}/_portway/jwks.json").json())
    for subject, form in zip(("ada", "ben"), provider.forms, strict=True):
        claims = jwt.decode(form["subject_token"], keys, algorithms=["ES256"]).claims
        assert (claims["iss"], claims["aud"], claims["exp"] - claims["iat"]) == (url, f"{url}/shop/mcp", 60)
        assert claims["sub_id"] == {"format": "iss_sub", "iss": provider.url, "sub": subject}
        assert form["subject_token_type"] == "urn:ietf:params:oauth:token-type:jwt"
