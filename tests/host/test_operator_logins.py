"""Those who operate the host log in at its identity provider, where a group of theirs has a role."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client

from portway.client.oauth.storage import FileStorage
from portway.client.oauth.stored_login import Login, RegisteredClient
from portway.http.http_client import HttpClient
from tests.conftest import RunCli
from tests.host.running_host import Host, host
from tests.host.test_management import ask, call, refusal, user
from tests.oauth.bad_tokens import in_seconds
from tests.oauth.key_publisher import KeyPublisher, publishing

pytestmark = pytest.mark.slow

OF_APPS = "https://apps.example.com"
METADATA = "/.well-known/oauth-protected-resource/_portway/mcp"


@pytest.fixture(scope="module")
def provider() -> Iterator[KeyPublisher]:
    with publishing() as publisher:
        yield publisher


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, provider: KeyPublisher) -> Iterator[Host]:
    options = ("--auth-issuer", provider.url, "--auth-scopes", "groups", "--auth-audience", OF_APPS)
    with host(tmp_path_factory.mktemp("operators") / "data", options=options) as running:
        yield running


def endpoint(running: Host) -> str:
    return f"{running.ready['url']}/_portway/mcp"


def token_of(running: Host, provider: KeyPublisher, **claims: Any) -> str:
    return provider.token(endpoint(running), **claims)


def mapped(running: Host, *arguments: str) -> None:
    done = running.portway("user", *arguments)
    assert done.returncode == 0, done.stderr


def test_a_client_without_a_token_is_led_to_the_provider(running: Host, provider: KeyPublisher) -> None:
    url = running.ready["url"]
    challenge = f'scope="groups", resource_metadata="{url}{METADATA}"'
    assert refusal(running)[:2] == (401, f"Bearer {challenge}".encode())
    told = refusal(running, (b"authorization", b"Bearer wrong"))
    assert told[:2] == (401, f'Bearer error="invalid_token", {challenge}'.encode())
    found = httpx2.get(url + METADATA, headers={"origin": "https://page.example"})
    assert (found.status_code, found.headers["access-control-allow-origin"]) == (200, "*")
    assert found.json() == {
        "resource": endpoint(running),
        "authorization_servers": [provider.url],
        "scopes_supported": ["groups"],
        "bearer_methods_supported": ["header"],
        "resource_name": "Portway",
    }


def test_a_group_has_the_rights_of_its_role_and_apps(running: Host, provider: KeyPublisher) -> None:
    mapped(running, "map", "ops", "--role", "admin")
    mapped(running, "map", "dev", "--role", "deployer", "--app", "mine")
    mapped(running, "map", "qa", "--role", "deployer", "--app", "other")
    mapped(running, "map", "carl", "--role", "viewer", "--claim", "sub")
    mapped(running, "map", "realm", "--role", "viewer", "--claim", "realm_access.roles")
    for claims, role, apps in (
        ({"groups": ["staff", "ops", "dev"]}, "admin", []),
        ({"groups": ["dev", "qa"]}, "deployer", ["mine", "other"]),
        ({"groups": "dev"}, "deployer", ["mine"]),
        ({"sub": "carl"}, "viewer", []),
        ({"realm_access": {"roles": ["realm"]}}, "viewer", []),
    ):
        name = f"{provider.url}|{claims.get('sub', 'ada')}"
        said = call(running, token_of(running, provider, **claims), "whoami").structured
        assert (said["name"], said["role"], said["apps"], said["local"]) == (name, role, apps, False)
    as_viewer = call(running, token_of(running, provider, sub="carl"), "add_user", name="eve", role="admin")
    assert as_viewer.is_error
    assert " and may not do what an admin may" in as_viewer.text
    listed = json.loads(running.portway("user", "list", "-o", "json").stdout)["groups"]
    assert [(group["claim"], group["group"], group["role"]) for group in listed][:2] == [
        ("sub", "carl", "viewer"),
        ("groups", "dev", "deployer"),
    ]
    assert f"groups=ops at {provider.url}" in running.portway("user", "list").stdout


def test_only_a_token_for_the_management_api_and_of_a_mapped_group_is_taken(
    running: Host, provider: KeyPublisher
) -> None:
    mapped(running, "map", "ops", "--role", "admin")
    url = running.ready["url"]

    def answer(token: str) -> tuple[int, str]:
        status, _, body = refusal(running, (b"authorization", f"Bearer {token}".encode()))
        return status, json.loads(body)["error"]["message"]

    for audience in (OF_APPS, url, f"{url}/weather/mcp", provider.url, None):
        assert answer(provider.token(audience, groups=["ops"]))[0] == 401
    assert answer(token_of(running, provider, groups=["ops"], exp=1))[0] == 401
    no_role = "You have logged in as ada, but no group of yours has a role on this host: its operator gives one by"
    assert answer(token_of(running, provider, groups=["staff"], ops=["ops"])) == (403, f"{no_role} `portway user map`.")
    assert call(running, user(running, "tina", "viewer"), "whoami").structured["name"] == "tina"


def test_verbs_use_the_login_at_the_provider(
    running: Host, provider: KeyPublisher, tmp_path: Path, run_cli: RunCli
) -> None:
    mapped(running, "map", "ops", "--role", "admin")
    home, url = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}, running.ready["url"]
    on = ("--on", url)
    assert f"there is no token for {url}: `portway login {url}`" in run_cli("ps", *on, env=home).stderr
    storage = FileStorage(str(tmp_path / "portway" / "logins"))

    def logged_in(**claims: Any) -> None:
        token = token_of(running, provider, groups=["ops"], **claims)
        client = RegisteredClient("mine")
        login = Login(provider.url, f"{provider.url}/token", endpoint(running), client, token)
        asyncio.run(storage.save(endpoint(running), login))

    logged_in()
    assert json.loads(run_cli("ps", *on, "-o", "json", env=home).stdout)["apps"] == []
    pushed = run_cli("deploy", str(tmp_path), *on, env=home)
    assert "a folder is sent by git, which takes only the token of a user: log in by `portway login" in pushed.stderr
    logged_in(exp=1)
    assert f"; `portway login {endpoint(running)}` takes another" in run_cli("ps", *on, env=home).stderr


@pytest.mark.parametrize("end", ["unmapped", "narrowed"])
def test_what_is_open_ends_when_a_group_has_other_rights(running: Host, provider: KeyPublisher, end: str) -> None:
    mapped(running, "map", "night", "--role", "admin")
    token = token_of(running, provider, groups=["night"])

    async def test() -> None:
        async with HttpClient(running.ready["url"]) as client:
            stream = await ask(client, token, "subscriptions/listen", {"notifications": {"toolsListChanged": True}})
            assert stream.status == 200
            change = ("unmap", "night") if end == "unmapped" else ("map", "night", "--role", "viewer")
            await asyncio.to_thread(mapped, running, *change)
            assert b"subscriptions/acknowledged" in await stream.read(10_000)  # to its end

    asyncio.run(test())


def test_a_host_with_no_provider_or_several_asks_which(tmp_path: Path, provider: KeyPublisher) -> None:
    mapping = ("user", "map", "ops", "--role", "viewer")
    several = ["--auth-issuer", f"{provider.url} https://b.example"]
    for options, told in (
        ([], "this host has no identity provider: start it with --auth-issuer"),
        (several, f"this host has several identity providers: name one by --issuer: {provider.url}, https://b.example"),
    ):
        with host(tmp_path / f"data{len(options)}", options=options) as running:
            assert told in running.portway(*mapping).stderr
            if options:
                mapped(running, *mapping[1:], "--issuer", "https://b.example")
                token = token_of(running, provider, groups=["ops"])
                assert refusal(running, (b"authorization", f"Bearer {token}".encode()))[0] == 403
                mapped(running, *mapping[1:], "--issuer", provider.url)
                assert call(running, token, "whoami").structured["role"] == "viewer"


def test_what_is_open_ends_when_the_token_expires(running: Host, provider: KeyPublisher) -> None:
    mapped(running, "map", "ops", "--role", "admin")
    skew = 30  # seconds that clocks may differ
    of_login = token_of(running, provider, groups=["ops"], exp=in_seconds(20 - skew))
    of_user = running.portway("user", "add", "brief", "--role", "viewer", "--expires", "20s").stdout.strip()

    async def test() -> None:
        async with HttpClient(running.ready["url"]) as client:
            listening = {"notifications": {"toolsListChanged": True}}
            streams = [await ask(client, token, "subscriptions/listen", listening) for token in (of_login, of_user)]
            assert [stream.status for stream in streams] == [200, 200]
            for stream in streams:
                assert b"subscriptions/acknowledged" in await stream.read(10_000)  # to its end
            again = await ask(client, of_user, "tools/list", {})
            assert (again.status, await again.read(10_000) != b"") == (401, True)

    asyncio.run(test())


def test_the_official_client_operates_the_host_with_an_access_token(running: Host, provider: KeyPublisher) -> None:
    mapped(running, "map", "ops", "--role", "admin")
    headers = {"authorization": f"Bearer {token_of(running, provider, groups=['ops'])}"}

    async def test() -> str:
        async with (
            httpx2.AsyncClient(headers=headers) as http,
            streamable_http_client(endpoint(running), http_client=http) as (read, write, *_),
            ClientSession(read, write) as session,
        ):
            await session.initialize()
            result = await session.call_tool("whoami", {})
            return str(result.content[0].text)  # type: ignore[union-attr]

    assert json.loads(asyncio.run(test()))["role"] == "admin"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["map", "", "--role", "viewer"], "give the group and the claim as 1 to 200 printable characters"),
        (["map", "x", "--role", "admin", "--app", "a"], "an admin may use every app: leave the apps out, or make a"),
        (["unmap", "none"], "no group 'none' of the claim 'groups' has a role: see `portway user list`"),
        (
            ["map", "x", "--role", "viewer", "--issuer", "https://x.example"],
            "https://x.example is no identity provider of",
        ),
    ],
)
def test_a_wrong_mapping_is_refused(running: Host, arguments: list[str], told: str) -> None:
    done = running.portway("user", *arguments)
    assert done.returncode == 1
    assert told in done.stderr
