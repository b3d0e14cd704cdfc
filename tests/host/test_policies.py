"""Policies of a blueprint, from the file to the answers of real servers: Portway's, FastMCP's and Express's."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from portway.client import Client, Elicitation
from portway.host.app_config import AppConfig, Start
from portway.host.app_policies import PolicySource
from portway.host.releases.release import Release
from portway.host.store import FinishedRelease, Store
from portway.policy.rules import PolicyRule, ToolHints
from portway.protocol.errors import RpcError
from tests.host.running_host import Host, host
from tests.support import eventually

SERVER = """
from portway import Server

server = Server("orders")

@server.tool(annotations={"readOnlyHint": True})
def find() -> str:
    return "found"

@server.tool
def delete(number: int = 0) -> str:
    return "deleted"

@server.tool(scopes=["coded"], annotations={"readOnlyHint": True})
def coded() -> str:
    return "done"

@server.resource("orders://{number}")
def order(number: str) -> str:
    return number

@server.prompt
def plan() -> str:
    return "Plan."
"""
POLICIES = """
services:
  - type: web
    name: orders
    runtime: python
    x-portway:
      policies:
        - {destructiveHint: true, scopes: [admin]}
        - {resource: "orders://{number}", scopes: [read]}
        - {prompt: "*", scopes: [prompts]}
        - {tool: delet, scopes: [gone]}
        - {resource: "order://*", scopes: [gone]}
        - {resource: "orders://7", scopes: [read]}
        - {tool: delete, arguments: {number: {maximum: 5}}}
        - {tool: "*", arguments: {numbers: {maximum: 5}}}
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with host(tmp_path_factory.mktemp("policies") / "data") as started:
        yield started


RENAMING = """
import os
from portway import Server

server = Server("removals")

if "RENAMED" in os.environ:
    @server.tool
    def remove(identity: int) -> str:
        return "removed"
else:
    @server.tool
    def remove(number: int) -> str:
        return "removed"
"""


def token(running: Host, app: str, *scopes: str) -> str:
    name = "-".join(("with", *scopes))
    return running.portway("token", "create", app, name, "--scopes", ",".join(scopes)).stdout.strip()


@pytest.mark.slow
def test_a_deploy_is_refused_whose_policies_name_arguments_that_their_tool_lacks_and_a_change_of_variables_warns(
    running: Host, tmp_path: Path
) -> None:
    def blueprint(policy: str) -> None:
        text = f"services: [{{type: web, name: removals, runtime: python, x-portway: {{policies: [{policy}]}}}}]"
        (tmp_path / "render.yaml").write_text(text)

    def names(argument: str, mend: str) -> str:
        what = f"the policy for the tool 'remove' names the argument {argument!r}, which"
        return f"{what} this release does not list{mend}\n"

    (tmp_path / "server.py").write_text(RENAMING)
    blueprint('{tool: remove, confirm: "Remove {nummer}?", arguments: {path: {under: /data}}}')
    refused = running.portway("deploy", tmp_path)
    assert refused.returncode == 1
    assert f"Error: {names('path', ': correct or remove it')}" in refused.stderr
    assert names("nummer", "; did you mean 'number'?") in refused.stderr
    blueprint('{tool: remove, confirm: "Remove {number}?"}')
    done = running.portway("deploy", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "-----> warning  the policy" not in done.stderr
    changed = running.portway("env", "set", "removals", "RENAMED=1")
    assert changed.returncode == 0, "what was right at its deploy does not stand in the way of a variable"
    assert f"-----> warning  {names('number', ': correct or remove it')}" in changed.stderr


@pytest.mark.slow
def test_each_caller_sees_and_uses_what_its_scopes_open(running: Host, tmp_path: Path) -> None:
    (tmp_path / "server.py").write_text(SERVER)
    (tmp_path / "render.yaml").write_text(POLICIES)
    done = running.portway("deploy", tmp_path)
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stderr.splitlines() if " policy for " in line] == [
        f"-----> warning  the policy for {what}"
        for what in (
            "the tool 'delet' is for nothing that this release lists; did you mean 'delete'?",
            "the resource 'order://*' is for nothing that this release lists",
            "the tool '*' names the argument 'numbers', which this release does not list; did you mean 'number'?",
        )
    ]
    refused = running.portway("deploy", tmp_path, "--access", "app")
    assert (
        "orders has policies that ask for scopes, and with access app it alone knows its callers: remove these, or "
        "choose another access"
    ) in refused.stderr
    told = running.portway("config", "orders").stdout
    assert "- destructiveHint: true\n" in told, "as the blueprint has it"
    url = f"{running.ready['url']}/orders/mcp"

    async def sees(secret: str, era: str) -> dict[str, object]:
        async with Client(url, token=secret, era=era) as client:
            found: dict[str, object] = {"tools": [tool.name for tool in await client.list_tools()]}
            for name, call in {
                "find": client.call_tool("find"),
                "delete": client.call_tool("delete"),
                "coded": client.call_tool("coded"),
                "read": client.read_resource("orders://7"),
                "plan": client.get_prompt("plan"),
            }.items():
                try:
                    await call
                    found[name] = True
                except RpcError as error:
                    found[name] = str(error)
            return found

    def lacks(scope: str) -> str:
        return f"The token lacks a scope this needs: {scope}."

    for era in ("modern", "legacy"):
        least = asyncio.run(sees(token(running, "orders", era), era))
        assert least == {
            "tools": ["find"],
            "find": True,
            "delete": lacks("admin"),
            "coded": lacks("coded"),
            "read": lacks("read"),
            "plan": lacks("prompts"),
        }
        most = asyncio.run(sees(token(running, "orders", era, "admin", "read", "prompts", "coded"), era))
        assert most.pop("tools") == ["find", "delete", "coded"]
        assert set(most.values()) == {True}


