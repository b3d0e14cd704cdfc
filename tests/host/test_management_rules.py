"""Every tool of the management API: its rule by the table of docs/operate.md, and what clients are told of it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from portway.cli.control_client import ask_control
from portway.cli.main import VERBS
from portway.client import Client
from portway.host.management.management_types import NewUser
from tests.host.running_host import Host, host
from tests.support import ROOT

if TYPE_CHECKING:
    from portway.client import Tool

pytestmark = pytest.mark.slow

ROLES = ("viewer", "deployer", "admin")
REFUSALS = (" and may not ", " may not use the app ", " and this may be about other apps, too")
MINE, OTHER = "mine", "other"  # neither is deployed, so what is allowed finds nothing to change

TOOLS_OF = {
    "deploy": {"deploy"},
    "link": {"link"},
    "unlink": {"unlink"},
    "ps": {"list_apps"},
    "releases": {"list_releases"},
    "rollback": {"rollback"},
    "restart": {"restart"},
    "config": {"config"},
    "logs": {"logs"},
    "metrics": {"metrics"},
    "token": {"create_token", "rotate_token", "list_tokens", "revoke_token"},
    "user": {"add_user", "rotate_user", "list_users", "revoke_user", "map_group", "unmap_group", "whoami"},
    "env": {"set_variables", "unset_variables", "import_variables", "list_variables", "rekey"},
    "tool": {"list_app_tools", "disable_tool", "enable_tool"},
    "domain": {"add_domain", "list_domains", "remove_domain"},
    "destroy": {"destroy"},
    "backup": {"backup"},
}
"""The tools by which each verb that is about a running host does its work."""
ELSEWHERE = {"init", "run", "inspect", "call", "check", "login", "logout", "hosts"} | {
    "up",
    "restore",
    "upgrade",
}
"""Verbs about one's own files, those that make a host or start it anew, and one that runs what its caller names."""


@dataclass(frozen=True)
class User:
    """A user of the test. `apps` are those it is bound to."""

    name: str
    role: str
    token: str
    apps: tuple[str, ...] = ()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with host(tmp_path_factory.mktemp("rules") / "data") as running:
        yield running


@pytest.fixture(scope="module")
def users(running: Host) -> list[User]:
    def added(name: str, role: str, *apps: str) -> User:
        arguments = {"name": name, "role": role, "apps": list(apps)}
        return User(name, role, ask_control(running.here, "add_user", arguments, NewUser).token, apps)

    bound = [added(f"bound-{role}", role, MINE) for role in ROLES[:-1]]
    return [*bound, *(added(role, role) for role in ROLES)]


@pytest.fixture(scope="module")
def tools(running: Host, users: list[User]) -> list[Tool]:
    async def listed() -> list[Tool]:
        async with Client(running.ready["url"] + "/_portway/mcp", token=users[-1].token) as client:
            return await client.list_tools()

    return asyncio.run(listed())


def documented() -> dict[tuple[str, bool], dict[str, str]]:
    """Return the table of the docs: what each role may do by a tool, and by it to a group of variables."""
    found = {}
    for row in re.findall(r"^\| (`.*) \|$", (ROOT / "docs" / "operate.md").read_text(), re.MULTILINE):
        subject, *cells = (cell.strip() for cell in row.split(" | "))
        if len(cells) == len(ROLES):
            for tool in re.findall(r"`(\w+)`", subject):
                found[tool, subject.endswith("of a group")] = dict(zip(ROLES, cells, strict=True))
    return found


def allowed(cell: str, user: User, app: str) -> bool:
    """Return what a cell of the table says of a user and an app, "" for a call that names none."""
    match cell:
        case "–":
            return False
        case "if bound to no app":
            return not user.apps
        case "its apps" | "all" | "itself":
            return not app or not user.apps or app in user.apps
    raise AssertionError(cell)


def arguments(tool: Tool, app: str, group: str) -> dict[str, object]:
    """Return arguments of the types that a tool asks for, which name the app or the group and nothing that exists."""
    schema = tool.input_schema
    empty: dict[str, object] = {"object": {}, "array": [], "boolean": False}
    given = {
        name: fields["enum"][0] if "enum" in fields else empty.get(fields.get("type"), "no:where")
        for name, fields in schema["properties"].items()
        if name in schema.get("required", [])
    }
    if app:
        given["name" if tool.name == "deploy" else "app"] = app
    return given | ({"group": group} if group else {})


def test_each_role_may_call_each_tool_on_each_app_as_the_docs_say(
    running: Host, users: list[User], tools: list[Tool]
) -> None:
    table = documented()
    assert {tool for tool, _ in table} == {tool.name for tool in tools}
    wrong = []

    async def judge(user: User, client: Client, tool: Tool, app: str, group: str) -> None:
        done = await client.call_tool(tool.name, arguments(tool, app, group))
        refused = done.is_error and any(text in done.text for text in REFUSALS)
        cell = table[tool.name, bool(group)][user.role]
        if refused is allowed(cell, user, app):
            wrong.append(f"{user.name}: {tool.name} {app or group}: {done.text}")

    async def test(user: User) -> None:
        async with Client(running.ready["url"] + "/_portway/mcp", token=user.token, timeout=120) as client:
            for tool in tools:
                properties = tool.input_schema["properties"]
                if "app" not in properties or tool.name == "deploy":
                    await judge(user, client, tool, "", "")
                if "app" in properties or tool.name == "deploy":
                    for app in (MINE, OTHER):
                        await judge(user, client, tool, app, "")
                if "group" in properties:
                    await judge(user, client, tool, "", "shared")

    for user in users:
        asyncio.run(test(user))
    assert not wrong


def test_every_verb_about_a_running_host_has_its_tools(tools: list[Tool]) -> None:
    assert {*VERBS} - ELSEWHERE == {*TOOLS_OF}
    assert {name for names in TOOLS_OF.values() for name in names} == {tool.name for tool in tools}


def test_every_tool_and_argument_says_what_it_is_for_and_what_it_does_to_the_host(tools: list[Tool]) -> None:
    hints = {tool.name: tool.annotations for tool in tools}
    readers = {tool for tool, _ in documented() if tool.startswith("list_")} | {"whoami", "config", "logs", "metrics"}
    assert {name for name, each in hints.items() if each["readOnlyHint"]} == readers
    lasting = {"destroy", "unlink", "revoke_user", "rotate_user", "unmap_group", "revoke_token", "rotate_token"}
    lasting |= {"deploy", "link", "set_variables", "unset_variables", "import_variables", "remove_domain"}
    lasting |= {"disable_tool"}
    assert {name for name, each in hints.items() if each.get("destructiveHint")} == lasting
    assert {name for name, each in hints.items() if each["openWorldHint"]} == {
        "deploy",
        "link",
        "add_domain",
        "list_domains",
    }
    for tool in tools:
        assert tool.description, tool.name
        described: dict[str, Any] = tool.input_schema["properties"]
        bare = [name for name, fields in described.items() if not fields.get("description")]
        assert [name for name in bare if f"`{name}`" not in tool.description] == [], tool.name
