"""Apps that check their callers: credentials and challenges pass the gate, on their own host name all paths."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from portway.host.gate.upstream_tokens import UpstreamTokens
from portway.host.routing_table import App
from portway.host.secrets.key_file import KeyFile
from portway.host.secrets.upstream_token import encrypt_token
from portway.http.http_client import Response
from tests.gate.running_gate import Rig, Seen, Upstream, call, echo, modern, reply, rig
from tests.gate.test_sessions import run

METADATA = "https://o.localhost/.well-known/oauth-protected-resource"
CHALLENGE = f'Bearer resource_metadata="{METADATA}"'.encode()
OAUTH_ERROR = json.dumps({"error": "invalid_token", "error_description": "Authentication required"}).encode()


async def strict(seen: Seen, writer: asyncio.StreamWriter) -> None:
    """Ask for the token `theirs` at the MCP endpoint; set a cookie on other paths."""
    if not seen.head.startswith(b"POST /mcp "):
        own = b"http://o.localhost" + seen.head.split(b" ")[1].removesuffix(b"/").removeprefix(b"/other")
        cookie = b"set-cookie: domain=1; Domain=.localhost; Path=/; domain=x"
        more = b"\r\nlocation: %b\r\n%b\r\nwww-authenticate: Basic\r\n" % (own, cookie)
        writer.write(reply(b"page", b"text/html").replace(b"\r\n", more, 1))
    elif seen.headers.get("authorization") != "Bearer theirs":
        head = b"\r\nwww-authenticate: %b\r\nwww-authenticate: Basic\r\nset-cookie: a=b\r\n" % CHALLENGE
        writer.write(reply(OAUTH_ERROR, status=b"401 Unauthorized").replace(b"\r\n", head, 1))
    else:
        await echo(seen, writer)


async def ask(gate: Rig, method: str, host: str, path: str, *headers: tuple[bytes, bytes]) -> Response:
    gate.client._host_header = b"host: " + host.encode()
    return await gate.client.request(method, path, headers, call() if method == "POST" else b"")


@pytest.mark.parametrize(("host", "path"), [("localhost", "/o/mcp"), ("o.localhost", "/mcp")])
def test_the_apps_own_check_of_its_mcp_endpoint_stands(tmp_path: Path, host: str, path: str) -> None:
    async def test() -> None:
        upstream = Upstream(strict)
        async with rig(tmp_path, upstream) as gate:
            gate.client._host_header = b"host: " + host.encode()
            body, headers = modern()
            for token in ("", "secret", "theirs"):
                response = await gate.post(body, *headers, (b"cookie", b"c=d"), path=path, token=token)
                text, got = await response.read(9999), [each for each in response.headers if each[0] != b"date"]
                seen = upstream.requests[-1].headers
                assert seen.get("authorization") == (f"Bearer {token}" if token else None)
                assert "cookie" not in seen, "at neither address"
                assert b"set-cookie" not in dict(got)
                if token == "theirs":
                    assert (response.status, json.loads(text)["result"]) == (200, {"echo": json.loads(body)["params"]})
                else:
                    challenges = [value for name, value in got if name == b"www-authenticate"]
                    assert (response.status, text, challenges) == (401, OAUTH_ERROR, [CHALLENGE])
            assert (await ask(gate, "POST", host, path, (b"origin", b"https://evil.com"))).status == 403

    run(test())


def test_other_paths_are_the_apps_own_on_its_own_host_name_only(tmp_path: Path) -> None:
    async def test() -> None:
        upstream = Upstream(strict)
        credentials = [(b"authorization", b"Basic x"), (b"cookie", b"c=d"), (b"origin", b"https://login.example")]
        async with rig(tmp_path, upstream) as gate:
            other = await ask(gate, "POST", "o.localhost", "/other.example/login", *credentials)
            assert dict(other.headers)[b"location"] == b"http://o.localhost.example/login", "another host's name"
            for path in ("/.well-known/oauth-protected-resource", "/login", "/"):
                page = await ask(gate, "POST", "o.localhost", path, *credentials)
                seen = upstream.requests[-1].headers
                assert [seen[name.decode()] for name, _ in credentials] == ["Basic x", "c=d", "https://login.example"]
                fields = dict(page.headers)
                assert (page.status, fields[b"www-authenticate"]) == (200, b"Basic")
                assert fields[b"location"] == path.encode(), "at the port and by the scheme of the client's URL"
                assert fields[b"set-cookie"] == b"domain=1; Path=/", "a cookie is not for the other apps"
            count = len(upstream.requests)
            for path in ("/.well-known/oauth-protected-resource/o/mcp", "/o/login", "/login"):
                assert (await ask(gate, "GET", "localhost", path, *credentials[:2])).status == 404
            assert (await ask(gate, "GET", "a.localhost", "/login", *credentials[:2])).status == 401
            assert (await ask(gate, "POST", "p.localhost", "/login", *credentials)).status == 403
            assert len(upstream.requests) == count
            await ask(gate, "GET", "p.localhost", "/login", *credentials[:2])
            assert not {"authorization", "cookie"} & upstream.requests[-1].headers.keys()

    run(test())


def test_a_token_in_the_table_is_for_its_app_and_its_key(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    key = KeyFile(tmp_path / "key")
    sealed = encrypt_token(key.open(is_needed=False), "a", "theirs")
    tokens, former = UpstreamTokens(key), (b"authorization", b"Bearer former")
    app = App("a", 1, upstream_token=sealed)
    assert tokens.header(app, None) == (b"authorization", b"Bearer theirs")
    assert (tokens.header(App("a", 1), former), caplog.text) == (None, "")
    for other, opened in (
        (App("b", 1, upstream_token=sealed), tokens),
        (app, UpstreamTokens(KeyFile(tmp_path / "no"))),
    ):
        caplog.clear()
        assert opened.header(other, former) == former
        assert f"does not decrypt the own token of {other.name}: calls go on as before" in caplog.text


def test_a_caller_is_told_that_the_host_lacks_the_apps_own_token(tmp_path: Path) -> None:
    async def test() -> None:
        async with rig(tmp_path, Upstream(strict)) as gate:
            body, headers = modern()
            status, answer = await gate.answer(body, *headers)
            text = "The app 'a' asks for a token of its own, which its host does not have."
            assert (status, answer["id"], answer["error"]["message"]) == (502, 1, text)

    run(test())
