"""Registration: what clients could not read is refused with a text that says the fix."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest

from portway import (
    Annotations,
    Context,
    EmbeddedResource,
    Icon,
    Message,
    RegistrationError,
    ResourceContents,
    ResourceLink,
    Server,
    ToolResult,
    testing,
)
from portway.protocol.capabilities import Capability
from portway.protocol.errors import INTERNAL_ERROR, RpcError
from portway.server.context import Client
from portway.server.options import INSTEAD, refuse_unknown
from tests.server import typed_server
from tests.support import ROOT

NAN, HALF = float("nan"), "\ud800"


class Owner:
    @classmethod
    def made(cls, x: int) -> int:
        return x

    def method(self, x: int) -> int:
        return x


def f() -> Any:
    return ""


REFUSED: list[tuple[Any, str]] = [
    (lambda s: s.tool("a", name="b"), "@server.tool has two names, 'a' and 'b'; give one."),
    (lambda s: s.prompt("a", name="b"), "@server.prompt has two names, 'a' and 'b'; give one."),
    (lambda s: s.tool(name="")(f), "'' cannot name a tool: use 1 to 128 letters, digits, '_', '-' or '.'"),
    (lambda s: s.tool(name=5)(f), "5 cannot name a tool"),
    (lambda s: s.tool(Owner.__dict__["made"]), "made is a method without its object; register obj.made of an instance"),
    (lambda s: s.tool(timeout=0)(f), "timeout is a number of seconds above 0, not 0."),
    (lambda s: s.prompt(timeout=NAN)(f), "timeout is a number of seconds above 0, not nan."),
    (lambda s: s.resource("a://b", timeout="5")(f), "timeout is a number of seconds above 0, not '5'."),
    (
        lambda s: s.tool(description=5)(f),
        "The metadata of 'f' is wrong: Expected str | null, got int - at $.description.",
    ),
    (lambda s: s.tool(icons=Icon("https://x"))(f), "The metadata of 'f' is wrong: Expected array | null, got object"),
    (lambda s: s.tool(icons=[{"src": "javascript:x"}])(f), "The icon 'javascript:x' must have an https: or data: URI."),
    (
        lambda s: s.tool(annotations={"readOnlyHint": "no"})(f),
        "Expected bool, got str - at $.annotations.readOnlyHint.",
    ),
    (lambda s: s.resource("a://b", size=-1)(f), "The metadata of 'f' is wrong: Expected int >= 0 - at $.size."),
    (lambda s: s.tool(meta={"a": NAN})(f), "what describes 'f' holds NaN or an infinity, which JSON cannot express"),
    (lambda s: s.prompt(title=HALF)(f), "what describes 'f' holds what JSON cannot express: "),
    (lambda s: s.resource("a://{b, c}")(f), "The template 'a://{b, c}' has the expression {b, c}; use {name}"),
    (lambda s: s.resource(5), '@server.resource needs its URI: @server.resource("config://settings").'),
    (lambda s: s.tool(scopes=["a b"])(f), "f: 'a b' is no scope: it has no spaces, quotes and backslashes"),
    (lambda s: s.resource("a://b", scopes=['"'])(f), "f: '\"' is no scope: it has no spaces, quotes and backslashes"),
    (lambda s: s.mount(Server("b"), prefix="a b"), "'a b' cannot be a prefix: use letters, digits, '_', '-' or '.'."),
    (lambda s: s.mount(s, prefix="again"), "shop cannot be mounted in itself."),
    (lambda _: Server(5), "The metadata of 5 is wrong: Expected str, got int - at $.name."),  # type: ignore[arg-type]
    (lambda _: Server("b", icons=Icon("https://x")), "Expected array | null, got object - at $.icons."),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("register", "text"), REFUSED, ids=[text[:60] for _, text in REFUSED])
def test_what_clients_could_not_read_is_refused_at_registration(register: Any, text: str) -> None:
    server = Server("shop")
    with pytest.raises(RegistrationError) as refused:
        register(server)
    assert text in str(refused.value)
    tables = (server.tools, server.prompts, server.resources, server.templates)
    assert not any(table.items for table in tables)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"on_duplicate": "no"}, "on_duplicate is one of 'error', 'warn', 'replace', 'ignore', not 'no'."),
        ({"sessions": "yes"}, "sessions is one of 'auto', True, False, not 'yes'."),
        ({"page_size": "5"}, "page_size must be at least 1, not '5'."),
        ({"cache_ttl": NAN}, 'cache_ttl is a number of seconds from 0, cache_scope is "public" or "private".'),
        ({"cache_ttl": float("inf")}, "cache_ttl is a number of seconds from 0"),
        ({"cache_scope": "world"}, "cache_ttl is a number of seconds from 0"),
    ],
)
def test_a_server_refuses_settings_that_mean_nothing(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text.replace("(", r"\(")):
        Server("shop", **options)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda s: s.mount(Server("b"), namespace="b"), "server.mount() has no namespace=: use prefix=."),
        (lambda s: s.run(show_banner=False), "server.run() has no show_banner=: there is none."),
        (lambda s: s.run(colour=1), "server.run() has no colour=; it takes: host, port, transport, workers."),
        (lambda s: s.resource("a://b", security=None), "@server.resource has no security=: it is always on."),
    ],
)
def test_methods_refuse_the_keywords_of_other_frameworks(call: Any, text: str) -> None:
    with pytest.raises(TypeError) as refused:
        call(Server("shop"))
    assert str(refused.value) == text


def test_a_server_holding_another_cannot_be_mounted_in_it() -> None:
    inner, outer = Server("inner"), Server("outer")
    outer.mount(inner, prefix="one")
    outer.mount(inner, prefix="two")
    with pytest.raises(RegistrationError, match="inner cannot be mounted in itself"):
        inner.mount(outer)
    heard: list[object] = []
    outer.changes.listen(heard.append)
    inner.resource_updated("a://b")
    assert len(heard) == 1  # although it is mounted twice


def test_methods_partials_and_wrappers_are_described_as_what_they_call() -> None:
    server = Server("shop")

    @functools.wraps(Owner().method)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return Owner().method(*args, **kwargs) + 1

    server.tool(name="bound")(Owner().method)
    server.tool(name="class")(Owner.made)
    server.tool(name="partial")(functools.partial(Owner().method, 7))
    server.tool(name="wrapped")(wrapper)
    server.resource(uri="a://{x}", name="by keyword")(lambda x: x)

    async def talk() -> list[object]:
        async with testing.Client(server) as client:
            assert [t.name for t in await client.list_tools()] == ["bound", "class", "partial", "wrapped"]
            given = [("bound", {"x": 1}), ("class", {"x": 2}), ("partial", {}), ("wrapped", {"x": 3})]
            return [(await client.call_tool(name, arguments)).text for name, arguments in given]

    assert asyncio.run(talk()) == ["1", "2", "7", "4"]


def test_a_typed_server_runs_as_it_is_typed() -> None:
    async def talk() -> None:
        async with testing.Client(typed_server.server, answers={"Your name?": "Ada"}) as client:
            called = (await client.list_tools())[1]
            assert list(called.input_schema["properties"]) == ["name"]  # the `Context[Shop]` is not for clients
            assert (await client.call_tool("greet")).text == "Ada"

    asyncio.run(talk())


def answered(kind: str, value: object) -> Any:
    """Return what a client gets from a function that returns `value`, or the code of the error."""
    server = Server("shop")

    def give(x: str = "") -> Any:
        return value

    async def talk() -> Any:
        async with testing.Client(server) as client:
            if kind == "tool":
                server.tool(name="give")(give)
                return await client.call_tool("give")
            if kind == "prompt":
                server.prompt(name="give")(give)
                return (await client.get_prompt("give")).messages
            server.resource("a://{x}")(give)
            return await client.read_resource("a://b")

    try:
        return asyncio.run(talk())
    except RpcError as error:
        return error.code


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("tool", ToolResult("x", meta=[1])),  # type: ignore[arg-type]
        ("tool", ToolResult("x", meta={"a": NAN})),
        ("tool", ResourceLink(uri="a://b", name="b", annotations=Annotations(priority=NAN))),
        ("prompt", ResourceLink(uri="a://b", name="b", annotations=Annotations(priority=NAN))),
        ("prompt", [Message(EmbeddedResource(resource=ResourceContents("a://b", text="x", meta={"a": NAN})))]),
        ("prompt", HALF),
        ("resource", ResourceContents("", text="x", meta={"a": NAN})),
        ("resource", [ResourceContents("", text="x"), ResourceContents("", text=HALF)]),
    ],
)
def test_a_value_json_cannot_carry_is_an_error_at_any_depth(kind: str, value: object) -> None:
    assert answered(kind, value) == INTERNAL_ERROR


def test_a_resource_may_return_several_contents() -> None:
    both = answered("resource", [ResourceContents("", text="x"), ResourceContents("a://c", blob=b"y")])
    assert [(content.uri, content.text, content.blob) for content in both] == [
        ("a://b", "x", None),
        ("a://c", None, "eQ=="),
    ]


def test_a_message_has_no_third_role() -> None:
    with pytest.raises(ValueError, match="a message is said by the user or the assistant, not by 'system'"):
        Message("Be brief.", role="system")  # type: ignore[arg-type]


def test_a_result_of_another_server_may_be_passed_on_with_its_meta() -> None:
    result = ToolResult("x", meta={"io.modelcontextprotocol/serverInfo": {"name": "upstream"}, "example.com/cost": 3})
    server = Server("proxy")
    server.tool(f)
    assert server.tools.items["f"].plan.encode(result).meta == b'{"example.com/cost":3}'


def test_a_prompt_that_replaces_another_does_not_inherit_its_completions() -> None:
    server = Server("shop", on_duplicate="replace")

    @server.prompt(name="reorder")
    def first(name: str, tone: str = "") -> str:
        return name

    async def talk() -> list[list[str]]:
        async with testing.Client(server) as client:
            with pytest.raises(RpcError, match="Method not found: completion/complete"):
                await client.complete("reorder", "name", "")
            server.completion("reorder", "name")(lambda value: ["pen"])  # while it runs
            found = [(await client.complete("reorder", "name", "")).values]
            server.prompt(name="reorder")(first)
            server.completion("reorder", "tone")(lambda value: ["kind"])
            return [*found, (await client.complete("reorder", "name", "")).values]

    assert asyncio.run(talk()) == [["pen"], []]


def test_the_page_on_migrating_lists_the_keywords_of_other_frameworks_as_the_errors_do() -> None:
    page = (ROOT / "docs" / "migrating.md").read_text()
    rows = re.findall(r"^\| `(\w+)=` \| (.*) \|$", page, re.MULTILINE)
    for keyword, instead in rows:
        with pytest.raises(TypeError) as refused:
            refuse_unknown("Server()", [keyword], [])
        assert str(refused.value) == f"Server() has no {keyword}=: {instead}."
    assert len(rows) == len(set(rows)) == len(INSTEAD)


def test_a_lifespan_mounted_after_the_start_is_an_error_in_the_log_and_no_empty_state(
    caplog: pytest.LogCaptureFixture,
) -> None:
    @contextlib.asynccontextmanager
    async def opened(server: Server) -> AsyncIterator[str]:
        yield "open"

    outer, late = Server("outer"), Server("late", lifespan=opened)

    @late.tool
    def state(ctx: Context) -> str:
        return str(ctx.state)

    async def talk() -> bool:
        async with testing.Client(outer) as client:
            outer.mount(late)
            return (await client.call_tool("state")).is_error

    assert asyncio.run(talk())
    assert "late was mounted after the start, so its lifespan was not entered; mount it before." in caplog.text


def test_asking_for_an_unknown_capability_is_an_error() -> None:
    with pytest.raises(ValueError, match="'elicit' is no capability; use one of: elicitation, "):
        Client({}, Capability.NONE).supports("elicit")
