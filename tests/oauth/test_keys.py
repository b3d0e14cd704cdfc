"""The keys that a provider publishes: which are used, and how often they are asked for."""

from __future__ import annotations

from typing import Any

import pytest
from joserfc import jwk, jwt

from portway.http.http_client import HttpClient
from portway.oauth import signing_keys
from portway.oauth.signing_key import ALGORITHMS, SigningKey
from tests.oauth.key_publisher import KeyPublisher
from tests.oauth.vault import RESOURCE, call, in_seconds, make_server, scenario


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the keys by which signatures have been checked, one for each check."""
    checked = []
    has_signed = SigningKey.has_signed

    def noting(key: SigningKey, *given: Any) -> bool:
        checked.append(key.id)
        return has_signed(key, *given)

    monkeypatch.setattr(SigningKey, "has_signed", noting)
    return checked


def small_rsa() -> Any:
    with pytest.warns(match="2048"):
        return jwk.RSAKey.generate_key(1024, {"kid": "rsa"})


def published(key: Any, **members: object) -> dict[str, Any]:
    return {name: value for name, value in (key.as_dict(private=False) | members).items() if value is not None}


def test_of_the_keys_that_are_published_only_safe_ones_are_used(
    provider: KeyPublisher, caplog: pytest.LogCaptureFixture
) -> None:
    one = provider.keys["one"]
    for name in ("secret", "other-use", "other-alg", "signs-only", "twice", "unnamed"):
        provider.add(name)
    provider.keys["small"] = small_rsa()
    stranger = jwk.ECKey.generate_key("P-256")
    keys: list[object] = [
        published(provider.keys["small"], kid="small"),
        provider.keys["secret"].as_dict(private=True),
        published(provider.keys["other-use"], use="enc"),
        published(provider.keys["other-alg"], alg="ES384"),
        published(provider.keys["signs-only"], key_ops=["sign"], use=None),
        published(stranger, kid="twice"),
        published(provider.keys["twice"]),
        published(provider.keys["unnamed"], kid=None),
        {"kty": "EC", "crv": "P-256", "kid": "broken", "x": "AA", "y": "AA"},
        {"kty": "oct", "kid": "shared", "k": "c2VjcmV0"},
        {"kty": "OKP", "crv": "X25519", "kid": "exchange", "x": "A" * 43},
        {"kty": "EC", "kid": 5},
        published(one, alg="ES256"),
    ]
    provider.instead["/keys"] = (200, {"keys": keys})

    async def steps(client: HttpClient) -> None:
        for name in ("one", "twice"):
            assert (await call(client, provider.token(RESOURCE, name)))[0] == 200, name
        for name in ("small", "secret", "other-use", "other-alg", "signs-only"):
            assert (await call(client, provider.token(RESOURCE, name)))[0] == 401, name
        assert (await call(client, provider.token(RESOURCE, "unnamed", header={"kid": ""})))[0] == 200

    scenario(make_server(provider), steps)
    for said in (
        "the signing key 'small' of http",
        "is not used: it has not 2048 to 8192 bits",
        "it is of a kind that signs no access tokens here",
        "its secret part is published, so anyone can sign with it",
        "it is of a curve that is not taken here",
        "it signs by no algorithm that is taken here",
        "its members make no key: Invalid EC key.",
    ):
        assert said in caplog.text


def test_a_key_beyond_the_hundredth_is_not_used_and_a_token_that_names_none_costs_four_signatures(
    provider: KeyPublisher, checked: list[str]
) -> None:
    for number in range(101):
        provider.add(f"key-{number}")

    async def steps(client: HttpClient) -> None:
        assert (await call(client, provider.token(RESOURCE, "key-98")))[0] == 200
        assert (await call(client, provider.token(RESOURCE, "key-99")))[0] == 401
        assert (await call(client, provider.token(RESOURCE, "key-50", header={"kid": ""})))[0] == 401
        assert checked == ["key-98", "one", "key-0", "key-1", "key-2"]

    scenario(make_server(provider), steps)


def test_hundreds_of_bad_tokens_cost_no_fetch_and_no_signature_unless_only_that_tells(
    provider: KeyPublisher, checked: list[str]
) -> None:
    kinds: list[dict[str, Any]] = [
        {"exp": in_seconds(-60)},
        {"iss": "https://evil.example"},
        {"aud": "https://other.example"},
        {"header": {"kid": "' OR 1=1 --"}},
        {"header": {"kid": "../../dev/null"}},
        {"header": {"typ": "JOSE"}},
    ]

    async def steps(client: HttpClient) -> None:
        good = provider.token(RESOURCE)
        assert (await call(client, good))[0] == 200
        for number in range(300):
            kind = dict(kinds[number % len(kinds)])
            header = kind.pop("header", {})
            if "kid" in header:
                header = {"kid": f"{header['kid']}{number}"}
            claims = {"aud": RESOURCE, "sub": f"eve-{number}"} | kind
            token = provider.token(claims.pop("aud"), header=header, **claims)
            assert (await call(client, token))[0] == 401
        assert (await call(client, good))[0] == 200

    scenario(make_server(provider), steps)
    assert checked == ["one"]
    assert provider.asked["/keys"] == 1


def test_a_new_key_is_looked_for_once_and_not_again_for_a_minute(
    provider: KeyPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signing_keys, "_PAUSE_SECONDS", 0.0)
    other = jwk.ECKey.generate_key("P-256", {"kid": "never"})
    provider.keys["never"] = other

    async def steps(client: HttpClient) -> None:
        del provider.keys["never"]
        for number in range(3):
            provider.keys["never"] = other
            token = provider.token(RESOURCE, "never", sub=f"eve-{number}")
            del provider.keys["never"]
            assert (await call(client, token))[0] == 401
        assert provider.asked["/keys"] == 1
        provider.add("two")
        assert (await call(client, provider.token(RESOURCE, "two")))[0] == 200

    scenario(make_server(provider), steps)
    assert provider.asked["/keys"] == 2


def test_calls_with_a_new_key_soon_after_a_fetch_do_not_put_the_next_one_off(
    provider: KeyPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def steps(client: HttpClient) -> None:
        assert (await call(client, provider.token(RESOURCE)))[0] == 200
        provider.add("two")
        token = provider.token(RESOURCE, "two")
        assert (await call(client, token))[0] == 401  # the keys were fetched just now
        monkeypatch.setattr(signing_keys, "_PAUSE_SECONDS", 0.0)
        assert (await call(client, token))[0] == 200

    scenario(make_server(provider), steps)
    assert provider.asked["/keys"] == 2


def test_a_key_that_is_not_known_while_the_provider_is_down_makes_no_token_invalid(
    provider: KeyPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signing_keys, "_PAUSE_SECONDS", 0.0)

    async def steps(client: HttpClient) -> None:
        assert (await call(client, provider.token(RESOURCE)))[0] == 200
        provider.add("two")
        provider.is_down = True
        assert (await call(client, provider.token(RESOURCE, "two")))[0] == 503
        assert (await call(client, provider.token(RESOURCE, sub="bob")))[0] == 200
        provider.is_down = False
        assert (await call(client, provider.token(RESOURCE, "two")))[0] == 200

    scenario(make_server(provider), steps)


def test_keys_that_could_not_be_renewed_for_a_day_are_used_no_longer(
    provider: KeyPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def steps(client: HttpClient) -> None:
        token = provider.token(RESOURCE)
        assert (await call(client, token))[0] == 200
        monkeypatch.setattr(signing_keys, "_PAUSE_SECONDS", 0.0)
        monkeypatch.setattr(signing_keys, "_FRESH_SECONDS", 0.0)
        monkeypatch.setattr(signing_keys, "_OLD_SECONDS", 0.0)
        monkeypatch.setattr(signing_keys, "_STALE_SECONDS", 0.0)
        provider.is_down = True
        assert (await call(client, token))[0] == 503
        provider.is_down = False
        monkeypatch.setattr(signing_keys, "_STALE_SECONDS", 60.0)
        assert (await call(client, token))[0] == 200

    scenario(make_server(provider), steps)


@pytest.mark.filterwarnings("ignore:EdDSA is deprecated")  # its name is, not what it does
def test_every_algorithm_that_is_taken_is_taken_with_a_key_of_its_own_and_with_no_other(provider: KeyPublisher) -> None:
    rsa = jwk.RSAKey.generate_key(2048, {"kid": "rsa"})
    curves = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}
    keys: dict[str, Any] = {name: jwk.ECKey.generate_key(curve, {"kid": curve}) for name, curve in curves.items()}
    keys |= dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), rsa)
    keys |= dict.fromkeys(("EdDSA", "Ed25519"), jwk.OKPKey.generate_key("Ed25519", {"kid": "ed"}))
    assert set(keys) == set(ALGORITHMS)
    provider.instead["/keys"] = (
        200,
        {"keys": [published(key) for key in {id(key): key for key in keys.values()}.values()]},
    )
    claims = {"iss": provider.url, "aud": RESOURCE, "sub": "ada", "exp": in_seconds(600)}

    async def steps(client: HttpClient) -> None:
        for name, key in keys.items():
            token = jwt.encode({"alg": name, "kid": key.kid}, claims, key, algorithms=[name])
            assert (await call(client, token))[0] == 200, name
            other = jwt.encode(
                {"alg": name, "kid": "P-256" if name != "ES256" else "ed"}, claims, key, algorithms=[name]
            )
            assert (await call(client, other))[0] == 401, name

    scenario(make_server(provider), steps)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((302, {}), "/keys answers with status 302"),
        (
            (200, {"keys": [], "filler": "x" * 600_000}),
            "/keys could not be read: the reply is longer than 524288 bytes",
        ),
        ((200, {"keys": {"kid": "one"}}), "/keys does not answer with the JSON that is expected there"),
    ],
)
def test_keys_elsewhere_too_many_or_no_keys_are_not_read(
    provider: KeyPublisher, caplog: pytest.LogCaptureFixture, answer: tuple[int, object], said: str
) -> None:
    provider.instead["/keys"] = answer

    async def steps(client: HttpClient) -> None:
        assert (await call(client, provider.token(RESOURCE)))[0] == 503

    scenario(make_server(provider), steps)
    assert said in caplog.text
