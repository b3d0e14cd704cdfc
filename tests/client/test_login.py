"""The client logs in at a scripted server and its provider: what it stores, what it refuses, what it never tells."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from msgspec.structs import replace

from portway.client import (
    Change,
    Client,
    ClientError,
    FileStorage,
    Login,
    LoginError,
    LoginNeeded,
    LoginStorage,
    MemoryStorage,
    OAuthLogin,
)
from portway.client.oauth.login_flow import new_login
from portway.client.oauth.login_logout import log_in
from portway.client.oauth.provider_web import ProviderWeb, web_of
from portway.client.oauth.settings import open_browser
from portway.client.oauth.stored_login import RegisteredClient
from portway.oauth.guarded_fetch import GuardedFetchError
from tests.client.protected_server import CODE, METADATA, PROVIDER, SECRET, Protected, protected
from tests.client.scripted_server import Reply
from tests.http.connect_proxy import connect_proxy

Scenario = Callable[[Protected], Awaitable[None]]


def run(scenario: Scenario) -> None:
    async def main() -> None:
        async with protected() as server:
            await scenario(server)

    asyncio.run(main())


async def listed(server: Protected, storage: LoginStorage | None = None, **settings: Any) -> None:
    """List the tools of the server with a client that logs in if it must."""
    login = OAuthLogin(storage=storage or MemoryStorage(), **({"visit": server.visit} | settings))
    async with Client(server.url, auth=login, timeout=10) as client:
        await client.list_tools()


def test_a_login_is_kept_for_the_next_client_and_refreshed_when_it_expires(tmp_path: Path) -> None:
    async def scenario(server: Protected) -> None:
        server.expires_in = 5  # within the margin before the end
        await listed(server, FileStorage(str(tmp_path)))
        assert server.count("/register") == server.count("/token", grant_type="authorization_code") == 1
        refreshed = server.count("/token", grant_type="refresh_token")
        await listed(server, FileStorage(str(tmp_path)), visit=None)
        assert server.count("/token", grant_type="refresh_token") > refreshed
        assert server.count("/token", resource=server.url) == server.count("/token")
        assert server.count("/register") == server.count("/token", grant_type="authorization_code") == 1

    run(scenario)
    (kept,) = tmp_path.glob("*.json")
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert json.loads(kept.read_text())["login"]["refresh_token"].startswith("refresh-")


@pytest.mark.parametrize("ending", [1, 2])  # of two, the client leaves in the pause before the third
def test_on_change_goes_on_when_its_stream_has_ended_with_a_token_that_is_refreshed(ending: int) -> None:
    async def scenario(server: Protected) -> None:
        server.ending = ending
        changes: asyncio.Queue[Change] = asyncio.Queue()
        login = OAuthLogin(storage=MemoryStorage(), visit=server.visit)
        async with Client(server.url, auth=login, timeout=10, on_change=changes.put_nowait) as client:
            assert await changes.get() == Change("tools"), "for what may have been missed"
            assert server.count("/mcp", method="subscriptions/listen") == 3, "of which the second was refused"
            assert server.count("/token", grant_type="refresh_token") == 1
            await client.list_tools()

    run(scenario)


def test_clients_that_refresh_at_once_use_each_refresh_token_once(tmp_path: Path) -> None:
    async def scenario(server: Protected) -> None:
        await listed(server, FileStorage(str(tmp_path)))
        server.given += 1  # the access token is not the newest any more
        server.takes = "refresh-1"
        await asyncio.gather(*(listed(server, FileStorage(str(tmp_path)), visit=None) for _ in range(5)))
        assert server.count("/token", grant_type="refresh_token") == 1

    run(scenario)


def test_a_login_that_the_provider_ends_begins_anew_with_the_client_it_knows() -> None:
    async def scenario(server: Protected) -> None:
        storage = MemoryStorage()
        await listed(server, storage)
        server.given += 1  # neither token is the newest any more
        await listed(server, storage)
        assert server.count("/token", grant_type="refresh_token") == 1
        assert server.count("/token", grant_type="authorization_code", client_id="client-1") == 2

    run(scenario)


def test_a_client_registers_again_when_its_port_is_taken() -> None:
    async def scenario(server: Protected) -> None:
        storage = MemoryStorage()
        await listed(server, storage)
        server.given += 1
        kept = storage._logins[server.url]
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", urlsplit(kept.client.redirect_uri).port))
            taken.listen()
            await listed(server, storage)
        assert server.count("/register") == 2

    run(scenario)


def test_metadata_at_the_root_may_be_of_the_whole_origin() -> None:
    async def scenario(server: Protected) -> None:
        server.challenge = ""
        server.answers[METADATA] = Reply({}, 404)
        server.answers[ROOT] = Reply({"resource": server.origin, "authorization_servers": [server.origin]})
        await listed(server)
        assert server.count("/token", resource=server.origin) == 1

    run(scenario)


def test_an_app_at_a_name_of_its_own_on_this_machine_is_logged_in_to() -> None:
    async def scenario(server: Protected) -> None:
        server.origin = server.origin.replace("127.0.0.1", "app.localhost")
        server.url = f"{server.origin}/mcp"
        await listed(server)
        assert server.count("/token", resource=server.url) == 1

    run(scenario)


def test_a_client_that_the_provider_has_forgotten_registers_again() -> None:
    async def scenario(server: Protected) -> None:
        storage = MemoryStorage()
        await listed(server, storage)
        server.given += 1
        server.answers["/token"] = Reply({"error": "invalid_client"}, 401)
        with pytest.raises(LoginError, match=r"/token answers with status 401 \(invalid_client\) \(RFC 6749 section 5"):
            await listed(server, storage)
        assert server.count("/register") == 2

    run(scenario)


@pytest.mark.parametrize("where", ["redirect", "token endpoint"])
def test_a_registration_that_the_provider_has_lost_is_made_anew_in_the_same_login(where: str) -> None:
    async def scenario(server: Protected) -> None:
        storage, pages = MemoryStorage(), 0

        async def visit(page: str) -> str:
            nonlocal pages
            pages += 1
            if pages == 2:
                if where == "redirect":
                    server.response = {"error": "unauthorized_client"}
                else:
                    server.answers["/token"] = Reply({"error": "invalid_client"}, 401)
            else:
                server.response = {}
                server.answers.pop("/token", None)
            return await server.visit(page)

        settings = OAuthLogin(storage=storage, visit=visit)
        await log_in(server.url, settings)
        login = await log_in(server.url, settings)
        assert (login.client.client_id, server.count("/register"), pages) == ("client-2", 2, 3)

    run(scenario)


def test_a_server_without_a_provider_is_said_to_have_none() -> None:
    async def scenario(server: Protected) -> None:
        server.challenge = ""
        server.answers = {path: Reply({}, 404) for path in (METADATA, ROOT, PROVIDER, "/register")}
        told = rf"the server at {server.origin} names no identity provider \(RFC 9728 section 5.1\): pass a token"
        with pytest.raises(LoginError, match=told):
            await listed(server)

    run(scenario)


def test_more_scopes_are_asked_for_with_those_from_before_and_kept() -> None:
    async def scenario(server: Protected) -> None:
        storage = MemoryStorage()
        server.resource = {"scopes_supported": ["read"]}
        await listed(server, storage)
        assert server.scopes == {"read"}
        server.needs = {"write"}
        with pytest.raises(
            LoginNeeded, match=r"asks for the scopes write: run `portway login http.* --scope write`, or"
        ):
            await listed(server, storage, visit=None)
        await listed(server, storage)
        assert server.scopes == {"read", "write"}

    run(scenario)


def test_a_server_that_wants_scopes_which_its_provider_does_not_give_is_not_asked_for_ever() -> None:
    async def scenario(server: Protected) -> None:
        server.needs = {"write"}
        server.gives = False
        with pytest.raises(LoginError, match=r"the server asks for write again after a login with it \(RFC 6750"):
            await listed(server)
        assert server.count("/token") == 2

    run(scenario)


def test_credentials_of_one_provider_are_not_used_at_another() -> None:
    async def scenario(server: Protected) -> None:
        storage = MemoryStorage()
        await listed(server, storage, client_id="mine")
        kept = storage._logins[server.url]
        await storage.save(server.url, replace(kept, issuer="https://before.example", refresh_token=""))
        server.given += 1
        with pytest.raises(LoginError, match=r"the client id is for https://before.example, and the server names http"):
            await listed(server, storage, client_id="mine")
        await listed(server, storage)
        assert server.count("/register") == 1

    run(scenario)


def test_nobody_is_asked_where_a_login_needs_a_user_and_there_is_none() -> None:
    async def scenario(server: Protected) -> None:
        with pytest.raises(
            LoginNeeded, match=r"/mcp asks for a login: run `portway login http.*/mcp`, or pass a token"
        ):
            await listed(server, visit=None)
        server.challenge = ""
        with pytest.raises(ClientError, match=r"asks for a token; create one for this app and pass it"):
            await listed(server, visit=None)
        assert not server.count("/register")

    run(scenario)


def test_the_browser_comes_back_to_this_machine_with_the_state_of_this_login_only() -> None:
    async def scenario(server: Protected) -> None:
        async def browse(back: str) -> list[httpx2.Response]:
            forged = back.replace("state=", "state=x")
            async with httpx2.AsyncClient() as browser:
                wrong = [await browser.get(url) for url in (forged, f"{back}&state=y", back.replace("/callback", "/"))]
                return [*wrong, await browser.post(back), await browser.get(back)]

        async def visit(page: str) -> None:
            browsing.append(asyncio.create_task(browse(await server.visit(page))))

        browsing: list[asyncio.Task[list[httpx2.Response]]] = []
        await listed(server, visit=visit)
        answers = await browsing[0]
        assert [answer.status_code for answer in answers] == [404, 404, 404, 404, 200]
        assert all("default-src 'none'" in answer.headers["content-security-policy"] for answer in answers)
        assert not any(CODE in answer.text or "location" in answer.headers for answer in answers)

    run(scenario)


ROOT = "/.well-known/oauth-protected-resource"
ISS = "(RFC 9207 section 2.4): do not try again before the provider has explained it"
OTHER_KIND = (
    "registers a client without an id, or of a kind that this one cannot be (RFC 7591 section 3.2.1): register one"
)
# What is changed, and a part of the error.
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"answers": {METADATA: Reply({}, 503)}}, "): try again later"),
    (
        {"answers": {METADATA: Reply({}, 404), ROOT: Reply({}, 404)}},
        "the server names its metadata, but {origin}/.well-kn",
    ),
    ({"challenge": 'resource_metadata="http://e.org/x"'}, "no https URL (RFC 9728 section 3); ask who runs the server"),
    (
        {"resource": {"resource": "https://evil.example/mcp"}},
        "'https://evil.example/mcp', which is not {origin}/mcp (RFC",
    ),
    (
        {"resource": {"resource": "ABOVE"}},
        "which is not {origin}/mcp (RFC 9728 section 3.3): connect to that URL if it is",
    ),
    (
        {"resource": {"authorization_servers": []}},
        "names no provider (RFC 9728 section 2): ask who runs the server, or",
    ),
    ({"answers": {PROVIDER: Reply([])}}, "{origin} has no metadata: {origin}/.well-known/"),
    (
        {"provider": {"issuer": "https://honest.example"}},
        "is of the issuer 'https://honest.example' (RFC 8414 section 3.",
    ),
    (
        {"provider": {"code_challenge_methods_supported": ["plain"]}},
        "{origin} does not say that it supports PKCE, as MCP",
    ),
    (
        {"provider": {"code_challenge_methods_supported": None}},
        "does not say that it supports PKCE, as MCP requires (RFC",
    ),
    (
        {"provider": {"authorization_endpoint": "javascript:x"}},
        "names an endpoint that is not used: 'javascript:x' is no",
    ),
    (
        {"provider": {"token_endpoint": "file:///etc/passwd"}},
        "names an endpoint that is not used: 'file:///etc/passwd'",
    ),
    ({"resource": {"authorization_servers": ["https://[::1"]}}, "no https URL (RFC 8414 section 3); ask who runs the"),
    (
        {"provider": {"registration_endpoint": None}},
        "does not let clients register themselves (RFC 7591): register one",
    ),
    (
        {"answers": {"/register": Reply({"error": "bad"}, 400)}},
        "answers with status 400 (bad) (RFC 7591 section 3.2.2): re",
    ),
    ({"answers": {"/register": Reply({}, 201)}}, OTHER_KIND),
    ({"answers": {"/register": Reply({"client_id": "c", "token_endpoint_auth_method": "jwt"}, 201)}}, OTHER_KIND),
    (
        {"response": {"state": "x", "error": "planted"}},
        "the response belongs to another login (RFC 6749 section 10.12): l",
    ),
    ({"response": {"iss": None, "error": "planted"}}, f"the response does not say that it is from {{origin}} {ISS}"),
    ({"response": {"iss": "https://evil.example", "error": "planted"}}, f"the response is not from {{origin}} {ISS}"),
    (
        {"response": {"error": "access_denied", "error_description": "no\nway"}},
        "the provider refuses: access_denied: no way (RFC 6749 section 4.1.2.1): log in again and agree, or ask for",
    ),
    (
        {"response": {"code": None}},
        "the response has no code, or a field twice (RFC 6749 section 4.1.2): log in again, or",
    ),
    (
        {"answers": {"/token": Reply({"error": "invalid_grant", "error_description": f"unknown {CODE}"}, 400)}},
        "/token answers with status 400 (invalid_grant: unknown …) (RFC 6749 section 5.2): log in again",
    ),
    ({"answers": {"/token": Reply({}, 503)}}, "answers with status 503 (RFC 6749 section 5.2): try again"),
    (
        {"answers": {"/token": Reply({"access_token": "a", "token_type": "DPoP"})}},
        "/token gives no bearer token (RFC 6749",
    ),
    (
        {"answers": {"/token": Reply({"access_token": "old"})}},
        "the server refuses the token that {origin} has just given f",
    ),
]


@pytest.mark.parametrize(("changes", "told"), REFUSED)
def test_a_login_ends_with_the_step_the_rule_and_the_mend(
    changes: dict[str, Any], told: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    async def scenario(server: Protected) -> None:
        for name, value in changes.items():
            setattr(server, name, {"resource": server.origin} if value == {"resource": "ABOVE"} else value)
        with pytest.raises(LoginError) as failed:
            await listed(server)
        assert str(failed.value).startswith(f"login failed at {failed.value.step}: ")
        assert told.format(origin=server.origin) in str(failed.value)
        assert "planted" not in str(failed.value)

    run(scenario)
    assert "planted" not in caplog.text


def test_a_login_can_be_begun_by_hand_and_is_tried_at_once() -> None:
    async def scenario(server: Protected) -> None:
        storage = MemoryStorage()
        settings = OAuthLogin(scopes=("read",), storage=storage, visit=server.visit)
        assert (await log_in(server.url, settings)).scopes == ("read",)
        server.answers["/token"] = Reply({"access_token": "old"})
        with pytest.raises(LoginError, match="the server refuses the token that"):
            await log_in(server.url, settings)
        assert await storage.load(server.url) is None
        server.answers[METADATA] = server.answers[ROOT] = Reply({}, 404)
        server.is_open = True
        with pytest.raises(LoginError, match=r"/mcp asks nobody to log in \(RFC 9728\): call it without a login"):
            await log_in(server.url, settings)

    run(scenario)


def test_a_user_who_does_not_come_back_ends_the_login_and_so_does_a_port_in_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def stay(page: str) -> None:
        await asyncio.Event().wait()

    async def scenario(server: Protected) -> None:
        with pytest.raises(
            LoginError, match=r"nobody logged in within 0\.05 s \(RFC 6749 section 4\.1\.2\): try again"
        ):
            await listed(server, visit=stay, timeout=0.05)
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            with pytest.raises(LoginError, match=f"nothing can listen on port {port} of 127.0.0.1"):
                await listed(server, callback_port=port)
        monkeypatch.setenv("PATH", "")
        monkeypatch.setattr("webbrowser._tryorder", [])
        with pytest.raises(LoginError, match="there is no browser on this machine"):
            await listed(server, visit=open_browser)

    run(scenario)


def test_a_server_elsewhere_cannot_lead_the_client_into_this_network() -> None:
    async def scenario(server: Protected) -> None:
        assert (await web_of(server.url)).private
        assert not (await web_of("https://93.184.216.34/mcp")).private
        inside = "is in the network of this machine, where a server elsewhere may not lead"
        for url in (server.url, "https://127.0.0.1/", "https://10.1.2.3/", "https://[::ffff:10.1.2.3]/"):
            with pytest.raises(GuardedFetchError, match=inside):
                await ProviderWeb(private=False).get(url)
        for url in (
            "http://example.com/",
            "ftp://example.com/",
            "https://a:b@example.com/",
            "https://[::1/",
            r"https://a.example\@b.example/",
            "x",
        ):
            with pytest.raises(GuardedFetchError, match="is no"):
                await ProviderWeb(private=True).get(url)
        assert not server.requests

    run(scenario)


def test_the_provider_is_reached_through_the_proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        with pytest.raises(GuardedFetchError, match="the proxy of HTTPS_PROXY answers with status 407"):
            await ProviderWeb(private=False).get("https://login.example/")
        for url in ("https://10.1.2.3/", "https://login.internal/", "https://login/"):
            with pytest.raises(
                GuardedFetchError, match="is in the network of this machine, where a server elsewhere may not"
            ):
                await ProviderWeb(private=False).get(url)

    with connect_proxy("another") as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        asyncio.run(main())


def test_tokens_are_not_sent_in_clear_text() -> None:
    async def main() -> None:
        settings = OAuthLogin(storage=MemoryStorage())
        with pytest.raises(LoginError, match=r"http://10\.1\.2\.3/mcp would get tokens in clear text \(RFC 6750"):
            await new_login(settings, "http://10.1.2.3/mcp", None, None)

    asyncio.run(main())


def test_a_file_that_others_can_read_or_that_is_damaged_is_not_used(tmp_path: Path) -> None:
    storage, url = FileStorage(str(tmp_path / "logins")), "https://example.com/mcp"
    login = Login("https://a.example", "https://a.example/token", url, RegisteredClient("c", SECRET), SECRET, SECRET)
    assert SECRET not in repr(login) + repr(OAuthLogin(client_id="c", client_secret=SECRET, storage=storage))
    asyncio.run(storage.save(url, login))
    assert asyncio.run(storage.load(url)) == login
    (path,) = (tmp_path / "logins").iterdir()
    assert [stat.S_IMODE(each.stat().st_mode) for each in (path, path.parent)] == [0o600, 0o700]
    path.chmod(0o644)
    with pytest.raises(ClientError, match=f"{path} holds tokens and others may read it: run `chmod 600 {path}`"):
        asyncio.run(storage.load(url))
    path.chmod(0o600)
    path.write_text("{}")
    with pytest.raises(ClientError, match=f"{path} is damaged: remove it, and log in again"):
        asyncio.run(storage.load(url))
    asyncio.run(storage.save(url, None))
    assert asyncio.run(storage.load(url)) is None


def test_a_process_that_never_gives_a_lock_back_ends_the_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("portway.client.oauth.storage._LOCK_SECONDS", 0.01)

    async def main() -> None:
        async with FileStorage(str(tmp_path)).lock("https://a.example"):
            async with FileStorage(str(tmp_path)).lock("https://b.example"):
                pass
            with pytest.raises(
                ClientError, match="another process refreshes the login and does not end: end it, or try"
            ):
                await FileStorage(str(tmp_path)).lock("https://a.example").__aenter__()

    asyncio.run(main())


def test_settings_that_make_no_sense_are_refused() -> None:
    for settings, told in (
        ({"client_metadata_url": "http://a.example/c"}, "client_metadata_url must be an https URL with a path"),
        ({"client_metadata_url": "https://a.example"}, "client_metadata_url must be an https URL with a path"),
        ({"scopes": "read"}, r"scopes is a list of texts, as in \['read', 'write'\]"),
        ({"client_secret": "x"}, "client_secret needs client_id"),
    ):
        with pytest.raises(ValueError, match=told):
            OAuthLogin(**settings)  # type: ignore[arg-type]

    async def main() -> None:
        with pytest.raises(ClientError, match="auth is for servers with an http URL, and without a token"):
            async with Client("http://localhost:1/mcp", token="t", auth="oauth"):
                pass

    asyncio.run(main())
