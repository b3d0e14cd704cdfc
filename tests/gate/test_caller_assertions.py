"""What the gate signs for an app about its callers: who gets it, what is in it, how often it is signed."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import jwt

from portway.host.assertion_key import AssertionKey
from portway.host.gate import caller_assertions
from portway.host.token_table import Token, TokenWriter
from tests.gate.running_gate import Rig, Seen, Upstream, call, echo, rig
from tests.gate.test_login import Login
from tests.gate.test_login import run as logged_in
from tests.gate.test_revoked import change
from tests.gate.test_sessions import run
from tests.oauth.key_publisher import publishing

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

HEADER = "x-portway-jwt-assertion"
MEANT = {"issuer": "https://mcp.example.com", "audience": "https://mcp.example.com/a/mcp"}


async def wanted(gate: Rig, *apps: str) -> None:
    await change(gate, lambda table: [table[app].update(assertion=MEANT) for app in apps])


async def claims(gate: Rig, seen: Seen) -> dict[str, Any]:
    """Verify what an app got as any of them can."""
    keys = await gate.client.request("GET", "/_portway/jwks.json")
    (key,) = json.loads(await keys.read(9999))["keys"]
    assert set(key) == {"kty", "crv", "x", "y", "kid", "alg", "use"}
    token = seen.headers[HEADER]
    assert jwt.get_unverified_header(token) == {"alg": "ES256", "typ": "JWT", "kid": key["kid"]}
    found: dict[str, Any] = jwt.decode(
        token, jwt.PyJWK(key), algorithms=["ES256"], issuer=MEANT["issuer"], audience=MEANT["audience"]
    )
    return found


def test_an_app_that_wants_it_is_told_who_calls_for_a_minute_at_most(tmp_path: Path) -> None:
    async def test() -> None:
        upstream = Upstream(echo)
        async with rig(tmp_path, upstream) as gate:
            await wanted(gate, "a")
            await gate.answer(call(), (HEADER.encode(), b"forged"))
            found = await claims(gate, upstream.requests[-1])
            assert found.pop("exp") - found.pop("iat") == 60
            assert len(found.pop("jti")) == 32
            assert found == {
                "iss": MEANT["issuer"],
                "aud": MEANT["audience"],
                "sub": "alice",
                "sub_id": {"format": "iss_sub", "iss": "portway", "sub": "alice"},
                "client_id": "alice",
                "scope": "read write",
            }

    run(test())


def test_a_caller_who_has_logged_in_is_named_with_the_provider(tmp_path: Path) -> None:
    upstream = Upstream(echo)

    async def steps(login: Login) -> None:
        await login.configure(auth={}, assertion=MEANT)
        token = login.provider.token("https://example.com/a/mcp", scope="read")
        assert (await login.call(token))[0] == 200
        found = await claims(login.gate, upstream.requests[-1])
        assert (found["sub"], found["client_id"], found["scope"]) == ("ada", "c", "read")
        assert found["sub_id"] == {"format": "iss_sub", "iss": login.provider.url, "sub": "ada"}
        assert token not in str(upstream.requests[-1])

    with publishing() as provider:
        logged_in(tmp_path, provider, steps, upstream)


def test_nobody_else_gets_one_and_a_forged_one_never_passes(tmp_path: Path) -> None:
    async def test() -> None:
        upstream = Upstream(echo)
        async with rig(tmp_path, upstream) as gate:
            forged = (HEADER.encode(), b"forged")
            await gate.answer(call(), forged)
            await wanted(gate, "p", "o")
            for app in ("p", "o"):
                await gate.answer(call(), forged, path=f"/{app}/mcp", token="")
            assert len(upstream.requests) == 3
            assert not any(HEADER in seen.headers for seen in upstream.requests)

    run(test())


def test_it_is_signed_once_for_the_calls_of_a_caller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signed = list[object]()
    sign = AssertionKey.sign
    monkeypatch.setattr(AssertionKey, "sign", lambda key, told: signed.append(told.get("sub")) or sign(key, told))

    async def test() -> None:
        upstream = Upstream(echo)
        async with rig(tmp_path, upstream) as gate:
            await wanted(gate, "a")
            for token in ("secret", "other") * 5:
                await gate.answer(call(), token=token)
            assert signed == [None, "alice", "bob"], "and once before any call"
            monkeypatch.setattr(caller_assertions, "_REUSED_SECONDS", -1)
            gate.routes.callers.find(b"Bearer secret").asserted_until = 0  # type: ignore[union-attr]
            for _ in range(2):
                await gate.answer(call())
            assert signed == [None, "alice", "bob", "alice", "alice"]

    run(test())


def test_what_signs_is_loaded_when_the_first_app_wants_it_and_before_its_first_call(tmp_path: Path) -> None:
    async def test() -> None:
        async with rig(tmp_path, Upstream(echo)) as gate:
            assert not gate.routes.assertion_key.is_ready
            await wanted(gate, "a")
            assert gate.routes.assertion_key.is_ready
            assert gate.routes.apps["a"].assertions is not None

    run(test())


def test_it_ends_with_the_token_of_its_caller(tmp_path: Path) -> None:
    async def test() -> None:
        upstream = Upstream(echo)
        async with rig(tmp_path, upstream) as gate:
            await wanted(gate, "a")
            key, ends = next(iter(gate.routes.callers._tokens)), int(time.time()) + 20
            TokenWriter(gate.paths.tokens).write([Token(key, "a", "alice", 0, [], ends)])
            assert (await gate.op(op="tokens"))["ok"]
            await gate.answer(call())
            assert (await claims(gate, upstream.requests[-1]))["exp"] == ends

    run(test())


def test_a_gate_that_signs_nothing_has_not_loaded_what_signs() -> None:
    code = "import sys, portway.host.gate.__main__; print(*{'joserfc', 'cryptography'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout.strip() == b""
