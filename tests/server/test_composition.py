"""A server as a whole: lifespan, middleware, mounting, changes, pages, time limits, and the context."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

import pytest

from portway import Context, RegistrationError, Server, ToolError, ToolResult, testing
from portway.client.results import CallResult
from portway.protocol.errors import RpcError
from portway.server.dispatcher import Dispatcher

CallNext = Callable[[], Awaitable[Any]]
ERAS = pytest.mark.parametrize("era", ["modern", "legacy"])


def in_client(server: Server, talk: Callable[[testing.Client], Coroutine[Any, Any, Any]], **options: Any) -> Any:
    async def run() -> Any:
        async with testing.Client(server, **options) as client:
            return await talk(client)

    return asyncio.run(run())


def call(server: Server, name: str, arguments: dict[str, Any] | None = None, **options: Any) -> CallResult:
    return in_client(server, lambda client: client.call_tool(name, arguments), **options)


def logging_lifespan(events: list[str]) -> Any:
    @contextlib.asynccontextmanager
    async def lifespan(server: Server) -> AsyncIterator[str]:
        events.append(f"enter {server.name}")
        yield f"state of {server.name}"
        events.append(f"leave {server.name}")

    return lifespan


@ERAS
def test_a_lifespan_is_entered_before_the_first_call_and_left_after_the_last(era: str) -> None:
    events: list[str] = []
    server = Server("shop", lifespan=logging_lifespan(events))

    @server.tool
    def state(ctx: Context) -> str:
        events.append("call")
        return ctx.state

    assert call(server, "state", era=era).text == "state of shop"
    assert events == ["enter shop", "call", "leave shop"]


def test_a_lifespan_that_fails_keeps_the_server_from_starting() -> None:
    @contextlib.asynccontextmanager
    async def lifespan(server: Server) -> AsyncIterator[None]:
        raise OSError("no database")
        yield

    with pytest.raises(OSError, match="no database"):
        call(Server("shop", lifespan=lifespan), "any")


@pytest.mark.parametrize("fails", ["at first", "later", "between two clients"])
def test_a_lifespan_that_ended_is_entered_again_by_the_next_call(fails: str) -> None:
    attempts: list[asyncio.Event] = []

    @contextlib.asynccontextmanager
    async def lifespan(server: Server) -> AsyncIterator[None]:
        attempts.append(asyncio.Event())
        if fails == "at first" and len(attempts) == 1:
            raise OSError("no database")
        async with asyncio.TaskGroup() as group:
            connection = group.create_task(connected(attempts[-1]))
            yield
            connection.cancel()

    async def connected(lost: asyncio.Event) -> None:
        await lost.wait()
        raise ConnectionError("lost")

    async def scenario() -> None:
        dispatcher = Dispatcher(Server("shop", lifespan=lifespan))
        if fails == "at first":
            with pytest.raises(OSError, match="no database"):
                await dispatcher.open()
        await dispatcher.open()
        if fails == "later":
            attempts[0].set()
            async with asyncio.timeout(120):
                while len(attempts) == 1:
                    await asyncio.sleep(0)
                    await dispatcher.open()
        if fails == "between two clients":
            await dispatcher.close()
            await dispatcher.open()
        await dispatcher.close()
        assert len(attempts) == 2

    asyncio.run(scenario())


def test_middleware_wraps_every_call_the_first_registered_outermost() -> None:
    server = Server("shop")
    seen: list[str] = []

    def noting(name: str) -> Any:
        async def middleware(ctx: Context, call_next: CallNext) -> Any:
            seen.append(f"{name} {ctx.method} {ctx.name} {ctx.arguments if ctx.method == 'tools/call' else ''}".strip())
            result = await call_next()
            seen.append(f"{name} saw {result}")
            return f"{result}!"

        return middleware

    server.middleware(noting("outer"))
    server.middleware(noting("inner"))
    server.tool(lambda_named("double", lambda text: text * 2))
    server.resource("text://{word}")(lambda_named("word", lambda word: word))
    server.prompt(lambda_named("say", lambda text: text))

    async def talk(client: testing.Client) -> None:
        assert (await client.call_tool("double", {"text": "ab"})).text == "abab!!"
        assert (await client.read_resource("text://x"))[0].text == "x!!"
        assert (await client.get_prompt("say", {"text": "y"})).messages[0].content.text == "y!!"

    in_client(server, talk)
    assert seen == [
        "outer tools/call double {'text': 'ab'}",
        "inner tools/call double {'text': 'ab'}",
        "inner saw abab",
        "outer saw abab!",
        "outer resources/read text://x",
        "inner resources/read text://x",
        "inner saw x",
        "outer saw x!",
        "outer prompts/get say",
        "inner prompts/get say",
        "inner saw y",
        "outer saw y!",
    ]


def lambda_named(name: str, fn: Callable[[str], str]) -> Any:
    """A `def` with one text argument, called like the lambda's."""
    (argument,) = fn.__code__.co_varnames
    scope: dict[str, Any] = {"fn": fn}
    exec(f"def {name}({argument}: str) -> str:\n    return fn({argument})", scope)
    return scope[name]


