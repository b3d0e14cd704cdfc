"""What authors write who come from other frameworks, and mistakes that must not pass in silence."""

from __future__ import annotations

import asyncio
import copy
import json
import sys
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import mcp_types
import pytest
from mcp import Client

from portway import Context, RegistrationError, Server, testing
from portway.auth.principal import Principal
from tests.conftest import RunCli
from tests.server.official_client import officially
from tests.server.test_composition import call, in_client
from tests.transport.stdio_client import ENVELOPE, Pipes


async def doubled(n: int) -> int:
    await asyncio.sleep(0)
    return 2 * n


def test_an_awaitable_that_a_def_returns_is_awaited() -> None:
    server = Server("s")

    @server.tool("typed")
    def typed(n: int) -> Awaitable[int]:
        return doubled(n)

    @server.tool
    def plain(n: int, ctx: Context) -> int:
        return doubled(n)  # type: ignore[return-value]

    server.tool(lambda: doubled(4), name="lambda")
    server.resource("n://{n}")(lambda n: doubled(int(n)))

    async def complete(value: str) -> list[str]:
        return [f"{value}!"]

    @server.prompt
    def ask(name: str) -> Any:
        return complete(name)

    server.completion("ask", "name")(complete)

    async def talk(client: Client) -> None:
        assert (await client.call_tool("typed", {"n": 2})).structured_content == {"result": 4}
        assert (await client.call_tool("plain", {"n": 3})).structured_content == {"result": 6}
        assert (await client.call_tool("lambda", {})).content[0].text == "8"
        assert (await client.read_resource("n://5")).contents[0].text == "10"
        assert (await client.get_prompt("ask", {"name": "a"})).messages[0].content.text == "a!"
        reference = mcp_types.PromptReference(name="ask")
        found = await client.complete(reference, {"name": "name", "value": "b"})
        assert found.completion.values == ["b!"]

    officially(server, talk)


