"""Access tokens that must not be taken, each for another reason, by what is wrong with it."""

from __future__ import annotations

import base64
import hmac
import json
import time
from typing import Any

from joserfc import jwk, jws, jwt

from tests.oauth.key_publisher import KeyPublisher


def in_seconds(seconds: int) -> int:
    return int(time.time()) + seconds


def encoded(part: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")


def unsigned(header: object, claims: object) -> str:
    return f"{encoded(header)}.{encoded(claims)}."


def signed(provider: KeyPublisher, claims: bytes, header: bytes = b'{"alg":"ES256","kid":"one"}') -> str:
    """Sign a header and claims that no library would write."""
    parts = [base64.urlsafe_b64encode(part).rstrip(b"=") for part in (header, claims)]
    mark = jws.JWSRegistry.algorithms["ES256"].sign(b".".join(parts), provider.keys["one"])
    return b".".join([*parts, base64.urlsafe_b64encode(mark).rstrip(b"=")]).decode()


def with_mac(header: object, claims: object, secret: bytes) -> str:
    """Sign by HMAC: with the public key as the secret, an attack on verifiers that believe the algorithm."""
    signed = f"{encoded(header)}.{encoded(claims)}"
    mark = base64.urlsafe_b64encode(hmac.digest(secret, signed.encode(), "sha256")).decode().rstrip("=")
    return f"{signed}.{mark}"


def bad_tokens(provider: KeyPublisher, audience: str, elsewhere: str) -> dict[str, str]:
    """Return tokens that a server with this audience must refuse; `elsewhere` is the audience of another server."""
    good = provider.token(audience)
    head, body, mark = good.split(".")
    claims = {"iss": provider.url, "aud": audience, "sub": "eve", "exp": in_seconds(600), "client_id": "c"}
    return {
        "for another server": provider.token(elsewhere),
        "for a path of this server": provider.token(f"{audience}/admin"),
        "for the origin of this server": provider.token(audience.rpartition("/")[0]),
        "for this server by another scheme": provider.token(audience.replace("http", "ftp", 1)),
        "for nobody": provider.token(None),
        "for an object": provider.token({"0": audience}),
        "for a list of lists": provider.token([[audience]]),
        "of another issuer": provider.token(audience, iss="https://evil.example"),
        "of the issuer with a slash": provider.token(audience, iss=f"{provider.url}/"),
        "of no issuer": provider.token(audience, iss=None),
        "expired": provider.token(audience, exp=in_seconds(-60)),
        "without an end": provider.token(audience, exp=None),
        "with an end that is no number": provider.token(audience, exp="never"),
        "with an end that is a truth": provider.token(audience, exp=True),
        "not valid yet": provider.token(audience, nbf=in_seconds(300)),
        "without a subject": provider.token(audience, sub=None, client_id=None),
        "with a subject that is a list": provider.token(audience, sub=["ada"]),
        "an ID token": provider.token(audience, nonce="n"),
        "an ID token of its client": provider.token("c", nonce=None, header={"typ": "JWT"}),
        "an ID token with a hash": provider.token(audience, at_hash="h", header={"typ": "JWT"}),
        "a logout token": provider.token(audience, header={"typ": "logout+jwt"}),
        "with a header it must understand": provider.token(audience, header={"crit": ["kid"]}),
        "unsigned": unsigned({"alg": "none", "typ": "at+jwt"}, claims),
        "unsigned, in other words": unsigned({"alg": "nOnE", "kid": "one"}, claims),
        "unsigned, with the algorithm of the key": unsigned({"alg": "ES256", "kid": "one"}, claims),
        **odd(provider, audience, elsewhere),
        **confused(provider, claims),
        **of_own_keys(provider, claims),
        "changed after it was signed": f"{head}.{encoded(claims)}.{mark}",
        "with half a signature": good[:-20],
        "with a signature of zeros": f"{head}.{body}.{'A' * len(mark)}",
        "no JWT": "opaque-token",
        "of parts that are nothing": "..",
        "encrypted": f"{head}.{body}.{mark}.{body}.{mark}",
        "of a header that is a list": f"{encoded([])}.{body}.{mark}",
        "of claims that are a text": f"{head}.{encoded('claims')}.{mark}",
        "of a header without end": f"{encoded('x')[:-1]}{'A' * 200}.{body}.{mark}",
        "too long": provider.token(audience, filler="x" * 20_000),
    }


def odd(provider: KeyPublisher, audience: str, elsewhere: str) -> dict[str, str]:
    """Return tokens of the provider's own key that are of another kind, or that readers may take for different ones."""
    plain = {"typ": "JWT"}
    start = f'{{"iss":"{provider.url}","aud":"{audience}","sub":"eve"'
    claims = f'{start},"exp":9999999999}}'.encode()
    deep = b"[" * 5000 + b"]" * 5000
    return {
        "an ID token of Keycloak": provider.token(audience, header=plain, typ="ID"),
        "an ID token of Cognito": provider.token(audience, header=plain, token_use="id"),
        "an ID token for the client itself": provider.token(audience, header=plain, client_id=audience),
        "a refresh token": provider.token(audience, header=plain, typ="Refresh"),
        "bound to a key, without the proof": provider.token(audience, cnf={"jkt": "x"}),
        "with an end beyond all time": provider.token(audience, exp=10**30),
        "with an end that JSON has not": signed(provider, f'{start},"exp":NaN}}'.encode()),
        "with two audiences": signed(provider, f'{start},"aud":"{elsewhere}","exp":9999999999}}'.encode()),
        "with an extension": signed(provider, claims, b'{"alg":"ES256","kid":"one","crit":["exp"],"exp":1}'),
        "with claims that are not encoded": signed(provider, claims, b'{"alg":"ES256","kid":"one","b64":false}'),
        "with a key's name that is a path": provider.token(audience, header={"kid": "../../../dev/null"}),
        "with a key's name that is SQL": provider.token(audience, header={"kid": "one' OR '1'='1"}),
        "with a key's name that is long": provider.token(audience, header={"kid": "one" * 2000}),
        "with a key's name that is no text": signed(provider, claims, b'{"alg":"ES256","kid":["one"]}'),
        "with two algorithms": signed(provider, claims, b'{"alg":"ES256","kid":"one","alg":"none"}'),
        "with an algorithm that is no text": signed(provider, claims, b'{"alg":["ES256"],"kid":"one"}'),
        "for another key's algorithm": signed(provider, claims, b'{"alg":"ES384","kid":"one"}'),
        "with what base64 has not": signed(provider, claims).replace(".", "!.", 1),
        "whose claims are a list": signed(provider, b"[1]"),
        "nested deeper than is read": signed(provider, b'{"a":' + deep + b"}"),
    }


def confused(provider: KeyPublisher, claims: dict[str, Any]) -> dict[str, str]:
    """Return tokens that are signed with what everybody knows: the public key, or nothing."""
    key = provider.keys["one"]
    public = key.as_dict(private=False)
    header = {"alg": "HS256", "kid": "one"}
    return {
        "signed with the public key": with_mac(header, claims, key.as_pem(private=False)),
        "signed with the public key as JSON": with_mac(header, claims, json.dumps(public).encode()),
        "signed with nothing": with_mac(header, claims, b""),
        "signed with an empty file": with_mac(header | {"kid": "../../../../dev/null"}, claims, b""),
        "signed with a word": with_mac(header | {"kid": "one' OR '1'='1"}, claims, b"secret"),
    }


def of_own_keys(provider: KeyPublisher, claims: dict[str, Any]) -> dict[str, str]:
    """Return tokens that an attacker has signed, who tells the verifier where to find the key."""
    own = jwk.ECKey.generate_key("P-256", {"kid": "one"})
    public, evil = own.as_dict(private=False), f"{provider.url}/evil"
    headers: dict[str, dict[str, Any]] = {
        "of a key of its own": {},
        "of a key of its own, without a name": {"kid": None},
        "of a key of its own, which it brings along": {"jwk": public, "jku": evil},
        "of a key of its own, to be fetched": {"kid": evil, "jku": evil},
        "of a certificate of its own": {"x5u": evil, "x5c": ["MIIB"], "x5t": "one"},
    }
    usual = {"alg": "ES256", "kid": "one", "typ": "at+jwt"}
    return {
        name: jwt.encode({key: value for key, value in (usual | more).items() if value is not None}, claims, own)
        for name, more in headers.items()
    }
