"""Callers who log in at an identity provider: what the gate tells them, whom it admits, and when that ends."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from portway.host.gate import access_token_callers
from portway.http.http_client import HttpClient, Response
from portway.oauth import introspection, signing_keys
from tests.gate.running_gate import JSON, Rig, Seen, Upstream, call, echo, modern, reply, rig
from tests.gate.test_revoked import Instance, ends
from tests.gate.test_sessions import Client, initialize, message, minting
from tests.oauth.key_publisher import KeyPublisher, publishing
from tests.support import eventually

WELL_KNOWN = "/.well-known/oauth-protected-resource"
URL = "https://example.com"
UNAUTHORIZED = "A valid bearer token for this app is needed in the Authorization header."


@pytest.fixture
def provider() -> Iterator[KeyPublisher]:
    with publishing() as publisher:
        yield publisher


class Login:
    """A gate, known as `URL`, at whose apps callers log in at a provider."""

    def __init__(self, gate: Rig, provider: KeyPublisher) -> None:
        self.gate = gate
        self.provider = provider

    async def configure(self, app: str = "a", **changes: object) -> None:
        """Change an app in the table; `auth` is its login beside the issuer, None for none."""
        table = json.loads(self.gate.paths.routes.read_text())
        table |= {"url": changes.pop("url", URL), "domain": "example.com"}
        if changes.get("auth") is not None:
            changes["auth"] = {"issuers": [self.provider.url]} | changes["auth"]  # type: ignore[operator]
        table["apps"][app].update(changes)
        self.gate.paths.routes.write_text(json.dumps(table))
        assert (await self.gate.op(op="table"))["ok"]

    async def call(self, token: str, path: str = "/a/mcp", host: str = "example.com") -> tuple[int, str, str]:
        """Call a tool; return the status, the message of the error, and the challenge."""
        body, headers = modern(1, "t")
        headers += [JSON] + [(b"authorization", b"Bearer " + token.encode())] * bool(token)
        response, said = await self.ask("POST", path, host, *headers, body=body)
        return response.status, said.get("error", {}).get("message", ""), response.header(b"www-authenticate").decode()

    async def ask(
        self, method: str, path: str, host: str = "example.com", *headers: tuple[bytes, bytes], body: bytes = b""
    ) -> tuple[Response, Any]:
        async with HttpClient(self.gate.url, host) as client:
            response = await client.request(method, path, [*headers], body)
            said = await response.read(99_999)
        return response, json.loads(said) if said else None


def run(
    directory: Path,
    provider: KeyPublisher,
    steps: Callable[[Login], Awaitable[None]],
    upstream: Upstream | None = None,
    **auth: object,
) -> None:
    async def scenario() -> None:
        async with rig(directory, upstream or Upstream(echo)) as gate:
            found = Login(gate, provider)
            await found.configure(auth=auth)
            await steps(found)

    asyncio.run(scenario())


def test_a_token_of_the_provider_for_the_app_names_its_caller(tmp_path: Path, provider: KeyPublisher) -> None:
    upstream = Upstream(echo)

    async def steps(at: Login) -> None:
        token = provider.token(f"{URL}/a/mcp", scope="read")
        for _ in range(3):
            assert (await at.call(token))[0] == 200
        assert (await at.call("secret"))[0] == 200  # a named token is taken, too
        assert (await at.call(provider.token(f"{URL}/a/mcp", sub="x" * 5000)))[0] == 200
        assert provider.asked["/keys"] == 1
        assert token not in str([seen.head for seen in upstream.requests])

        def calls() -> list[dict[str, Any]]:
            return [line for line in at.gate.lines() if "principal" in line]

        await asyncio.to_thread(eventually, lambda: len(calls()) == 5)
        lines = calls()
        assert [line["principal"] for line in lines] == [
            *[f"{provider.url}|ada"] * 3,
            "alice",
            f"{provider.url}|{'x' * 255}",
        ]
        assert token not in str(lines)

    run(tmp_path, provider, steps, upstream)


def test_a_long_issuer_is_cut_in_the_call_record(tmp_path: Path, provider: KeyPublisher) -> None:
    issuer = f"{provider.url}/{'x' * 300}"
    says = {"issuer": issuer, "jwks_uri": f"{provider.url}/keys"}
    provider.instead[f"/.well-known/oauth-authorization-server/{'x' * 300}"] = (200, says)

    async def steps(at: Login) -> None:
        assert (await at.call(provider.token(f"{URL}/a/mcp", iss=issuer)))[0] == 200
        cut = f"{issuer[:255]}|ada"
        await asyncio.to_thread(eventually, lambda: cut in [line.get("principal") for line in at.gate.lines()])

    run(tmp_path, provider, steps, issuers=[issuer])


def test_the_metrics_count_the_checks_of_tokens_by_issuer_and_outcome(
    tmp_path: Path, provider: KeyPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signing_keys, "_PAUSE_SECONDS", 0.0)

    async def steps(at: Login) -> None:
        audience = f"{URL}/a/mcp"
        unknown = provider.token(audience, iss="https://unknown.example")
        provider.is_down = True
        assert (await at.call(provider.token(audience)))[0] == 503
        provider.is_down = False
        for token in [provider.token(audience)] * 3:
            assert (await at.call(token))[0] == 200
        for token in (provider.token(audience, exp=1), provider.token("https://b.example"), unknown, "mistyped"):
            assert (await at.call(token))[0] == 401
        text = (await at.gate.op(op="metrics"))["text"]
        for issuer, outcome, count in (
            *((provider.url, "ok", 1), (provider.url, "expired", 1), (provider.url, "refused", 1)),
            *((provider.url, "unavailable", 1), ("", "refused", 2)),
        ):
            assert f'portway_gate_access_tokens_total{{issuer="{issuer}",outcome="{outcome}"}} {count}.0' in text, text
        assert "unknown.example" not in text

    run(tmp_path, provider, steps)


def test_every_request_without_a_token_is_told_where_to_log_in(tmp_path: Path, provider: KeyPublisher) -> None:
    told = f'Bearer scope="read write", resource_metadata="{URL}{WELL_KNOWN}/a/mcp"'
    own = (
        'Bearer scope="read write", resource_metadata="https://a.example.com/.well-known/oauth-protected-resource/mcp"'
    )

    async def steps(at: Login) -> None:
        assert await at.call("") == (401, UNAUTHORIZED, told)
        status, _, challenge = await at.call("", "/mcp", "a.example.com")
        assert (status, challenge) == (401, own)
        note = json.dumps({"jsonrpc": "2.0", "method": "notifications/x"}).encode()
        for method, path, body in (
            ("GET", "/a/mcp", b""),
            ("DELETE", "/a/mcp", b""),
            ("POST", "/a/mcp", note),
            ("POST", "/a/mcp", b"no JSON"),
            ("PUT", "/a/mcp", b""),
        ):
            response, _ = await at.ask(method, path, "example.com", JSON, body=body)
            assert (response.status, response.header(b"www-authenticate").decode()) == (401, told), method
        slashed = told[:-1] + '/"'
        assert await at.call("", "/a/mcp/") == (401, UNAUTHORIZED, slashed), "a client compares what it finds there"
        assert (await at.call(provider.token(f"{URL}/a/mcp/"), "/a/mcp/"))[0] == 200
        status, _, challenge = await at.call("of-nobody")
        assert (status, challenge) == (401, told.replace("Bearer ", 'Bearer error="invalid_token", '))
        status, text, challenge = await at.call("two words")
        assert (status, text) == (400, "The token in the Authorization header is malformed.")
        assert challenge.startswith('Bearer error="invalid_request", scope="read write"')
        response, _ = await at.ask("GET", "/admin", "a.example.com")
        assert (response.status, response.header(b"www-authenticate").decode()) == (401, own)

    run(tmp_path, provider, steps, scopes=["read", "write"])


def test_the_log_of_the_gate_says_why_a_token_was_refused(
    tmp_path: Path, provider: KeyPublisher, caplog: pytest.LogCaptureFixture
) -> None:
    async def steps(at: Login) -> None:
        for number in range(300):
            token = provider.token("https://other.example", sub=f"eve-{number}")
            assert (await at.call(token))[0] == 401

    run(tmp_path, provider, steps)
    (line,) = (each.getMessage() for each in caplog.records if "was refused" in each.getMessage())
    whose = f"a token that is claimed to be of '{provider.url}' for 'eve-0'"
    assert line == f"{whose} was refused: its audience is 'https://other.example', not '{URL}/a/mcp'"


@pytest.mark.parametrize("state", ["up", "stopped", "crashed"])
def test_the_metadata_of_an_app_names_the_url_that_was_used_for_every_page(
    tmp_path: Path, provider: KeyPublisher, state: str
) -> None:
    async def steps(at: Login) -> None:
        await at.configure(state=state)
        for host, path, resource in (
            ("example.com", "/a/mcp", f"{URL}/a/mcp"),
            ("127.0.0.1:8080", "/a/mcp", f"{URL}/a/mcp"),
            ("example.com", "/a/mcp/", f"{URL}/a/mcp/"),
            ("a.example.com", "/mcp", "https://a.example.com/mcp"),
            ("a.example.com", "/mcp/", "https://a.example.com/mcp/"),
            ("A.example.com:443", "", "https://a.example.com/mcp"),
            ("a.example.org", "/mcp", "https://a.example.org/mcp"),
        ):
            page = (b"origin", b"https://page.example")
            response, metadata = await at.ask("GET", WELL_KNOWN + path, host, page)
            assert (response.status, response.header(b"access-control-allow-origin")) == (200, b"*")
            assert (metadata["resource"], metadata["authorization_servers"]) == (resource, [provider.url])
            preflight = (b"access-control-request-method", b"GET")
            response, _ = await at.ask("OPTIONS", WELL_KNOWN + path, host, page, preflight)
            assert (response.status, response.header(b"access-control-allow-headers")) == (204, b"*")
        response, said = await at.ask("POST", f"{WELL_KNOWN}/a/mcp", body=b"{}")
        assert (response.status, said) == (405, None)

    run(tmp_path, provider, steps)


def test_where_nobody_logs_in_the_gate_says_no_more_than_of_an_app_that_is_not_there(
    tmp_path: Path, provider: KeyPublisher
) -> None:
    async def steps(at: Login) -> None:
        token = provider.token(f"{URL}/a/mcp")
        answers = []
        for app in ("a", "none"):
            paths = [f"{WELL_KNOWN}{path}" for path in (f"/{app}/mcp", "", "/", "/mcp", f"/{app}")]
            told = [await at.ask("GET", path) for path in paths]
            assert [response.status for response, _ in told] == [404] * len(paths)
            answers.append([said for _, said in told])
            answers[-1] += [await at.call(each, f"/{app}/mcp") for each in (token, "", "two words", "x")]
        assert answers[0] == answers[1]
        assert "There is no OAuth here: an app takes a bearer token in the Authorization" in str(answers)

    async def without(at: Login) -> None:
        await at.configure(auth=None)
        await steps(at)

    run(tmp_path, provider, without)


def test_a_token_is_good_at_the_app_that_it_was_made_for_alone(tmp_path: Path, provider: KeyPublisher) -> None:
    async def steps(at: Login) -> None:
        await at.configure("p", access="gate", auth={})
        ours = [f"{URL}/a/mcp", "https://a.example.com/mcp", "https://a.example.org/mcp"]
        for audience in ours:
            token = provider.token(audience)
            assert (await at.call(token))[0] == 200
            assert (await at.call(token, "/p/mcp"))[0] == 401
        assert (await at.call(provider.token(f"{URL}/p/mcp")))[0] == 401
        await at.configure(auth={"audiences": ["api://all"]})
        await at.configure("p", auth={"audiences": ["api://all"]})
        for path in ("/a/mcp", "/p/mcp"):
            assert (await at.call(provider.token("api://all"), path))[0] == 200
        assert provider.asked["/keys"] == 1, "the apps share the keys of their provider"

    run(tmp_path, provider, steps)


def test_an_app_may_have_several_providers_each_with_its_own_audience(tmp_path: Path, provider: KeyPublisher) -> None:
    async def steps(at: Login) -> None:
        with publishing() as second:
            await at.configure(auth={"issuers": [provider.url, second.url], "audiences": ["api://a", "api://b"]})
            _, metadata = await at.ask("GET", f"{WELL_KNOWN}/a/mcp")
            assert metadata["authorization_servers"] == [provider.url, second.url]
            good = [provider.token("api://a"), second.token("api://b"), second.token(f"{URL}/a/mcp")]
            bad = [provider.token("api://b"), second.token("api://a"), second.token("api://b", iss=provider.url)]
            assert [(await at.call(token))[0] for token in good] == [200] * 3
            assert [(await at.call(token))[0] for token in bad] == [401] * 3
            ada = await initialize(at.gate, good[0])
            assert (await Client(at.gate, good[1], ada.session).answer(call(1)))[0] == 404, "another issuer's ada"

    run(tmp_path, provider, steps, Upstream(minting(b"own")))


@pytest.mark.parametrize("how", ["revoked", "narrowed"])
def test_an_opaque_token_is_asked_about_and_what_is_open_ends_when_it_is_revoked_or_narrowed(
    tmp_path: Path, provider: KeyPublisher, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setenv("PORTWAY_AUTH_CLIENT_ID", "gate")
    monkeypatch.setenv("PORTWAY_AUTH_CLIENT_SECRET", "planted")
    monkeypatch.setattr(access_token_callers, "_TICK", 0.02)
    instance = Instance()

    async def steps(at: Login) -> None:
        ada = await initialize(at.gate, provider.open("opaque-1", aud=f"{URL}/a/mcp", scope="read write"))
        assert (await at.call("opaque-2"))[0] == 401
        assert (await at.call("pw_revoked"))[0] == 401
        assert "pw_revoked" not in str(provider.forms)
        assert provider.forms[0]["authorization"].startswith("Basic ")
        for _ in range(3):
            response = await Client(at.gate, "opaque-1", b"not-a-session").ask("GET")
            assert (response.status, await response.read(999) != b"") == (404, True)
        assert len(provider.forms) == 2, "an answer serves for a minute"

        async def end() -> None:
            provider.opaque.clear()
            if how == "narrowed":
                provider.open("opaque-1", aud=f"{URL}/a/mcp", scope="read")
            monkeypatch.setattr(introspection, "_SECONDS", 0.0)
            monkeypatch.setattr(access_token_callers, "_QUESTION_SECONDS", 0.02)
            monkeypatch.setattr(time, "time", lambda: 3_000_000_000.0)

        await ends(at.gate, ada, "/a/mcp", end, NOT_VALID)

    run(tmp_path, provider, steps, instance.upstream, opaque=True)


def test_while_the_provider_is_down_nobody_is_told_that_a_token_is_invalid(
    tmp_path: Path, provider: KeyPublisher
) -> None:
    async def steps(at: Login) -> None:
        provider.is_down = True
        body, headers = modern(1, "t")
        response = await at.gate.post(body, *headers, token=provider.token(f"{URL}/a/mcp"))
        assert (response.status, response.header(b"retry-after")) == (503, b"30")
        assert b"The identity provider does not answer; try again later." in await response.read(999)
        assert response.header(b"www-authenticate") == b""

    run(tmp_path, provider, steps)


def test_an_outage_of_the_provider_ends_nothing_that_is_open(
    tmp_path: Path, provider: KeyPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PORTWAY_AUTH_CLIENT_ID", "gate")
    monkeypatch.setenv("PORTWAY_AUTH_CLIENT_SECRET", "planted")
    for module, name in (
        *((access_token_callers, "_TICK"), (access_token_callers, "_QUESTION_SECONDS")),
        *((introspection, "_SECONDS"), (introspection, "_PAUSE_SECONDS")),
    ):
        monkeypatch.setattr(module, name, 0.01)
    arrived, end = asyncio.Event(), asyncio.Event()

    async def held(seen: Seen, writer: asyncio.StreamWriter) -> None:
        arrived.set()
        await end.wait()
        await echo(seen, writer)

    async def steps(at: Login) -> None:
        open_call = asyncio.create_task(at.call(provider.open("opaque", aud=f"{URL}/a/mcp")))
        await arrived.wait()
        provider.is_down = True
        asked = len(provider.forms)
        await asyncio.to_thread(eventually, lambda: len(provider.forms) > asked + 3)
        assert (await at.call("opaque"))[0] == 503
        end.set()
        assert (await open_call)[0] == 200

    run(tmp_path, provider, steps, Upstream(held), opaque=True)


def test_a_session_is_of_the_subject_that_opened_it_not_of_its_token(tmp_path: Path, provider: KeyPublisher) -> None:
    async def steps(at: Login) -> None:
        audience = f"{URL}/a/mcp"
        ada = await initialize(at.gate, provider.token(audience))
        renewed = Client(at.gate, provider.token(audience, jti="2", client_id="other"), ada.session)
        assert (await renewed.answer(call(1)))[0] == 200
        others = [provider.token(audience, sub="bob"), provider.token(audience, sub="ada\0"), "secret"]
        for token in others:
            assert (await Client(at.gate, token, ada.session).answer(call(1)))[0] == 404

    run(tmp_path, provider, steps, Upstream(minting(b"own")))


EXPIRED = "The access token has expired: log in again, or refresh it."
NOT_VALID = "The access token is not valid any more: log in again."


@pytest.mark.parametrize("how", ["expired", "key gone", "other audience", "no login"])
def test_what_a_caller_has_open_ends_with_the_right_to_it(
    tmp_path: Path, provider: KeyPublisher, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(access_token_callers, "_TICK", 0.02)
    instance = Instance()

    async def steps(at: Login) -> None:
        lasting = provider.token(f"{URL}/a/mcp", sub="bob", exp=4_000_000_000)
        ada = await initialize(at.gate, provider.token(f"{URL}/a/mcp"))

        async def end() -> None:
            if how == "expired":
                monkeypatch.setattr(time, "time", lambda: 3_000_000_000.0)
            elif how == "key gone":
                del provider.keys["one"]
                provider.add("two")
                monkeypatch.setattr(signing_keys, "_FRESH_SECONDS", 0.0)
                monkeypatch.setattr(signing_keys, "_PAUSE_SECONDS", 0.0)
            elif how == "other audience":
                await at.configure(hosts=[], auth={}, url="https://elsewhere.example")
            elif how == "no login":
                await at.configure(auth=None)

        await ends(at.gate, ada, "/a/mcp", end, EXPIRED if how == "expired" else NOT_VALID)
        assert (await at.call(ada.token))[0] == 401
        response = await at.gate.post(message("initialize", 9), token=lasting)
        await response.read(999)
        assert response.status == (200 if how == "expired" else 401)

    run(tmp_path, provider, steps, instance.upstream)


def test_an_apps_own_challenge_becomes_the_gates(tmp_path: Path, provider: KeyPublisher) -> None:
    async def forbid(seen: Seen, writer: asyncio.StreamWriter) -> None:
        body = json.dumps({"jsonrpc": "2.0", "id": seen.message["id"], "error": {"code": -32000, "message": "no"}})
        head = b'\r\nwww-authenticate: Bearer error="insufficient_scope", scope="a b", realm="x"\r\n'
        writer.write(reply(body.encode(), status=b"403 Forbidden").replace(b"\r\n", head, 1))

    async def steps(at: Login) -> None:
        status, _, challenge = await at.call(provider.token(f"{URL}/a/mcp"))
        told = f'Bearer error="insufficient_scope", scope="a b", resource_metadata="{URL}{WELL_KNOWN}/a/mcp"'
        assert (status, challenge) == (403, told)
        bearer = (b"authorization", b"Bearer " + provider.token(f"{URL}/a/mcp").encode())
        response, _ = await at.ask("POST", "/admin", "a.example.com", JSON, bearer, body=call(1))
        own = told.replace(f"{URL}{WELL_KNOWN}/a/mcp", f"https://a.example.com{WELL_KNOWN}/mcp")
        assert (response.status, response.header(b"www-authenticate").decode()) == (403, own)

    run(tmp_path, provider, steps, Upstream(forbid))