def test_middleware_may_refuse_and_may_answer_itself() -> None:
    server = Server("shop")

    @server.middleware
    async def gate(ctx: Context, call_next: CallNext) -> Any:
        if ctx.arguments["text"] == "no":
            raise ToolError("not that")
        return "cached" if ctx.arguments["text"] == "old" else await call_next()

    server.tool(lambda_named("echo", lambda text: text))
    assert call(server, "echo", {"text": "no"}).text == "not that"
    assert call(server, "echo", {"text": "old"}).text == "cached"
    assert call(server, "echo", {"text": "new"}).text == "new"


def test_a_function_that_cannot_be_middleware_is_refused() -> None:
    with pytest.raises(
        RegistrationError, match=r"Middleware takes the context and call_next: async def one\(ctx, call"
    ):

        @Server().middleware
        async def one(ctx: Context) -> None: ...

    with pytest.raises(RegistrationError, match=r"Middleware must be async: async def two\(ctx, call_next\)"):

        @Server().middleware
        def two(ctx: Context, call_next: CallNext) -> None: ...


def test_a_mounted_server_keeps_its_lifespan_and_its_middleware_inside_the_outer_ones() -> None:
    events: list[str] = []
    child, parent, top = Server("child", lifespan=logging_lifespan(events)), Server("parent"), Server("top")

    def marking(mark: str) -> Any:
        async def middleware(ctx: Context, call_next: CallNext) -> Any:
            return f"{await call_next()} {mark}"

        return middleware

    child.middleware(marking("child"))
    parent.middleware(marking("parent"))
    top.middleware(marking("top"))

    @child.tool
    async def state(ctx: Context) -> str:
        return ctx.state

    child.prompt(lambda_named("say", lambda text: text))
    child.resource("child://{word}")(lambda_named("word", lambda word: word))
    parent.mount(child, prefix="c")
    top.mount(parent)

    async def talk(client: testing.Client) -> None:
        assert (await client.call_tool("c_state")).text == "state of child child parent top"
        assert [tool.name for tool in await client.list_tools()] == ["c_state"]
        assert [prompt.name for prompt in await client.list_prompts()] == ["c_say"]
        assert [template.uri_template for template in await client.list_resource_templates()] == ["child://{word}"]

    in_client(top, talk)
    assert events == ["enter child", "leave child"]


@pytest.mark.parametrize(("policy", "answer"), [("replace", "second"), ("warn", "second"), ("ignore", "first")])
def test_a_name_registered_twice_does_what_on_duplicate_says(policy: Any, answer: str) -> None:
    server = Server("shop", on_duplicate=policy)
    for text in ("first", "second"):
        server.tool(name="which")(_constant(text))
    assert call(server, "which").text == answer


def _constant(text: str) -> Callable[[], str]:
    def constant() -> str:
        return text

    return constant


@ERAS
def test_listening_clients_are_told_of_added_and_removed_components(era: str) -> None:
    server = Server("shop", sessions=True)
    server.tool(lambda_named("echo", lambda text: text))
    server.resource("a://b")(_constant("x"))
    heard: asyncio.Queue[Any] = asyncio.Queue()

    async def talk(client: testing.Client) -> None:
        server.prompt(lambda_named("say", lambda text: text))
        assert (await heard.get()).kind == "prompts"
        server.remove_tool("echo")
        assert (await heard.get()).kind == "tools"
        assert await client.list_tools() == []
        await asyncio.to_thread(server.remove_resource, "a://b")
        assert (await heard.get()).kind == "resources"
        with pytest.raises(KeyError, match="There is no tool 'echo' on this server"):
            server.remove_tool("echo")

    in_client(server, talk, era=era, on_change=heard.put_nowait)


def test_a_cursor_is_good_although_its_component_was_removed() -> None:
    server = Server("shop", page_size=2)
    for name in "abcde":
        server.tool(name=name)(_constant(name))

    async def talk(client: testing.Client) -> None:
        assert [tool.name for tool in await client.list_tools()] == list("abcde")
        first = await client.request("tools/list", {})
        server.remove_tool("a")
        second = await client.request("tools/list", {"cursor": first["nextCursor"]})
        assert [tool["name"] for tool in second["tools"]] == ["c", "d"]
        server.remove_tool("d")  # the component that the next cursor names
        third = await client.request("tools/list", {"cursor": second["nextCursor"]})
        assert [tool["name"] for tool in third["tools"]] == ["e"]
        for cursor, method in (
            (first["nextCursor"], "prompts/list"),
            (first["nextCursor"][:-2], "tools/list"),
            ("", "tools/list"),
        ):
            with pytest.raises(RpcError, match="The cursor is not one this server gave"):
                await client.request(method, {"cursor": cursor})

    in_client(server, talk)


