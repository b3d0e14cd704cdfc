"""The management API from afar: who may reach it, and what each role may do there."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from portway.client import Client
from portway.http.http_client import HttpClient, Response
from tests.gate.running_gate import META
from tests.host.running_host import Host, host
from tests.support import ROOT

if TYPE_CHECKING:
    from portway.client import CallResult

pytestmark = pytest.mark.slow

PATH = "/_portway/mcp"
APPS = ("mine", "other")
WEATHER = ROOT / "examples" / "weather"
JSON = (b"content-type", b"application/json")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with host(tmp_path_factory.mktemp("management") / "data") as running:
        for app in APPS:
            running.deploy(WEATHER, app)
        yield running


def user(running: Host, name: str, role: str, *apps: str) -> str:
    """Add a user and return its token."""
    bound = [word for app in apps for word in ("--app", app)]
    return running.portway("user", "add", name, "--role", role, *bound).stdout.strip()


def call(running: Host, token: str, tool: str, **arguments: object) -> CallResult:
    """Call a tool of the management API as the user of a token."""

    async def use() -> CallResult:
        async with Client(running.ready["url"] + PATH, token=token, timeout=30) as client:
            return await client.call_tool(tool, arguments)

    return asyncio.run(use())


async def ask(client: HttpClient, token: str, method: str, params: dict[str, object]) -> Response:
    """Send a modern request; return when its reply begins."""
    name = params.get("name")
    headers = [JSON, (b"authorization", b"Bearer " + token.encode()), (b"mcp-protocol-version", b"2026-07-28")]
    headers += [(b"mcp-method", method.encode()), *([(b"mcp-name", str(name).encode())] if name else [])]
    message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params | {"_meta": META}}
    return await client.request("POST", PATH, headers, json.dumps(message).encode())


def refusal(running: Host, *headers: tuple[bytes, bytes], body: bytes = b"{}") -> tuple[int, bytes, bytes]:
    """Return the status of a POST, its WWW-Authenticate and its body."""

    async def ask() -> tuple[int, bytes, bytes]:
        client = HttpClient(running.ready["url"])
        response = await client.request("POST", PATH, [JSON, *headers], body)
        answer = response.status, response.header(b"www-authenticate"), await response.read(10_000)
        await client.close()
        return answer

    return asyncio.run(ask())


def test_without_the_token_of_a_user_nothing_is_answered(running: Host) -> None:
    token = user(running, "rita", "admin")
    without = refusal(running)
    assert without[:2] == (401, b"Bearer")
    unknown = refusal(running, (b"authorization", b"Bearer pwu_unknown"))
    assert unknown[:2] == (401, b'Bearer error="invalid_token"')
    assert unknown == refusal(running, (b"authorization", f"Bearer {token[:-1]}".encode()))
    assert running.portway("user", "revoke", "rita").returncode == 0
    assert unknown == refusal(running, (b"authorization", f"Bearer {token}".encode()))
    assert refusal(running, (b"origin", b"https://elsewhere.example"))[0] == 403


def test_a_revoked_user_loses_at_once_what_it_has_open(running: Host) -> None:
    token = user(running, "rolf", "admin")
    cursor = call(running, token, "logs", app="mine").structured["cursor"]

    async def test() -> None:
        client = HttpClient(running.ready["url"])
        stream = await ask(client, token, "subscriptions/listen", {"notifications": {"toolsListChanged": True}})
        assert (stream.status, stream.header(b"content-type")) == (200, b"text/event-stream")
        params = {"name": "logs", "arguments": {"app": "mine", "cursor": cursor, "follow": True}}
        following = asyncio.create_task(ask(client, token, "tools/call", params))
        await asyncio.sleep(0)
        assert (await asyncio.to_thread(running.portway, "user", "revoke", "rolf")).returncode == 0
        assert b"subscriptions/acknowledged" in await stream.read(10_000)  # to its end
        cut = await following
        assert (cut.status, cut.header(b"www-authenticate")) == (401, b'Bearer error="invalid_token"')
        assert b"This user was revoked; `portway user add` makes a new one." in await cut.read(10_000)
        await client.close()

    asyncio.run(test())


def test_what_an_admin_does_is_refused_to_others(running: Host) -> None:
    token = user(running, "dora", "deployer")
    done = call(running, token, "destroy", app="weather")
    assert done.text == "dora is a deployer, and may not do what an admin may: ask an admin of this host"
    token = user(running, "dana2", "deployer", "weather", "news")
    done = call(running, token, "link", app="weather", repository="https://example.com/a/b")
    assert done.text == "dana2 is bound to news, weather, and this may reach other apps later"


def test_a_user_is_told_who_it_is_and_the_operator_too(running: Host) -> None:
    token = user(running, "dana", "deployer", "weather", "news")
    told: dict[str, Any] = call(running, token, "whoami").structured
    assert told == {
        "name": "dana",
        "role": "deployer",
        "apps": ["news", "weather"],
        "local": False,
        "host": running.ready["url"],
    }


def test_a_folder_of_the_host_is_deployed_by_its_operator_only(running: Host) -> None:
    token = user(running, "anna", "admin")
    for source in ("/etc", "etc", str(running.paths.data)):
        done = call(running, token, "deploy", source=source, name="stolen")
        assert done.is_error
        assert done.text.startswith("only who is logged in to the host deploys one of its folders: give template:NAME")
