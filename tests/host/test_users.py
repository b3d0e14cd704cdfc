"""Users: how they are added, listed and revoked, and what each role may do."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from portway import OAuth, Server
from portway.auth.principal import Principal
from portway.host.management import remote_access
from portway.host.management.remote_access import UserDoor
from portway.host.store import Store, StoreError
from portway.host.users import User, UserError, Users
from portway.http.http_client import HttpClient, Response
from portway.oauth import introspection
from portway.oauth.resource_server import resource_server
from portway.transport import token_watch
from tests.host.running_host import host
from tests.oauth.key_publisher import publishing
from tests.oauth.vault import in_seconds
from tests.support import eventually
from tests.transport.http_client import MODERN, Events, envelope, post, served

ISSUER = "https://login.example.com"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "portway.db")
    yield store
    store.close()


@pytest.mark.parametrize(
    ("user", "reads", "deploys"),
    [
        (User("vera", "viewer"), True, False),
        (User("vera", "viewer", ("other",)), False, False),
        (User("dora", "deployer"), True, True),
        (User("dora", "deployer", ("weather",)), True, True),
        (User("dora", "deployer", ("other",)), False, False),
        (User("anna", "admin"), True, True),
    ],
)
def test_a_role_says_what_a_user_may_do_to_an_app(user: User, reads: bool, deploys: bool) -> None:
    assert (user.objection("read", "weather") is None, user.objection("deploy", "weather") is None) == (reads, deploys)


def test_a_user_is_found_by_its_token_until_it_is_revoked(store: Store) -> None:
    users = Users(store)
    token = users.add("dora", "deployer", ["weather", "news", "weather"])
    found = users.find(token)
    assert found
    assert found.user == User("dora", "deployer", ("news", "weather"))
    assert users.find(token[:-1]) is None
    users.revoke("dora")
    assert users.find(token) is None


def test_a_users_token_expires_and_a_rotated_one_is_valid_for_its_overlap(store: Store) -> None:
    users, now = Users(store), int(time.time())
    changes: list[int] = []
    users.on_change.append(lambda: changes.append(1))
    assert users.find(users.add("old", "viewer", [], now)) is None
    first = users.add("dora", "deployer", ["news"], now + 1000)
    _, second = users.rotate("dora", 100, None)
    found = [users.find(token) for token in (first, second)]
    assert [each.user.apps for each in found if each] == [("news",)] * 2
    lives = [each.expires - now for each in found if each and each.expires]
    assert lives[0] in (100, 101)
    assert lives[1] >= 999
    after, third = users.rotate("dora", 5000, None)
    assert users.find(first) is None
    assert users.find(third)
    assert after.former_expires, "a token does not outlive its own expiry by its overlap"
    assert after.former_expires <= now + 1002
    users.revoke("dora")
    assert users.find(second) is users.find(third) is None
    assert len(changes) == 3


def test_each_request_from_afar_is_watched_once_until_it_ends(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_watch, "LOOK_SECONDS", 0.0)
    users = Users(store)
    door, bearer = UserDoor(Server("host"), users), f"Bearer {users.add('dora', 'viewer', [])}"

    async def steps(_: str, client: HttpClient) -> None:
        async def ask(method: str, params: dict[str, Any]) -> Response:
            headers = {"mcp_protocol_version": MODERN, "mcp_method": method, "authorization": bearer}
            return await post(client, envelope(method, params), **headers)

        stream = Events(await ask("subscriptions/listen", {"notifications": {"toolsListChanged": True}}))
        assert "acknowledged" in (await stream.message())["method"]
        for _number in range(20):
            assert b"result" in await (await ask("tools/list", {})).read(9999)
        assert len(door._open) == 1
        users.revoke("dora")
        assert await stream.next() is None

    served(steps, door)
    assert not door._open


def test_what_is_open_by_a_login_ends_when_that_expires_and_not_when_the_provider_is_down(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, name in (
        *((introspection, "_SECONDS"), (introspection, "_PAUSE_SECONDS")),
        (remote_access, "_LOOK_SECONDS"),
    ):
        monkeypatch.setattr(module, name, 0.01)
    users, url = Users(store), "https://example.com/mcp"
    with publishing() as provider:
        users.map_group(provider.url, "groups", "ops", "viewer", [])
        settings = OAuth(provider.url, url, client_id="host", client_secret="s", opaque=True)
        door = UserDoor(Server("host"), users, resource_server([settings], "host", "/mcp", None))
        token = provider.open("opaque", aud=url, groups=["ops"], exp=in_seconds(600))

        async def steps(_: str, client: HttpClient) -> None:
            headers = {"mcp_protocol_version": MODERN, "mcp_method": "subscriptions/listen"}
            body = envelope("subscriptions/listen", {"notifications": {"toolsListChanged": True}})
            stream = Events(await post(client, body, authorization=f"Bearer {token}", **headers))
            assert "acknowledged" in (await stream.message())["method"]
            provider.is_down = True
            asked = len(provider.forms)
            await asyncio.to_thread(eventually, lambda: len(provider.forms) > asked + 3)
            assert len(door._open) == 1
            monkeypatch.setattr(time, "time", lambda: 3_000_000_000.0)
            assert await stream.next() is None

        served(steps, door)


def test_of_several_groups_the_strongest_role_counts_with_the_apps_of_all_that_give_it(store: Store) -> None:
    users = Users(store)
    users.map_group(ISSUER, "groups", "dev", "deployer", ["a"])
    users.map_group(ISSUER, "groups", "qa", "deployer", ["b"])
    users.map_group(ISSUER, "groups", "all", "viewer", [])
    users.map_group(ISSUER, "roles", "free", "deployer", [])
    users.map_group("https://other.example.com", "groups", "all", "admin", [])

    def member(**claims: object) -> User | None:
        return users.member(Principal(ISSUER, "ada", claims=claims))

    name = f"{ISSUER}|ada"
    assert member(groups=["all", "qa", "dev"]) == User(name, "deployer", ("a", "b"))
    assert member(groups=["dev"], roles="free") == User(name, "deployer", ())
    assert member(groups="all") == User(name, "viewer", ())
    assert member(groups=["free"], sub="dev", roles=["dev", 1, None]) is None
    users.map_group(ISSUER, "groups", "dev", "viewer", ["c"])
    assert member(groups=["dev"]) == User(name, "viewer", ("c",))
    users.unmap_group(ISSUER, "groups", "dev")
    assert member(groups=["dev"]) is None


@pytest.mark.parametrize(
    ("name", "role", "apps", "told"),
    [
        ("a b", "viewer", [], "give the user a name of 1 to 64 letters, digits and any of . _ @ -"),
        ("-dora", "viewer", [], "give the user a name of 1 to 64 letters, digits and any of . _ @ -"),
        ("dora", "owner", [], "there is no role 'owner': give viewer, deployer or admin"),
        ("dora", "admin", ["weather"], "an admin may use every app: leave the apps out, or make a deployer"),
        ("dora", "viewer", ["../x"], "'../x' cannot name an app: give a name of up to 40"),
        ("ada", "viewer", [], "there is a user named 'ada' already: rotate or revoke it, or choose another name"),
    ],
)
def test_a_user_that_cannot_be_is_refused(store: Store, name: str, role: str, apps: list[str], told: str) -> None:
    users = Users(store)
    users.add("ada", "admin", [])
    with pytest.raises((UserError, StoreError)) as refused:
        users.add(name, role, apps)
    assert str(refused.value).startswith(told)
    assert [user.name for user in users.all()] == ["ada"]


@pytest.mark.slow
def test_the_command_line_adds_lists_and_revokes_users(tmp_path: Path) -> None:
    with host(tmp_path / "data") as running:
        token = running.portway("user", "add", "dora", "--role", "deployer", "--app", "weather").stdout.strip()
        assert token.startswith("pwu_")
        made = json.loads(running.portway("user", "add", "vera", "--role", "viewer", "-o", "json").stdout)
        assert (made["name"], made["role"], made["apps"]) == ("vera", "viewer", [])
        listed = running.portway("user", "list").stdout
        assert [line.split()[:2] for line in listed.splitlines()[1:]] == [["dora", "deployer"], ["vera", "viewer"]]
        assert [line.split()[-1] for line in listed.splitlines()] == ["APPS", "weather", "all"]
        assert running.portway("user", "revoke", "vera").stderr == "revoked vera\n"
        again = running.portway("user", "revoke", "vera")
        running.portway("user", "add", "ugo", "--role", "viewer")
        revoked = json.loads(running.portway("user", "revoke", "ugo", "-o", "json").stdout)
        assert revoked == {"name": "ugo", "revoked": True}
        assert again.returncode == 1
        assert again.stderr == "Error: there is no user named 'vera': see `portway user list`\n"
        users = json.loads(running.portway("user", "list", "-o", "json").stdout)["users"]
        assert [user["name"] for user in users] == ["dora"]
        assert token.encode() not in b"".join(path.read_bytes() for path in running.paths.data.glob("portway.db*"))
