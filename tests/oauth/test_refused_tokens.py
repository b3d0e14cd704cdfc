"""What the log says of tokens that are refused: why, in few lines, and never a token."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from joserfc import jwk

from portway.http.http_client import HttpClient
from portway.oauth import introspection, refused_tokens
from tests.oauth.bad_tokens import signed
from tests.oauth.key_publisher import KeyPublisher
from tests.oauth.vault import RESOURCE, call, in_seconds, make_server, scenario

OTHER = "https://other.example/mcp"
CLAIMS: list[tuple[dict[str, Any], str]] = [
    ({"aud": OTHER}, f"its audience is '{OTHER}', not '{RESOURCE}'"),
    ({"aud": [OTHER, "b", "c", "d"]}, f"its audience is '{OTHER}', 'b', 'c', …, not '{RESOURCE}'"),
    ({"aud": None}, f"its audience is nothing, not '{RESOURCE}'"),
    ({"aud": "x\n" * 2000}, "its audience is '" + r"x\n" * 50 + f"'…, not '{RESOURCE}'"),
    ({"exp": in_seconds(-3_500_000)}, "it expired 35"),
    ({"nbf": in_seconds(7_050_000)}, "it is good only in 70"),
    ({"exp": "soon"}, "its exp is 'soon' and its nbf 0, which are no times"),
    ({"sub": None, "client_id": None}, "it names nobody: its sub is nothing"),
    ({"sub": "client_id=c"}, "it names nobody: its sub is 'client_id=c'"),
    ({"nonce": "n"}, "it is no access token, or needs a proof: it has the claim 'nonce'"),
    ({"token_use": "id"}, "it is no access token: its 'token_use' is 'id'"),
    ({"header": {"typ": "JOSE"}}, "its header is not that of an access token: typ is 'JOSE'"),
    ({"header": {"kid": "unheard-of"}}, "its key 'unheard-of' for 'ES256' is not published"),
]


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if " was refused: " in each.getMessage()]


@pytest.mark.parametrize(("claims", "reason"), CLAIMS)
def test_the_log_says_why_a_token_was_refused_and_of_whom_it_claims_to_be(
    provider: KeyPublisher, caplog: pytest.LogCaptureFixture, claims: dict[str, Any], reason: str
) -> None:
    given = {"audience": RESOURCE} | {("audience" if name == "aud" else name): claims[name] for name in claims}
    token = provider.token(**given)

    async def steps(client: HttpClient) -> None:
        assert (await call(client, token))[0] == 401

    scenario(make_server(provider), steps)
    sub = claims.get("sub", "ada")
    whose = f"a token that is claimed to be of '{provider.url}' for {'nothing' if sub is None else repr(sub)}"
    (line,) = lines(caplog)
    assert line.startswith(f"{whose} was refused: {reason}")
    assert len(line) < 400
    assert token not in caplog.text


def test_the_log_says_which_issuer_signature_and_form_of_a_token_are_not_taken(
    provider: KeyPublisher, caplog: pytest.LogCaptureFixture
) -> None:
    provider.keys["forged"] = jwk.ECKey.generate_key("P-256", {"kid": "forged"})
    forged = provider.token(RESOURCE, "forged", header={"kid": "one"})
    del provider.keys["forged"]
    body = f'{{"iss":"{provider.url}","aud":"vault","sub":"vault","exp":9999999999}}'.encode()
    tokens = {
        provider.token(RESOURCE, iss=f"{provider.url}/"): f"its issuer is '{provider.url}/', not '{provider.url}'",
        forged: "its signature is not by the key 'one' of the provider",
        signed(provider, body, b'{"alg":"HS256","kid":"one"}'): "it is signed by 'HS256', which is not taken",
        signed(provider, body): "it may be an ID token: its audience 'vault' is its client, and it has no scope",
        "a-mistyped-secret": "it is no signed JWT, and PORTWAY_AUTH_OPAQUE is not 1",
        "x" * 16_385: "no token of more than 16384 characters is read",
    }

    async def steps(client: HttpClient) -> None:
        for token, reason in tokens.items():
            assert (await call(client, token))[0] == 401, reason
            assert reason in lines(caplog)[-1]

    scenario(make_server(provider, audience="vault", resource=RESOURCE), steps)
    assert not any(token in caplog.text for token in tokens)


@pytest.mark.slow
def test_the_log_says_what_the_provider_says_of_an_opaque_token(
    provider: KeyPublisher, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: dict[str, Any] = {"client_id": "vault", "client_secret": "s", "opaque": True}

    async def steps(client: HttpClient) -> None:
        for token, reason in (
            ("revoked-one", "the provider says that it is not active"),
            (provider.open("for-another", aud=OTHER), f"its audience is '{OTHER}', not '{RESOURCE}'"),
        ):
            assert (await call(client, token))[0] == 401
            assert lines(caplog)[-1] == f"a token of {provider.url} was refused: {reason}"
        short = provider.open("short-lived", aud=RESOURCE, exp=in_seconds(-26))
        assert (await call(client, short))[0] == 200
        async with asyncio.timeout(120):
            while (await call(client, short))[0] == 200:
                pass
        assert lines(caplog)[-1].endswith("it has expired since the provider was asked")
        monkeypatch.setattr(introspection, "_REFUSED_SECONDS", 0.0)
        provider.instead["/introspect"] = (400, {})
        assert (await call(client, "malformed"))[0] == 401
        assert lines(caplog)[-1].endswith("to the provider it is no token")

    scenario(make_server(provider, **settings), steps)


def test_a_flood_of_bad_tokens_writes_a_line_for_each_reason_and_counts_the_others(
    provider: KeyPublisher, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(number: int) -> str:
        return provider.token(RESOURCE, sub=f"eve-{number}", exp=in_seconds(-3600 - number))

    async def steps(client: HttpClient) -> None:
        for number in range(100):
            for token in (
                provider.token(RESOURCE, iss=f"https://{number}.example"),
                provider.token(f"https://{number}.example"),
                late(number),
            ):
                assert (await call(client, token))[0] == 401
        assert len(lines(caplog)) == 3
        monkeypatch.setattr(refused_tokens, "_SECONDS", 0.0)
        assert (await call(client, late(5)))[0] == 401
        assert lines(caplog)[3].endswith(" s ago (99 others like it before)")
        assert (await call(client, late(6)))[0] == 401
        assert lines(caplog)[4].endswith(" s ago")

    monkeypatch.setattr(refused_tokens, "_SECONDS", 3600.0)
    scenario(make_server(provider), steps)
    assert "eyJ" not in caplog.text