def test_a_call_beyond_its_time_limit_ends_with_an_error_that_names_it() -> None:
    server = Server("shop")
    cancelled, let_go, hurried = asyncio.Event(), threading.Event(), threading.Event()

    @server.tool(timeout=0.01)
    async def wait() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    @server.tool(timeout=0.01)
    def block(ctx: Context) -> None:
        let_go.wait()
        if ctx.cancelled:
            hurried.set()

    @server.tool(timeout=20)
    async def fails() -> None:
        raise TimeoutError

    async def talk(client: testing.Client) -> None:
        assert (await client.call_tool("wait")).text == "wait did not finish within 0.01 seconds."
        assert cancelled.is_set()
        assert (await client.call_tool("block")).text == "block did not finish within 0.01 seconds."
        let_go.set()
        assert await asyncio.to_thread(hurried.wait, 10)
        assert "error id" in (await client.call_tool("fails")).text

    in_client(server, talk)


@ERAS
def test_log_messages_reach_a_client_from_the_level_it_asked_for(era: str) -> None:
    server = Server("shop")

    @server.tool
    async def talkative(ctx: Context) -> None:
        await ctx.debug("one")
        await ctx.info({"two": 2})
        await ctx.log("critical", "three", logger="till")

    @server.tool
    def blocking(ctx: Context) -> None:
        ctx.error("four")

    logs: list[tuple[str, Any, str | None]] = []

    async def talk(client: testing.Client) -> None:
        if era == "legacy":  # a session begins at info
            await client.call_tool("talkative")
            assert logs == [("info", {"two": 2}, None), ("critical", "three", "till")]
        await client.set_log_level("debug")
        logs.clear()
        await client.call_tool("talkative")
        assert [level for level, _, _ in logs] == ["debug", "info", "critical"]
        await client.set_log_level("error")
        logs.clear()
        await client.call_tool("talkative")
        await client.call_tool("blocking")
        assert logs == [("critical", "three", "till"), ("error", "four", None)]

    in_client(server, talk, era=era, on_log=lambda log: logs.append((log.level, log.data, log.logger)))


def test_a_level_that_does_not_exist_is_an_error_that_lists_those_that_do() -> None:
    server = Server("shop")

    @server.tool
    async def log(ctx: Context) -> str:
        with pytest.raises(ValueError, match="'loud' is no log level; use one of: debug, info, notice"):
            await ctx.log("loud", "x")
        return "said"

    assert call(server, "log").text == "said"


@ERAS
def test_the_metadata_of_a_result_reaches_the_client(era: str) -> None:
    server = Server("shop")

    @server.tool
    def tagged() -> ToolResult:
        return ToolResult("text", meta={"shop/aisle": 4})

    assert call(server, "tagged", era=era).meta["shop/aisle"] == 4


def test_a_context_has_the_method_name_version_and_client_of_the_request() -> None:
    server = Server("shop")

    @server.tool
    def tell(ctx: Context) -> dict[str, Any]:
        said = [ctx.method, ctx.name, ctx.protocol_version, ctx.client.name]
        return {"said": said, "roots": ctx.client.supports("roots"), "headers": dict(ctx.headers)}

    told = call(server, "tell", roots=["file:///a"]).structured
    assert told == {"said": ["tools/call", "tell", "2026-07-28", "portway"], "roots": True, "headers": {}}


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda: Server(auth="x"),
            "auth= takes a portway.OAuth, not str: OAuth(ISSUER, AUDIENCE), or set PORTWAY_TOKENS",
        ),
        (lambda: Server(colour="x"), "Server() has no colour=; it takes: auth, cache_scope, cache_ttl,"),
        (lambda: Server().tool(tags=["x"]), "@server.tool has no tags=: use meta="),
        (lambda: Server().prompt(annotations={}), "@server.prompt has no annotations=: annotations= belongs to"),
        (lambda: Server().resource("a://b", tags=["x"]), "@server.resource has no tags="),
    ],
)
def test_a_keyword_of_another_framework_is_an_error_that_names_the_replacement(make: Any, text: str) -> None:
    with pytest.raises(TypeError) as raised:
        make()
    assert text in str(raised.value)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Server(page_size=0), "page_size must be at least 1, not 0."),
        (
            lambda: Server(cache_ttl=-1),
            'cache_ttl is a number of seconds from 0, cache_scope is "public" or "private".',
        ),
        (
            lambda: Server().completion("none", "x")(_constant("")),
            "There is no prompt or resource template 'none' to complete",
        ),
    ],
)
def test_an_impossible_setting_is_refused_at_once(make: Any, text: str) -> None:
    with pytest.raises((ValueError, RegistrationError)) as raised:
        make()
    assert text in str(raised.value)
