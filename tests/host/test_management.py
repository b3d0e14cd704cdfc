"""The management API from afar: who may reach it, and what each role may do there."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from portway.cli.control_client import ask_control
from portway.client import Client
from portway.host.logs.log_entry import LogPage
from portway.host.management.management_types import AppList, Identity
from portway.host.processes import local_user
from portway.http.http_client import HttpClient, Response
from portway.protocol.errors import RpcError
from tests.gate.running_gate import META
from tests.host.running_host import Host, host
from tests.support import ROOT, eventually

if TYPE_CHECKING:
    from pathlib import Path

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
        async with Client(running.ready["url"] + PATH, token=token, timeout=120) as client:
            return await client.call_tool(tool, arguments)

    return asyncio.run(use())


async def ask(client: HttpClient, token: str, method: str, params: dict[str, object]) -> Response:
    """Send a modern request; return when its reply begins."""
    name = params.get("name")
    headers = [JSON, (b"authorization", b"Bearer " + token.encode()), (b"mcp-protocol-version", b"2026-07-28")]
    headers += [(b"mcp-method", method.encode()), *([(b"mcp-name", str(name).encode())] if name else [])]
    message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params | {"_meta": META}}
    return await client.request("POST", PATH, headers, json.dumps(message).encode())


def refusal(
    running: Host, *headers: tuple[bytes, bytes], body: bytes = b"{}", path: str = PATH
) -> tuple[int, bytes, bytes]:
    """Return the status of a POST, its WWW-Authenticate and its body."""

    async def ask() -> tuple[int, bytes, bytes]:
        async with HttpClient(running.ready["url"]) as client:
            response = await client.request("POST", path, [JSON, *headers], body)
            return response.status, response.header(b"www-authenticate"), await response.read(10_000)

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
    of_app = running.portway("token", "create", "mine", "rita").stdout.strip()
    refused = running.portway("inspect", running.ready["url"] + PATH, "--token", of_app)
    assert "refuses the token it was given; create one for a user by `portway user add` and pass it" in refused.stderr
    assert refusal(running, path=PATH + "/") == without
    assert refusal(running, (b"origin", b"https://elsewhere.example"))[0] == 403


@pytest.mark.parametrize("end", ["revoke", "rotate", "rotate --overlap 1s"])
def test_a_user_whose_token_ends_loses_what_it_has_open(running: Host, end: str) -> None:
    verb, *options = end.split()
    name = f"rolf{len(end)}"
    token = user(running, name, "admin")
    cursor = call(running, token, "logs", app="mine").structured["cursor"]

    async def test() -> None:
        async with HttpClient(running.ready["url"]) as client:
            stream = await ask(client, token, "subscriptions/listen", {"notifications": {"toolsListChanged": True}})
            assert (stream.status, stream.header(b"content-type")) == (200, b"text/event-stream")
            params = {"name": "logs", "arguments": {"app": "mine", "cursor": cursor, "follow": True}}
            following = asyncio.create_task(ask(client, token, "tools/call", params))
            await asyncio.sleep(0)
            assert (await asyncio.to_thread(running.portway, "user", verb, name, *options)).returncode == 0
            assert b"subscriptions/acknowledged" in await stream.read(10_000)  # to its end
            cut = await following
            assert (cut.status, cut.header(b"www-authenticate")) == (401, b'Bearer error="invalid_token"')
            ended = (
                b"This token was revoked or has expired: `portway user rotate` and `portway user add` make new ones."
            )
            assert ended in await cut.read(10_000)

    asyncio.run(test())


def test_the_deploy_of_a_revoked_user_ends_and_nothing_of_it_goes_live(running: Host) -> None:
    token = user(running, "ron", "deployer")
    arguments = {"source": "template:portway", "name": "held", "build_command": "sleep 600"}

    def is_held() -> bool:
        found = ask_control(running.here, "list_apps", {}, AppList)
        return any((one.app, one.state) == ("held", "deploying") for one in found.apps)

    async def test() -> int:
        async with HttpClient(running.ready["url"]) as client:
            deploying = asyncio.create_task(
                ask(client, token, "tools/call", {"name": "deploy", "arguments": arguments})
            )
            await asyncio.to_thread(eventually, is_held)
            await asyncio.to_thread(running.portway, "user", "revoke", "ron")
            ended = await deploying
        return ended.status

    assert asyncio.run(test()) == 401
    assert eventually(lambda: running.status("held").state == "failed")
    assert not [line for line in running.processes().values() if "sleep 600" in line]


def test_what_an_admin_does_is_refused_to_others(running: Host) -> None:
    token = user(running, "dora", "deployer")
    done = call(running, token, "destroy", app="weather")
    assert done.text == "dora is a deployer, and may not do what an admin may: ask an admin of this host"
    token = user(running, "dana2", "deployer", "weather", "news")
    done = call(running, token, "link", app="weather", repository="https://example.com/a/b")
    assert done.text == "dana2 is bound to news, weather, and this may be about other apps, too"


def test_metrics_tell_of_every_app_and_are_for_users_who_are_bound_to_none(running: Host) -> None:
    async def call_many(token: str) -> None:
        async with Client(f"{running.ready['url']}/mine/mcp", token=token) as client:
            for number in range(60):  # names enough for more than asyncio reads as one line by itself
                with pytest.raises(RpcError):
                    await client.call_tool(f"missing{number}", {})

    asyncio.run(call_many(running.portway("token", "create", "mine", "counted").stdout.strip()))
    told = call(running, user(running, "vincent", "viewer"), "metrics").structured["text"]
    assert len(told) > 1 << 16
    for text in (told, running.portway("metrics").stdout):
        assert 'portway_gate_errors_total{app="mine",method="tools/call",name="missing59"} 1.0\n' in text
    refused = call(running, user(running, "valerie", "viewer", "mine"), "metrics").text
    assert refused == "valerie is bound to mine, and this may be about other apps, too"


def test_lists_show_what_the_user_may_see(running: Host) -> None:
    viewer, admin = user(running, "vera", "viewer", "mine"), user(running, "ada", "admin")
    seen = [{app["app"] for app in call(running, token, "list_apps").structured["apps"]} for token in (viewer, admin)]
    of_all = {app.app for app in ask_control(running.here, "list_apps", {}, AppList).apps}
    assert (seen[0], seen[1]) == ({"mine"}, of_all)
    assert {"mine", "other"} <= of_all
    assert [each["name"] for each in call(running, viewer, "list_users").structured["users"]] == ["vera"]
    assert {"ada", "vera"} <= {each["name"] for each in call(running, admin, "list_users").structured["users"]}
    unknown = call(running, user(running, "vito", "viewer", "absent"), "config", app="absent")
    assert unknown.text == "there is no app 'absent' on this host: see `portway ps`"


def test_no_spelling_of_a_name_leads_a_bound_user_to_another_app(running: Host) -> None:
    token = user(running, "bert", "deployer", "mine")
    spellings = [
        "Other",
        "OTHER",
        " other",
        "other ",
        "other\n",
        "mine/../other",
        "./other",
        "other\0",
        "\uff4fther",
        "%6fther",
    ]
    for app in ("other", *spellings):
        for tool, more in (("restart", {}), ("set_variables", {"variables": {"A": "b"}}), ("list_tokens", {})):
            done = call(running, token, tool, app=app, **more)
            assert done.is_error, (tool, app)
            assert "bert may not use the app " in done.text, done.text
    unnamed = call(running, token, "deploy", source="template:portway")
    assert unnamed.is_error
    assert "bert may not use the app " in unnamed.text, "the source names its app"
    assert running.status("other").release == 1
    listed = call(running, token, "set_variables", variables={}, app="", group="shared").text
    assert listed == "bert is a deployer, and may not do what an admin may: ask an admin of this host"

    async def twice(first: str, last: str) -> dict[str, Any]:
        async with HttpClient(running.ready["url"]) as client:
            body = json.dumps(
                {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "config", "_meta": META}}
            )
            body = body.replace('"_meta"', f'"arguments": {{"app": "{first}", "app": "{last}"}}, "_meta"')
            sent = [JSON, (b"authorization", b"Bearer " + token.encode()), (b"mcp-protocol-version", b"2026-07-28")]
            sent += [(b"mcp-method", b"tools/call"), (b"mcp-name", b"config")]
            response = await client.request("POST", PATH, sent, body.encode())
            answer: dict[str, Any] = json.loads(await response.read(100_000))["result"]
        return answer

    assert "may not use the app other" in asyncio.run(twice("mine", "other"))["content"][0]["text"]
    assert asyncio.run(twice("other", "mine"))["structuredContent"]["app"] == "mine"


def test_what_is_too_large_is_refused_in_few_words(running: Host) -> None:
    token = user(running, "hugo", "deployer", "mine")
    done = call(running, token, "restart", app="x" * 1_000_000)
    assert len(done.text) < 200
    assert refusal(running, (b"authorization", f"Bearer {token}".encode()), body=b" " * 5_000_000)[0] == 413
    many = call(running, token, "create_token", app="mine", name="many", scopes=["a"] * 51)
    assert many.is_error
    wrong = running.portway("token", "create", "mine", "wrong", "--scopes", 'a"b')
    assert (wrong.returncode, "'a\"b' is no scope: it has no spaces, quotes and" in wrong.stderr) == (1, True)
    assert refusal(running, (b"authorization", b"Bearer " + b"x" * 60_000))[0] in (401, 431)


def test_an_app_is_destroyed_by_the_plan_that_was_shown_and_once(running: Host) -> None:
    running.deploy(WEATHER, "doomed")
    ada, eve = user(running, "ada2", "admin"), user(running, "eve", "admin")
    plan = call(running, ada, "destroy", app="doomed").structured
    assert (plan["app"], plan["destroyed"]) == ("doomed", False)
    assert plan["deletes"][0] == f"release 1, which serves {running.ready['url']}/doomed/mcp"
    told = (
        "`confirm` is too old, of another user, or of another plan than the one of now: call again without it, and look"
    )
    forged = plan["confirm"][:-2] + ("AA" if plan["confirm"][-2:] != "AA" else "BB")
    for token, app, confirm in (
        (eve, "doomed", plan["confirm"]),
        (ada, "other", plan["confirm"]),
        (ada, "doomed", forged),
        (ada, "doomed", "yes"),
    ):
        assert call(running, token, "destroy", app=app, confirm=confirm).text.startswith(told)
    running.deploy(WEATHER, "doomed")
    assert call(running, ada, "destroy", app="doomed", confirm=plan["confirm"]).text.startswith(told)
    plan = call(running, ada, "destroy", app="doomed").structured

    async def at_once() -> list[CallResult]:
        async with Client(running.ready["url"] + PATH, token=ada, timeout=120) as client:
            confirmed = {"app": "doomed", "confirm": plan["confirm"]}
            return await asyncio.gather(*(client.call_tool("destroy", confirmed) for _ in range(4)))

    done = asyncio.run(at_once())
    assert [each.structured["destroyed"] for each in done if not each.is_error] == [True]
    assert {each.text for each in done if each.is_error} <= {
        "doomed is being deployed or changed: wait for that to end",
        "there is no app 'doomed' on this host: see `portway ps`",
    }
    assert "doomed" not in [app["app"] for app in call(running, ada, "list_apps").structured["apps"]]


def test_from_afar_nothing_tells_where_the_host_keeps_its_files(running: Host, tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "server.py").write_text("import time\nprint(__file__)\ntime.sleep(0.5)\n")
    running.portway("deploy", tmp_path / "broken", "--name", "broken", "--start", "python server.py", "--build", "pwd")
    token = user(running, "finn", "admin")
    told = [call(running, token, "list_releases", app=app) for app in ("mine", "broken")]
    assert [each.structured["releases"][0]["source"] for each in told] == ["weather", "broken"]
    told += [call(running, token, "list_apps"), call(running, token, "config", app="mine")]
    told += [call(running, token, "deploy", source="template:nowhere"), call(running, token, "logs", app="broken")]
    data = running.ready["data"]
    assert [each.text for each in told if data in each.text or str(tmp_path) in each.text] == []
    local = ask_control(running.here, "logs", {"app": "broken"}, LogPage).entries
    assert any(data in (entry.text or "") for entry in local), "the operator is told"


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
    operator = ask_control(running.here, "whoami", {}, Identity)
    assert (operator.name, operator.role, operator.local) == (local_user(), "admin", True)


def test_a_folder_of_the_host_is_deployed_by_its_operator_only(running: Host) -> None:
    token = user(running, "anna", "admin")
    for source in ("/etc", "etc", str(running.paths.data)):
        done = call(running, token, "deploy", source=source, name="stolen")
        assert done.is_error
        assert done.text.startswith("only who is logged in to the host deploys one of its folders: give template:NAME")