@pytest.mark.slow
def test_a_tool_is_switched_off_without_a_deploy_and_stays_off_in_later_releases(running: Host, tmp_path: Path) -> None:
    (tmp_path / "server.py").write_text(SERVER)
    running.deploy(tmp_path, "switched")
    secret = token(running, "switched")

    def tools() -> list[str]:
        async def listed() -> list[str]:
            async with Client(f"{running.ready['url']}/switched/mcp", token=secret) as client:
                return [tool.name for tool in await client.list_tools()]

        return asyncio.run(listed())

    done = running.portway("tool", "disable", "switched", "delete")
    assert (done.returncode, done.stderr) == (0, "delete of switched is switched off\n")
    assert tools() == ["find"], "at once"
    with pytest.raises(RpcError, match=r"^Unknown tool: delete\. It is switched off on this host\.$"):
        running.call("switched", "delete", secret)
    called = running.portway("call", f"{running.ready['url']}/switched/mcp", "delete", "number=7", "--token", secret)
    assert called.stderr == "Error: Unknown tool: delete. It is switched off on this host.\n"
    running.deploy(tmp_path, "switched", num_instances=2)
    assert tools() == ["find"], "after a deploy"
    assert running.portway("rollback", "switched").returncode == 0
    gate = running.kill("gate")
    eventually(lambda: running.process("gate") != gate)
    assert tools() == ["find"], "after a rollback, and at another gate"
    lines = running.portway("tool", "list", "switched").stdout.splitlines()
    assert [line.split()[:3] for line in lines] == [
        ["TOOL", "NEEDS", "STATE"],
        ["coded", "-", "on"],
        ["delete", "-", "off"],
        ["find", "-", "on"],
    ]
    assert running.portway("tool", "enable", "switched", "delete").returncode == 0
    assert tools() == ["find", "delete"]

    again = running.portway("tool", "enable", "switched", "delete")
    assert "the tool 'delete' of switched is not switched off: see `portway tool list switched`" in again.stderr
    near = running.portway("tool", "disable", "switched", "delet")
    assert (near.returncode, near.stderr) == (1, "Error: switched lists no tool 'delet' now; did you mean 'delete'?\n")
    far = running.portway("tool", "disable", "switched", "x")
    assert far.stderr == "Error: switched lists no tool 'x' now: see `portway tool list switched`\n"
    assert running.portway("tool", "disable", "switched", "delete").returncode == 0
    (tmp_path / "server.py").write_text(SERVER.replace("def delete", "def remove"))
    running.deploy(tmp_path, "switched")
    for verb in ("disable", "enable"):
        gone = running.portway("tool", verb, "switched", "delete")
        assert (gone.returncode, "note: switched lists no tool 'delete' now" in gone.stderr) == (0, True), "it was off"
    assert any("switched: the tool delete is switched off by" in line for line in running.child.lines)


def test_an_app_that_was_destroyed_and_made_anew_has_the_tools_of_its_own_contract(tmp_path: Path) -> None:
    with contextlib.closing(Store(tmp_path / "portway.db")) as store:
        source, config = PolicySource(store), AppConfig(policies=[PolicyRule(destructive=True, scopes=["admin"])])
        for hints in (ToolHints(read_only=True, destructive=False), ToolHints()):
            number = store.begin_release("a", "source")
            assert number == 1
            annotations = {"readOnlyHint": hints.read_only, "destructiveHint": hints.destructive}
            contract = json.dumps({"modern": {"tools": [{"name": "t", "annotations": annotations}]}})
            store.finish_releases([FinishedRelease("a", number, config, Start([], ""), contract)])
            release = Release("a", number, tmp_path, config)
            assert source.of(release, ()).tools == source.tools(release) == {"t": hints}
            store.destroy("a")


