"""Attacks on the login at the gate: what an attacker sends opens nothing, shows nothing and stops nobody."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from portway.auth import caller_header
from portway.auth.caller_header import HEADER, relay
from portway.auth.principal import Principal
from portway.oauth.signing_key import SigningKey
from tests.gate.login_vault import DOMAIN, Request, Steps, Vault, calling, opening, running_vault
from tests.gate.running_gate import Rig, Upstream, echo, modern, rig
from tests.host.running_host import Host
from tests.oauth.bad_tokens import bad_tokens, encoded, in_seconds
from tests.oauth.key_publisher import KeyPublisher, publishing
from tests.support import eventually

pytestmark = pytest.mark.slow

URL = "https://localhost/a/mcp"
ASSERTION = caller_header.ASSERTION.decode()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Steps], None]]:
    with running_vault(tmp_path_factory.mktemp("attacks")) as runner:
        yield runner


def test_a_token_anywhere_but_in_one_authorization_header_is_none(run: Callable[[Steps], None]) -> None:
    async def steps(vault: Vault) -> None:
        good, call = vault.token(), calling("look")
        for place in vault.places:
            client, path = vault.clients[place.name], place.path
            base = [(name.encode(), value.encode()) for name, value in call.headers.items()]
            base += [(b"content-type", b"application/json"), (b"accept", b"application/json, text/event-stream")]
            body = json.dumps(call.body).encode()
            bearer, other = f"Bearer {good}".encode(), b"Bearer x"
            for target, headers in {
                (f"{path}?access_token={good}", ()),
                (f"{path}?authorization=Bearer%20{good}", ()),
                (path, ((b"cookie", b"access_token=" + good.encode()),)),
                (path, ((b"x-authorization", bearer),)),
                (path, ((b"proxy-authorization", bearer),)),
                (path, ((b"x-forwarded-authorization", bearer),)),
                (path, ((b"authorization_", bearer),)),
                (path, ((b"authorization", b"Basic " + base64.b64encode(b"ada:" + good.encode())),)),
                (path, ((b"authorization", b"DPoP " + good.encode()),)),
                (path, ((b"authorization", good.encode()),)),
                (path, ((b"authorization", b"Bearer"), (b"token", good.encode()))),
                (path, ((b"authorization", bearer), (b"authorization", other))),
                (path, ((b"authorization", other), (b"authorization", bearer))),
                (path, ((b"authorization", bearer), (b"Authorization", bearer))),
                (path, ((b"authorization", bearer + b", " + bearer),)),
            }:
                response = await client.request("POST", target, [*base, *headers], body)
                assert response.status in (400, 401), (place, target, headers)
                assert good.encode() not in await response.read(99_999)
        form = Request("POST", headers={"content-type": "application/x-www-form-urlencoded"})
        assert (await vault.ask(vault.places[0], form.at(vault.places[0].path))).status == 401

    run(steps)


def test_no_header_of_a_client_says_who_calls(run: Callable[[Steps], None]) -> None:
    async def steps(vault: Vault) -> None:
        forged = relay(Principal("portway", "root", "root", frozenset({"read", "write", "admin"}))).decode()
        name = HEADER.decode()
        for place in vault.places:
            for headers in (
                {name: forged},
                {name.upper(): forged},
                {name.replace("-", "_"): forged},
                {ASSERTION: forged},
                {ASSERTION.replace("-", "_"): forged},
                {"portway-app": "other", "portway-principal": "root", "portway-scopes": "admin"},
                {"connection": f"{name}, authorization, x-request-id"},
                {"forwarded": "for=10.0.0.1;host=evil.example", "x-real-ip": "10.0.0.1"},
            ):
                answer = await vault.ask(place, calling("told"), vault.token("read"), **headers)
                seen = json.loads(json.loads(answer.body)["result"]["content"][0]["text"])
                assert seen["caller"] == [vault.provider.url, "ada", "c", ["read"]], headers
                assert forged not in str(seen)
                assert "evil.example" not in str(seen)
                assert (await vault.ask(place, calling("fill"), vault.token("read"), **headers)).status == 403
                assert (await vault.ask(place, calling("told"), **headers)).status == 401

    run(steps)


SMUGGLED = {
    "two lengths": "content-length: 0\r\ncontent-length: 5\r\n",
    "a length and chunks": "content-length: 5\r\ntransfer-encoding: chunked\r\n",
    "chunks twice": "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n",
    "chunks of another name": "transfer-encoding: xchunked\r\n",
    "a space before the colon": "content-length : 5\r\n",
    "a folded line": "x-a: b\r\n authorization: Bearer {token}\r\n",
    "a folded token": "authorization: Bearer\r\n {token}\r\n",
    "a line that ends in LF": "x-a: b\nauthorization: Bearer {token}\r\n",
    "a line with CR": "x-a: b\rauthorization: Bearer {token}\r\n",
    "a NUL": "authorization: Bearer {token}\0\r\n",
    "a line without a name": ": authorization\r\n",
    "a length with a sign": "content-length: +5\r\n",
}


def test_requests_within_requests_are_refused_with_the_connection(run: Callable[[Steps], None]) -> None:
    async def steps(vault: Vault) -> None:
        place = vault.places[0]
        inner = f"POST {place.path} HTTP/1.1\r\nhost: {place.name}\r\nauthorization: Bearer {vault.token()}\r\n"
        inner += "content-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
        for name, lines in SMUGGLED.items():
            head = f"POST {place.path} HTTP/1.1\r\nhost: {place.name}\r\n{lines.format(token=vault.token())}\r\n"
            reader, writer = await asyncio.open_connection("127.0.0.1", vault.port)
            writer.write(head.encode("latin-1") + b"0\r\n\r\n" + inner.encode())
            try:
                answer = await asyncio.wait_for(reader.read(), 120)
            finally:
                writer.close()
                await writer.wait_closed()
            assert answer.count(b"HTTP/1.1 ") == 1, (name, answer)
            assert answer.split()[1] in (b"400", b"501"), (name, answer)

    run(steps)


def test_an_app_without_a_login_and_one_that_does_not_exist_are_refused_with_the_same_bytes(
    run: Callable[[Steps], None],
) -> None:
    async def steps(vault: Vault) -> None:
        place = vault.places[0]
        for token in ("", vault.token(), "unknown", vault.named("vault", "read")):
            for asked in (
                calling("look"),
                opening("2025-11-25"),
                Request("GET"),
                Request("DELETE"),
                Request("PUT", {}),
            ):
                there, nowhere = [
                    await vault.ask(place, asked.at(path), token) for path in ("/closed/mcp", "/nowhere/mcp")
                ]
                assert there == nowhere, (token, asked)
                assert there.status == 401
        for path in ("/closed/mcp", "/nowhere/mcp"):
            told = await vault.ask(place, Request("GET", path=f"/.well-known/oauth-protected-resource{path}"))
            assert told.status == 404

    run(steps)


def test_a_provider_that_an_app_names_is_not_asked_in_the_networks_of_the_host(run: Callable[[Steps], None]) -> None:
    async def steps(vault: Vault) -> None:
        place = vault.places[0]
        for app, address in (("inner", "10.255.255.1"), ("cloud", "169.254.169.254")):
            token = vault.provider.token(f"https://{DOMAIN}/{app}/mcp", iss=f"https://{address}")
            assert (await vault.ask(place, calling("look").at(f"/{app}/mcp"), token)).status == 503
            said = f"{address} is in the network of this machine"
            await asyncio.to_thread(eventually, lambda said=said: said in "".join(vault.running.child.lines))

    run(steps)


@pytest.mark.parametrize("path", ["/.well-known/openid-configuration", "/keys"])
def test_a_provider_that_redirects_is_not_followed(tmp_path: Path, path: str) -> None:
    async def steps(provider: KeyPublisher, inside: KeyPublisher) -> None:
        provider.instead[path] = 302, f"{inside.url}{path}"
        async with rig(tmp_path, Upstream(echo)) as gate:
            await protect(gate, provider)
            body, headers = modern()
            assert (await gate.answer(body, *headers, token=provider.token(URL)))[0] == 503
        assert provider.asked[path] == 1
        assert inside.asked.total() == 0

    with publishing() as provider, publishing() as inside:
        asyncio.run(steps(provider, inside))


def test_the_gate_registers_nobody_and_sends_no_browser_anywhere(run: Callable[[Steps], None]) -> None:
    metadata = ("oauth-authorization-server", "openid-configuration")
    back = "?response_type=code&client_id=c&state=s&redirect_uri=https%3A%2F%2Fevil.example%2F"
    paths = (
        "/register",
        f"/authorize{back}",
        "/token",
        f"/callback{back}",
        *(f"/.well-known/{each}" for each in metadata),
    )

    async def steps(vault: Vault) -> None:
        form = [(b"x-forwarded-proto", b"https"), (b"content-type", b"application/x-www-form-urlencoded")]
        for place in vault.places:
            for path in paths:
                for method in ("GET", "POST"):
                    response = await vault.clients[place.name].request(method, path, form, b"redirect_uris=x")
                    assert response.status in (401, 404), (place, path)
                    assert b"location" not in dict(response.headers)
                    assert b"evil.example" not in await response.read(9_999)

    run(steps)


def test_planted_tokens_are_found_nowhere(run: Callable[[Steps], None]) -> None:
    planted: dict[str, str] = {}
    replies: list[str] = []

    async def steps(vault: Vault) -> None:
        place, other = vault.places[0], f"https://{DOMAIN}/other/mcp"
        planted.update(bad_tokens(vault.provider, place.url, other))
        planted["good"] = vault.token()
        planted["narrow"] = vault.token("read", "eve")
        messages = [*map(calling, ("told", "broken", "fill", "absent")), opening("2025-11-25"), Request("POST", 1)]
        for token in planted.values():
            replies.extend([repr(await vault.ask(place, asked, token)) for asked in messages])
        replies.append(await vault.session(place, "2025-11-25", planted["good"]))
        searched = [*replies, *await asyncio.to_thread(traces, vault.running)]
        for name, token in planted.items():
            for part in {token, token.rpartition(".")[2], token.rpartition(".")[0]}:
                if len(part) >= 12:
                    assert not any(part in text for text in searched), name

    run(steps)


def traces(running: Host) -> list[str]:
    """Return all that the host has written, and the environments and command lines of its processes."""
    eventually(lambda: '"told"' in text_of(running.paths.calls))
    found = [running.portway("logs", app).stdout for app in ("vault", "other")]
    found += ["".join(running.child.lines), text_of(running.paths.data), text_of(running.paths.run)]
    for pid in (*running.processes(), running.child.process.pid):
        found += [Path(f"/proc/{pid}/{name}").read_bytes().decode("latin-1") for name in ("environ", "cmdline")]
    return found


async def protect(gate: Rig, provider: KeyPublisher) -> None:
    """Have callers of the app `a` log in at the provider."""
    table = json.loads(gate.paths.routes.read_text())
    table["url"] = "https://localhost"
    table["apps"]["a"]["auth"] = {"issuers": [provider.url]}
    gate.paths.routes.write_text(json.dumps(table))
    assert (await gate.op(op="table"))["ok"]


def text_of(folder: Path) -> str:
    """Return the content of all files below a folder."""
    return "".join(path.read_bytes().decode("latin-1") for path in folder.rglob("*") if path.is_file())


def test_a_thousand_bad_tokens_a_second_keep_nobody_waiting_and_are_not_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked = 0
    has_signed = SigningKey.has_signed

    def counted(*arguments: Any) -> bool:
        nonlocal checked
        checked += 1
        return has_signed(*arguments)

    monkeypatch.setattr(SigningKey, "has_signed", counted)

    async def flood(gate: Rig, tokens: list[str]) -> None:
        body, headers = modern()
        for token in tokens:
            response = await gate.post(body, *headers, token=token)
            await response.read(9_999)
            assert response.status == 401

    async def steps(provider: KeyPublisher) -> None:
        upstream = Upstream(echo)
        async with rig(tmp_path, upstream) as gate:
            await protect(gate, provider)
            body, headers = modern()
            good = provider.token(URL)
            head, _, mark = provider.token("https://localhost/p/mcp").split(".")
            claims = {"iss": provider.url, "aud": URL, "sub": "eve", "exp": in_seconds(600)}
            floods = [
                [f"made-up-{number}" for number in range(500)],
                [f"{head}.{encoded(claims | {'aud': 'x', 'jti': number})}.{mark}" for number in range(500)],
                [f"{head}.{encoded(claims | {'jti': number})}.{mark}" for number in range(500)],
                [f"{encoded({'alg': 'ES256', 'kid': str(n)})}.{encoded(claims)}.{mark}" for n in range(500)],
            ]
            await flood(gate, floods[0][:1])
            flooding = [asyncio.create_task(flood(gate, tokens)) for tokens in floods]
            answered = 0
            while not all(task.done() for task in flooding):
                assert (await gate.answer(body, *headers, token=good))[0] == 200
                answered += 1
            await asyncio.gather(*flooding)
            assert answered > 20
            assert provider.asked["/keys"] <= 2
            assert checked == 501, "only what an honest provider could have signed is checked"
            assert len(gate.routes.logins.known) == 1
            assert all(good.encode() not in seen.head for seen in upstream.requests)
            many = [provider.token(URL, jti=number) for number in range(4_200)]
            for token in many:
                await (await gate.post(body, *headers, token=token)).read(9_999)
            assert len(gate.routes.logins.known) <= 4_096

    with publishing() as provider:
        asyncio.run(steps(provider))
