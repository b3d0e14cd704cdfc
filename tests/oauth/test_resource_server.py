"""A server that takes the access tokens of an identity provider: which are good, and what the others are told."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from joserfc import jwk, jwt

from portway import OAuth, Server
from portway.exceptions import SettingError
from portway.http.http_client import HttpClient
from portway.oauth import signing_keys
from portway.oauth.guarded_fetch import GuardedFetchError, fetch_json
from portway.oauth.settings import from_environment
from tests.conftest import RunCli
from tests.oauth.bad_tokens import bad_tokens, signed
from tests.oauth.key_publisher import KeyPublisher, publishing
from tests.oauth.vault import METADATA, RESOURCE, call, in_seconds, make_server, scenario
from tests.support import WEATHER
from tests.transport.http_client import envelope


def test_a_token_of_the_provider_for_this_server_names_its_caller(provider: KeyPublisher) -> None:
    good = provider.token(RESOURCE, scope="read write")
    others = provider.token(["other", "HTTPS://MCP.example.com:443/mcp/"], scp=["read"], client_id=None, azp="app")

    async def steps(client: HttpClient) -> None:
        assert (await call(client, good))[:2] == (200, "ada c read write")
        assert (await call(client, others))[:2] == (200, "ada app read")
        assert (await call(client, good, "move"))[:2] == (200, "moved")
        for _ in range(5):
            await call(client, good)

    scenario(make_server(provider), steps)
    assert provider.asked["/keys"] == 1


def test_a_client_that_calls_as_itself_is_nobody_whose_sub_is_the_name_of_that_client(provider: KeyPublisher) -> None:
    async def steps(client: HttpClient) -> None:
        itself, namesake = (provider.token(RESOURCE, sub=sub, client_id="ada") for sub in (None, "ada"))
        assert (await call(client, itself))[:2] == (200, "client_id=ada ada")
        assert (await call(client, namesake))[:2] == (200, "ada ada")
        assert (await call(client, provider.token(RESOURCE, sub="client_id=ada")))[0] == 401

    scenario(make_server(provider), steps)


def test_tokens_of_several_providers_are_taken_each_by_the_keys_of_its_own(provider: KeyPublisher) -> None:
    async def steps(client: HttpClient) -> None:
        assert (await call(client, provider.token(RESOURCE)))[0] == 200
        assert (await call(client, other.token(RESOURCE, sub="eve")))[:2] == (200, "eve c")
        assert (await call(client, other.token(RESOURCE, iss=provider.url)))[0] == 401
        assert (await call(client, third.token(RESOURCE)))[0] == 401
        metadata = await client.request("GET", "/.well-known/oauth-protected-resource/mcp", [])
        assert json.loads(await metadata.read(9999))["authorization_servers"] == [provider.url, other.url]

    with publishing() as other, publishing() as third:
        scenario(make_server(provider, other), steps)
        assert not third.asked


def test_a_caller_without_a_token_is_told_where_to_log_in(provider: KeyPublisher) -> None:
    async def steps(client: HttpClient) -> None:
        status, _, headers = await call(client, "")
        assert status == 401
        told = f'Bearer scope="read", resource_metadata="{METADATA}"'
        assert headers[b"www-authenticate"].decode() == told
        for path in ("/.well-known/oauth-protected-resource/mcp", "/.well-known/oauth-protected-resource"):
            found = await client.request("GET", path, [(b"origin", b"https://page.example")])
            assert (found.status, found.header(b"access-control-allow-origin")) == (200, b"*")
            assert json.loads(await found.read(9999)) == {
                "resource": RESOURCE,
                "authorization_servers": [provider.url],
                "scopes_supported": ["read"],
                "bearer_methods_supported": ["header"],
                "resource_name": "vault",
            }
        # A client compares the URL in the metadata with the one that it uses.
        slashed = await client.request("POST", "/mcp/", [(b"content-type", b"application/json")], b"{}")
        assert (slashed.status, await slashed.read(9999) != b"") == (401, True)
        assert slashed.header(b"www-authenticate").decode() == told[:-1] + '/"'
        found = await client.request("GET", "/.well-known/oauth-protected-resource/mcp/", [])
        assert json.loads(await found.read(9999))["resource"] == RESOURCE + "/"
        assert (await call(client, provider.token(RESOURCE + "/")))[0] == 200
        other = await client.request("GET", "/.well-known/oauth-protected-resource/other", [])
        assert other.status == 404

    scenario(make_server(provider, scopes=("read",)), steps)


def test_below_a_path_of_its_host_name_a_server_does_not_speak_for_the_whole_name(provider: KeyPublisher) -> None:
    async def steps(client: HttpClient) -> None:
        for path, status in (("/tools/mcp", 200), ("/mcp", 404), ("", 404)):
            found = await client.request("GET", f"/.well-known/oauth-protected-resource{path}", [])
            assert (found.status, path) == (status, path)
            await found.read(9999)

    scenario(make_server(provider, audience="https://mcp.example.com/tools/mcp"), steps)


def test_a_call_that_needs_more_scopes_names_all_of_them_at_once(provider: KeyPublisher) -> None:
    async def steps(client: HttpClient) -> None:
        status, _, headers = await call(client, provider.token(RESOURCE, scope="read"), "move")
        assert status == 403
        told = f'Bearer error="insufficient_scope", scope="read write", resource_metadata="{METADATA}"'
        assert headers[b"www-authenticate"].decode() == told

    scenario(make_server(provider), steps)


def test_any_other_token_is_invalid_and_says_no_more(provider: KeyPublisher) -> None:
    async def steps(client: HttpClient) -> None:
        for kind, token in bad_tokens(provider, RESOURCE, "https://other.example/mcp").items():
            status, text, headers = await call(client, token)
            assert (status, text) == (401, "This server needs a valid bearer token in the Authorization header."), kind
            assert headers[b"www-authenticate"].startswith(b'Bearer error="invalid_token", '), kind

    scenario(make_server(provider), steps)
    assert provider.asked["/evil"] == 0


def test_a_token_that_is_signed_by_hand_is_taken_if_it_is_whole(provider: KeyPublisher) -> None:
    async def steps(client: HttpClient) -> None:
        claims = f'{{"iss":"{provider.url}","aud":"{RESOURCE}","sub":"eve","exp":9999999999}}'.encode()
        for header in (b'{"alg":"ES256","kid":"one"}', b'{"alg":"ES256","jku":"https://evil.example"}'):
            assert (await call(client, signed(provider, claims, header)))[:2] == (200, "eve None")

    scenario(make_server(provider), steps)


def test_an_audience_that_is_the_clients_own_name_needs_scopes_or_a_type(provider: KeyPublisher) -> None:
    """Providers that know a server by a client id give ID tokens the same audience."""

    async def steps(client: HttpClient) -> None:
        plain = {"header": {"typ": "JWT"}, "client_id": None}
        for more, status in (
            ({"azp": "vault"}, 401),
            ({}, 401),
            ({"azp": "other"}, 200),
            ({"azp": "vault", "scope": "read"}, 200),
            ({"header": {}}, 200),
        ):
            assert (await call(client, provider.token("vault", **plain | more)))[0] == status, more

    scenario(make_server(provider, audience="vault", resource=RESOURCE), steps)


def test_a_malformed_header_is_told_so_and_a_token_in_the_address_is_none(
    provider: KeyPublisher, caplog: pytest.LogCaptureFixture
) -> None:
    async def steps(client: HttpClient) -> None:
        status, text, headers = await call(client, "two words")
        assert (status, text) == (400, "The token in the Authorization header is malformed.")
        assert headers[b"www-authenticate"].startswith(b'Bearer error="invalid_request"')
        headers_given = [(b"content-type", b"application/json"), (b"accept", b"application/json")]
        target = f"/mcp?access_token={provider.token(RESOURCE)}"
        response = await client.request("POST", target, headers_given, envelope("tools/list"))
        assert response.status == 401
        assert b"error" not in dict(response.headers)[b"www-authenticate"]  # no token was sent
        await response.read(9999)
        twice = [*headers_given, *[(b"authorization", f"Bearer {provider.token(RESOURCE)}".encode())] * 2]
        response = await client.request("POST", "/mcp", twice, envelope("tools/list"))
        assert response.status == 400
        assert b"The authorization header is sent twice." in await response.read(9999)

    caplog.set_level("DEBUG")
    scenario(make_server(provider), steps)
    assert "eyJ" not in caplog.text


def test_keys_are_fetched_again_when_they_rotate_and_not_for_a_flood_of_unknown_ones(
    provider: KeyPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def steps(client: HttpClient) -> None:
        assert (await call(client, provider.token(RESOURCE)))[0] == 200
        provider.add("two", "RSA")
        unknown = [provider.token(RESOURCE, "two", header={"kid": f"made-up-{number}"}) for number in range(20)]
        for token in unknown:
            assert (await call(client, token))[0] == 401
        assert provider.asked["/keys"] == 1  # a fetch was just made
        monkeypatch.setattr(signing_keys, "_PAUSE_SECONDS", 0.0)
        assert (await call(client, provider.token(RESOURCE, "two")))[0] == 200
        first = provider.token(RESOURCE)
        assert (await call(client, first))[0] == 200
        del provider.keys["one"]
        assert (await call(client, unknown[0]))[0] == 401  # fetches the keys, of which the first is gone
        assert (await call(client, first))[0] == 401

    scenario(make_server(provider), steps)


@pytest.mark.parametrize("is_busy", [True, False])
def test_a_known_token_is_no_longer_taken_when_its_key_was_taken_back(
    provider: KeyPublisher, monkeypatch: pytest.MonkeyPatch, is_busy: bool
) -> None:
    async def steps(client: HttpClient) -> None:
        token = provider.token(RESOURCE)
        assert (await call(client, token))[0] == 200
        provider.add("two")
        del provider.keys["one"]
        assert (await call(client, token))[0] == 200  # the keys at hand are fresh
        monkeypatch.setattr(signing_keys, "_PAUSE_SECONDS", 0.0)
        monkeypatch.setattr(signing_keys, "_FRESH_SECONDS", 0.0)
        if is_busy:
            async with asyncio.timeout(120):
                while (await call(client, token))[0] == 200:
                    pass
        else:  # the next call after twenty minutes waits for the keys
            monkeypatch.setattr(signing_keys, "_OLD_SECONDS", 0.0)
            assert (await call(client, token))[0] == 401

    scenario(make_server(provider), steps)


def test_while_the_provider_is_down_known_keys_serve_and_without_any_it_is_said_so(
    provider: KeyPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def steps(client: HttpClient) -> None:
        provider.is_down = True
        status, text, headers = await call(client, provider.token(RESOURCE))
        assert (status, text) == (503, "The identity provider does not answer; try again later.")
        assert headers[b"retry-after"] == b"30"
        assert b"www-authenticate" not in headers
        provider.is_down = False
        monkeypatch.setattr(signing_keys, "_PAUSE_SECONDS", 0.0)
        assert (await call(client, provider.token(RESOURCE)))[0] == 200
        provider.is_down = True
        assert (await call(client, provider.token(RESOURCE, sub="bob")))[:2] == (200, "bob c")

    scenario(make_server(provider), steps)


def test_metadata_of_another_issuer_is_not_believed(provider: KeyPublisher) -> None:
    provider.issuer = "https://evil.example"

    async def steps(client: HttpClient) -> None:
        assert (await call(client, provider.token(RESOURCE)))[0] == 503

    scenario(make_server(provider), steps)
    assert provider.asked["/keys"] == 0


def test_named_tokens_stay_beside_it(provider: KeyPublisher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORTWAY_TOKENS", "bob:named-1:read")

    async def steps(client: HttpClient) -> None:
        assert (await call(client, "named-1"))[:2] == (200, "bob bob read")
        assert (await call(client, provider.token(RESOURCE)))[0] == 200

    scenario(make_server(provider), steps)


@pytest.mark.parametrize(
    ("issuer", "audience", "more", "said"),
    [
        ("http://login.example", RESOURCE, {}, "the issuer 'http://login.example' is no https URL without query"),
        ("https://login.example?a=b", RESOURCE, {}, "is no https URL without query and comma: give the provider's own"),
        ("https://a.example,https://b.example", RESOURCE, {}, "is no https URL without query and comma: give the"),
        ("https://login.example", "", {}, "give the audience, too (--auth-audience or PORTWAY_AUTH_AUDIENCE), the"),
        (
            "https://login.example",
            "api://vault",
            {},
            "is no URL: give the public URL of the endpoint as resource (PORTWAY_AUTH",
        ),
        ("https://login.example", RESOURCE, {"scopes": ("a b",)}, "'a b' is no scope: it has no spaces, quotes and"),
    ],
)
def test_settings_that_would_not_be_safe_are_refused(
    issuer: str, audience: str, more: dict[str, Any], said: str
) -> None:
    with pytest.raises(SettingError) as refused:
        OAuth(issuer, audience, **more)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([OAuth("https://a.example", RESOURCE)] * 2, "the issuer 'https://a.example' is given twice: give each"),
        (
            [OAuth("https://a.example", RESOURCE), OAuth("https://b.example", RESOURCE + "/b")],
            "the providers of a server need one resource: give the public URL of the endpoint to each, as resource",
        ),
        (
            [
                OAuth(f"https://{name}.example", RESOURCE, client_id="c", client_secret="s", downstream="exchange")
                for name in ("a", "b")
            ],
            "tokens for other services come from one provider: give downstream to one OAuth only",
        ),
    ],
)
def test_providers_that_do_not_fit_together_are_refused(given: list[OAuth], said: str) -> None:
    with pytest.raises(SettingError) as refused:
        Server("vault", auth=given)
    assert said in str(refused.value)


def test_the_environment_names_several_providers_and_their_audiences() -> None:
    of = {"PORTWAY_AUTH_ISSUER": "https://a.example https://b.example", "PORTWAY_AUTH_RESOURCE": RESOURCE}
    assert from_environment(of | {"PORTWAY_AUTH_AUDIENCE": "api://a, api://b"}) == (
        OAuth("https://a.example", "api://a", RESOURCE),
        OAuth("https://b.example", "api://b", RESOURCE),
    )
    assert [each.audience for each in from_environment(of | {"PORTWAY_AUTH_AUDIENCE": "api://v"})] == ["api://v"] * 2
    assert from_environment({"PORTWAY_AUTH_ISSUER": ""}) == (), "an empty variable is as good as none"
    with pytest.raises(SettingError) as refused:
        from_environment({"PORTWAY_AUTH_ISSUER": " , "})
    assert str(refused.value) == "PORTWAY_AUTH_ISSUER names no issuer: give the provider's URL, or leave it out"
    with pytest.raises(SettingError) as refused:
        from_environment(of | {"PORTWAY_AUTH_AUDIENCE": "a b c"})
    said = "there are 3 audiences for 2 issuers: give one for all, or one for each in the same order"
    assert str(refused.value) == said
    with pytest.raises(SettingError) as refused:
        from_environment(of | {"PORTWAY_AUTH_CLIENT_ID": "c", "PORTWAY_AUTH_AUDIENCE": "a"})
    said = "PORTWAY_AUTH_CLIENT_ID is for one issuer: give several in code, as Server(auth=[OAuth(…), OAuth(…)])"
    assert str(refused.value) == said


def test_a_provider_in_the_network_of_the_server_is_not_asked_unless_that_is_meant(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = Server("vault", auth=OAuth("https://10.255.255.1", RESOURCE))
    claims = {"iss": "https://10.255.255.1", "aud": RESOURCE, "sub": "eve", "exp": in_seconds(600)}
    token = jwt.encode({"alg": "ES256", "kid": "one"}, claims, jwk.ECKey.generate_key("P-256"))

    async def steps(client: HttpClient) -> None:
        assert (await call(client, token))[0] == 503

    scenario(server, steps)
    assert "10.255.255.1 is in the network of this machine, and PORTWAY_AUTH_PRIVATE is not 1" in caplog.text


def test_a_provider_elsewhere_may_not_have_this_machine_ask_itself(provider: KeyPublisher) -> None:
    with pytest.raises(GuardedFetchError, match="localhost is in the network of this machine"):
        asyncio.run(fetch_json(f"{provider.url}/keys", dict, private=False))
    assert not provider.asked


@pytest.mark.parametrize(
    ("path", "content", "said"),
    [
        ("/.well-known/openid-configuration", None, "openid-configuration answers with status 404"),
        ("/.well-known/openid-configuration", {"issuer": "https://evil.example"}, "is of the issuer 'https://evil.ex"),
        ("/.well-known/openid-configuration", [], "does not answer with the JSON that is expected there"),
        ("/.well-known/openid-configuration", {"jwks_uri": "http://login.example/keys"}, "keys is no https URL"),
        ("/.well-known/openid-configuration", {"jwks_uri": "https://["}, "https://[ is no URL"),
        ("/.well-known/openid-configuration", {"jwks_uri": "https://none.invalid/"}, "none.invalid is not found"),
        (
            "/.well-known/openid-configuration",
            {"jwks_uri": "http://localhost:9/"},
            "http://localhost:9/ could not be read: ",
        ),
    ],
)
def test_the_log_says_why_the_keys_could_not_be_fetched(
    provider: KeyPublisher, caplog: pytest.LogCaptureFixture, path: str, content: object, said: str
) -> None:
    usual = {"issuer": provider.url}
    provider.instead[path] = (404, {}) if content is None else (200, usual | content if content else [])  # type: ignore[operator]

    async def steps(client: HttpClient) -> None:
        assert (await call(client, provider.token(RESOURCE)))[0] == 503

    scenario(make_server(provider), steps)
    assert f"the keys of {provider.url} could not be fetched: " in caplog.text
    assert said in caplog.text


def test_an_audience_without_an_issuer_is_refused_and_stdio_says_that_nobody_logs_in(run_cli: RunCli) -> None:
    done = run_cli("run", WEATHER, "--transport", "http", env={"PORTWAY_AUTH_AUDIENCE": RESOURCE})
    assert "PORTWAY_AUTH_AUDIENCE needs PORTWAY_AUTH_ISSUER, the URL of the identity provider" in done.stderr
    done = run_cli("run", WEATHER, "--auth-audience", RESOURCE)
    assert "--auth-audience and --auth-scopes need --auth-issuer, the URL of the provider" in done.stderr
    done = run_cli("run", WEATHER, "--transport", "http", "--auth-issuer", "", env={"PORTWAY_AUTH_ISSUER": "https://a"})
    assert (done.returncode, "--auth-issuer names no issuer: give the provider's URL" in done.stderr) == (2, True)
    done = run_cli(
        "run", WEATHER, "--transport", "stdio", "--auth-issuer", "https://a.example", "--auth-audience", RESOURCE
    )
    assert done.returncode == 0
    said = "over stdio nobody logs in: the identity provider is not used, and whoever started this may call"
    assert said in done.stderr