OF_TEMPLATES = """
    x-portway:
      policies:
        - {tool: get_*, scopes: [weather]}
        - {readOnlyHint: true, scopes: [read]}
        - {resource: "weather://forecast/{city}", scopes: [read]}
        - {prompt: packing_list, scopes: [plan]}
"""


@pytest.mark.clients
@pytest.mark.parametrize("template", ["fastmcp", "node"])
def test_policies_are_kept_for_servers_of_other_frameworks(running: Host, tmp_path: Path, template: str) -> None:
    folder = tmp_path / f"my-{template}"
    assert running.portway("init", folder, "--template", template).returncode == 0
    with (folder / "render.yaml").open("a") as blueprint:
        blueprint.write(OF_TEMPLATES)
    done = running.portway("deploy", folder, timeout=250)
    assert done.returncode == 0, done.stderr
    assert "is for nothing" not in done.stderr
    url = f"{running.ready['url']}/{folder.name}/mcp"

    async def answers(secret: str) -> list[object]:
        found: list[object] = []
        async with Client(url, token=secret) as client:
            found += [await client.list_tools(), await client.list_resource_templates(), await client.list_prompts()]
            for used in (
                client.call_tool("get_weather", {"city": "Oslo"}),
                client.read_resource("weather://forecast/Oslo"),
                client.get_prompt("packing_list", {"city": "Oslo"}),
            ):
                try:
                    found.append(bool(await used))
                except RpcError as error:
                    found.append(error.data)
        return [len(each) if isinstance(each, list) else each for each in found]

    needs = [{"requiredScopes": scopes} for scopes in (["read", "weather"], ["read"], ["plan"])]
    assert asyncio.run(answers(token(running, folder.name))) == [0, 0, 0, *needs]
    assert asyncio.run(answers(token(running, folder.name, "read"))) == [0, 1, 0, needs[0], True, needs[2]]
    assert asyncio.run(answers(token(running, folder.name, "read", "weather", "plan"))) == [1, 1, 1, *(True,) * 3]


LIMITED = """
services:
  - type: web
    name: limited
    runtime: python
    x-portway:
      policies:
        - {tool: find, rate: 2/hour}
        - {tool: order_*, arguments: {number: {maximum: 9}, note: {pattern: "[a-z ]*"}}}
        - {destructiveHint: true, confirm: "Really {number}?"}
"""
ORDERS = """
from portway import Server

server = Server("limited")

@server.tool(annotations={"destructiveHint": False})
def find() -> str:
    return "found"

@server.tool(annotations={"destructiveHint": False})
def order_more(number: int, note: str = "") -> str:
    return f"{number} more"

@server.tool
def cancel(number: int) -> str:
    return f"{number} cancelled"
"""


@pytest.mark.slow
def test_limits_of_a_blueprint_are_kept_at_the_gate_and_refusals_are_in_the_log(running: Host, tmp_path: Path) -> None:
    (tmp_path / "server.py").write_text(ORDERS)
    (tmp_path / "render.yaml").write_text(LIMITED)
    running.deploy(tmp_path, "limited")
    secret, shown = token(running, "limited"), list[str]()

    def agree(question: Elicitation) -> dict[str, object]:
        shown.append(question.message)
        return {}

    async def use(era: str) -> list[str]:
        url = f"{running.ready['url']}/limited/mcp"
        async with Client(url, token=secret, era=era, on_elicit=agree) as client:
            said: list[str] = []
            for name, arguments in (
                ("find", {}),
                ("order_more", {"number": 5}),
                ("order_more", {"number": 10, "note": "!"}),
                ("cancel", {"number": 7}),
            ):
                try:
                    said.append((await client.call_tool(name, arguments)).text)
                except RpcError as error:
                    said.append(str(error))
            return said

    refused = (
        "order_more may not be called with these arguments: number: it must be a number, at most 9; note: it must be a "
        "text that matches [a-z ]* as a whole"
    )
    for era in ("modern", "legacy"):
        assert asyncio.run(use(era)) == ["found", "5 more", refused, "7 cancelled"]
    assert asyncio.run(use("modern"))[0].startswith("find takes at most 2 calls per hour of a caller; call again in ")
    assert shown == ['Really 7?\n\nTool: cancel\nArguments: {"number": 7}'] * 3
    lines = running.portway("logs", "limited", "--failed", "--kind", "call").stdout
    assert lines.count("tools/call order_more refused 200") == 3
    assert lines.count("tools/call find refused 429") == 1