def test_an_awaitable_of_a_def_is_cancelled_by_the_time_limit() -> None:
    server = Server("s")

    @server.tool(timeout=0.01)
    def never() -> Any:
        return asyncio.Event().wait()

    assert call(server, "never").text == "never did not finish within 0.01 seconds."


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_printing_what_the_locale_cannot_show_fails_no_call(tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "server.py"
    file.write_text(
        "from portway import Server\nserver = Server('s')\n@server.tool\ndef show() -> str:\n"
        "    print('\\u2713 \\ud800')\n    return 'shown'\nserver.run(transport='stdio')\n"
    )
    env = {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    with Pipes(sys.executable, str(file), env=env) as pipes:
        params = {"name": "show", "arguments": {}, "_meta": ENVELOPE}
        pipes.send({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
        assert pipes.receive()["result"]["structuredContent"] == {"result": "shown"}


@pytest.mark.parametrize("taken", ["tool", "prompt", "resource", "template", "name"])
def test_a_refused_mount_leaves_nothing_behind(taken: str) -> None:
    def offering(server: Server, kind: str = "") -> Server:
        def value(name: str = "") -> str:
            return name

        if kind in {"", "tool"}:
            server.tool(value, name="one" if kind == "tool" else "zero")
            server.tool(value, name="one" if kind == "" else "two")
        if kind in {"", "prompt"}:
            server.prompt(value, name="one")
        if kind in {"", "resource"}:
            server.resource("a://b")(lambda: "x")
        if kind in {"", "template"}:
            server.resource("a://{name}")(value)
        return server

    server, other = Server("outer"), offering(Server("inner"))
    if taken == "name":
        prefix = "p" * 125
    else:
        prefix = None
        offering(server, taken)
    tables = (server.tools, server.prompts, server.resources, server.templates)
    before = [dict(table.items) for table in tables]
    with pytest.raises(RegistrationError):
        server.mount(other, prefix=prefix)
    assert [table.items for table in tables] == before


@pytest.mark.parametrize("annotation", [str, str | None, Path])
def test_a_starred_variable_whose_parameter_is_text_matches_several_segments(annotation: Any) -> None:
    server = Server("s")

    def read(path: Any) -> str:
        return f"<{path}>"

    read.__annotations__["path"] = annotation
    server.resource("files://{path*}")(read)

    async def talk(client: Client) -> list[str]:
        listed = (await client.list_resource_templates()).resource_templates
        assert [template.uri_template for template in listed] == ["files://{path*}"]
        uris = ("files://a", "files://a/b/c.txt", "files://a%2Fb", "files://caf%C3%A9/x")
        return [(await client.read_resource(uri)).contents[0].text for uri in uris]

    assert officially(server, talk) == ["<a>", "<a/b/c.txt>", "<a/b>", "<café/x>"]


def test_a_starred_variable_whose_parameter_is_a_list_is_a_list() -> None:
    server = Server("s")

    @server.resource("files://{path*}")
    def read(path: list[str]) -> str:
        return json.dumps(path)

    async def talk(client: testing.Client) -> Any:
        return (await client.read_resource("files://a,b"))[0].text

    assert in_client(server, talk) == '["a", "b"]'


def test_annotations_and_icons_of_the_sdk_are_taken() -> None:
    server = Server("s", icons=[mcp_types.Icon(src="https://a.example/s.png")])
    assert b'"icons":[{"src":"https://a.example/s.png"}]' in server.info
    icons = [mcp_types.Icon(src="https://a.example/i.png", mime_type="image/png")]

    @server.tool("remove", annotations=mcp_types.ToolAnnotations(destructive_hint=True), icons=icons)
    def remove_it() -> None: ...

    @server.prompt("greet", icons=icons)
    def greet_them() -> str:
        return "Hello"

    @server.resource("a://b", annotations=mcp_types.Annotations(audience=["user"]))
    def b() -> str:
        return "b"

    async def talk(client: Client) -> None:
        (tool,), (prompt,) = (await client.list_tools()).tools, (await client.list_prompts()).prompts
        assert tool.annotations.model_dump(exclude_none=True) == {"destructive_hint": True}
        assert (tool.name, prompt.name, tool.icons[0].mime_type) == ("remove", "greet", "image/png")
        assert prompt.icons == tool.icons
        assert (await client.list_resources()).resources[0].annotations.audience == ["user"]

    officially(server, talk)


@pytest.mark.parametrize(
    ("kind", "given", "said"),
    [
        ("tool", {"readonlyHint": True}, "annotations.readonlyHint: unknown, did you mean readOnlyHint?"),
        ("tool", {"read_only_hint": True}, "annotations.read_only_hint: unknown, did you mean readOnlyHint?"),
        ("tool", {"colour": "red"}, "annotations.colour: unknown"),
        ("resource", {"lastmodified": "2026-01-01"}, "did you mean lastModified?"),
    ],
)
def test_a_misspelt_annotation_is_refused_with_the_nearest_name(kind: str, given: Any, said: str) -> None:
    server = Server("s")
    with pytest.raises(RegistrationError) as refused:
        (server.tool("f", annotations=given) if kind == "tool" else server.resource("a://b", annotations=given))(
            lambda: ""
        )
    assert said in str(refused.value)


def test_a_name_given_twice_is_refused() -> None:
    with pytest.raises(RegistrationError, match="has two names, 'a' and 'b'; give one"):
        Server("s").prompt("a", name="b")(lambda: "")


CHANGES = [
    lambda data: data.__setitem__("a", 2),
    lambda data: data["b"].append(1),
    lambda data: data["b"][0].update(c=1),
    lambda data: data.pop("a"),
    lambda data: data.__ior__({"a": 2}),
    lambda data: data["b"].__iadd__([1]),
    lambda data: data.setdefault("z", 1),
    lambda data: data["b"].sort(),
    lambda data: data.__delitem__("a"),
]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("member", ["arguments", "meta"])
def test_a_change_of_what_the_client_sent_raises(change: Any, member: str) -> None:
    server = Server("s")
    seen: list[Any] = []

    @server.middleware
    async def changing(ctx: Context, call_next: Any) -> object:
        data = ctx.arguments if member == "arguments" else ctx.meta.get("example.com/data", ctx.meta)
        if "a" not in data:
            data = ctx.arguments
        with pytest.raises(TypeError, match=r"What the client sent cannot be changed; change a copy"):
            change(data)
        copied = copy.deepcopy(data)
        copied["b"][0]["c"] = 2
        seen.append((json.loads(json.dumps(data)), {**data, "a": 3}["a"]))
        return await call_next()

    @server.tool
    def f(a: int, b: list[dict[str, int]]) -> int:
        return a

    assert call(server, "f", {"a": 1, "b": [{"c": 0}]}).structured == {"result": 1}
    assert seen == [({"a": 1, "b": [{"c": 0}]}, 3)]


def test_a_caller_is_hashable_and_its_claims_are_frozen() -> None:
    claims = {"groups": ["a"]}
    caller = Principal("issuer", "ada", claims=claims)
    server = Server("s")

    @server.tool
    def count(ctx: Context) -> int:
        return len({ctx.caller, caller, Principal("issuer", "ada", claims={"groups": ["a"]})})

    assert call(server, "count", principal=caller).structured == {"result": 1}
    claims["groups"] = []
    assert caller.claims == {"groups": ["a"]}
    with pytest.raises(TypeError):
        caller.claims["groups"] = []  # type: ignore[index]


def test_inspect_shows_tuples_and_schemas_that_are_true_or_false(run_cli: RunCli, tmp_path: Path) -> None:
    (tmp_path / "server.py").write_text(
        "from portway import Server\nserver = Server('s')\n@server.tool\n"
        "def f(at: tuple[int, str], path: tuple[int, ...] = ()) -> tuple[int, str]: ...\n"
        "@server.tool(input_schema={'type': 'object', 'properties': {'any': True, 'rest': {'type': 'array', "
        "'prefixItems': [{'type': 'string'}, True], 'items': {'type': 'integer'}}}})\ndef g(any=0, rest=1): ...\n"
    )
    done = run_cli("inspect", "server.py")
    assert done.returncode == 0, done.stderr
    assert "f(at: [integer, string], path: array of integer = []) -> [integer, string]" in done.stdout
    assert "g(any: any?, rest: [string, any, integer…]?)" in done.stdout
