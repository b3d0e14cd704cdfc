"""Which exceptions of an author's function a client is told of, and which stay in the log."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from mcp import Client

from portway import Context, RegistrationError, ResourceNotFound, Server, ToolError, testing
from portway.protocol.errors import RpcError
from tests.server.official_client import officially
from tests.server.test_composition import ERAS, call, in_client

REASON = "Only SELECT is allowed"
MODES = pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])


@MODES
@pytest.mark.parametrize("where", ["tool", "server"])
def test_the_official_client_is_told_the_text_of_an_exception_named_in_tells(mode: str, where: str) -> None:
    server = Server("db", tells=(ValueError,) if where == "server" else ())

    @server.tool(tells=(ValueError,) if where == "tool" else ())
    def query(sql: str) -> str:
        raise ValueError(REASON)

    async def talk(client: Client) -> Any:
        return await client.call_tool("query", {"sql": "DROP"})

    result = officially(server, talk, mode)
    assert result.is_error
    assert [block.text for block in result.content] == [REASON]


@ERAS
def test_resources_prompts_and_completers_tell_what_tells_names(era: str) -> None:
    server = Server("db", tells=(KeyError,))

    @server.resource("table://{name}", tells=[ValueError])
    def table(name: str) -> str:
        raise ValueError(REASON)

    @server.prompt
    def ask(name: str) -> str:
        raise KeyError(REASON)

    @server.completion("ask", "name")
    def names(value: str) -> list[str]:
        raise KeyError(REASON)

    async def talk(client: testing.Client) -> None:
        with pytest.raises(RpcError, match=f"^{REASON}$"):
            await client.read_resource("table://users")
        with pytest.raises(RpcError, match=REASON):
            await client.get_prompt("ask", {"name": "a"})
        with pytest.raises(RpcError, match=REASON):
            await client.complete("ask", "name", "a")

    in_client(server, talk, era=era)


def test_tells_covers_subclasses_and_middleware_but_no_other_exception() -> None:
    server = Server("db", tells=(LookupError,))

    @server.middleware
    async def guard(ctx: Context, call_next: Any) -> object:
        if ctx.name == "guarded":
            raise IndexError("closed")
        return await call_next()

    for name, error in [("guarded", OSError()), ("missing", KeyError("pen")), ("other", OSError("secret"))]:

        @server.tool(name=name)
        def fail(error: Any = error) -> None:
            raise error

    async def talk(client: testing.Client) -> list[str]:
        return [(await client.call_tool(name)).text for name in ("guarded", "missing", "other")]

    guarded, missing, other = in_client(server, talk)
    assert (guarded, missing) == ("closed", "'pen'")
    assert "secret" not in other


@ERAS
def test_the_error_of_a_server_that_a_function_calls_is_a_failure_of_that_function(
    era: str, caplog: pytest.LogCaptureFixture
) -> None:
    inner, outer = Server("inner"), Server("outer")

    @inner.tool
    def refuse() -> None:
        raise RpcError(-32050, "planted text", {"planted": "data"}, status=403)

    async def call_inner(*, in_group: bool = False) -> str:
        async with testing.Client(inner) as client:
            if not in_group:
                return (await client.call_tool("refuse")).text
            async with asyncio.TaskGroup() as group:
                group.create_task(client.call_tool("refuse"))
        return ""

    outer.tool(call_inner, name="alone")
    outer.tool(call_inner, name="told", tells=(RpcError,))
    outer.resource("inner://x")(call_inner)

    async def talk(client: testing.Client) -> None:
        about = r"failed: a server that it calls answered with error -32050; the server's log has the cause under error"
        for arguments in ({}, {"in_group": True}):
            failed = await client.call_tool("alone", arguments)
            assert failed.is_error
            assert re.fullmatch(rf"The tool alone {about} id \w+\.", failed.text)
        told = await client.call_tool("told")
        assert (told.is_error, told.text) == (True, "planted text")
        with pytest.raises(RpcError, match=about) as refused:
            await client.read_resource("inner://x")
        assert (refused.value.code, refused.value.data, "planted" in str(refused.value)) == (-32603, None, False)

    in_client(outer, talk, era=era)
    assert "planted text" in caplog.text


def test_a_result_that_breaks_its_type_stays_masked_whatever_tells_names() -> None:
    server = Server("db", tells=(Exception,))

    @server.tool
    def count() -> int:
        return "secret"  # type: ignore[return-value]

    async def talk(client: testing.Client) -> None:
        with pytest.raises(RpcError, match="error id"):
            await client.call_tool("count")

    in_client(server, talk)


def test_a_mounted_tool_keeps_the_tells_of_the_server_it_comes_from() -> None:
    inner, outer = Server("inner", tells=(ValueError,)), Server("outer")

    @inner.tool
    def query() -> None:
        raise ValueError(REASON)

    outer.mount(inner)
    assert call(outer, "query").text == REASON


@pytest.mark.parametrize("tells", [ValueError, "ValueError", (str,), (5,), 5])
@pytest.mark.parametrize("where", ["tool", "server"])
def test_tells_that_names_no_exceptions_is_refused(tells: Any, where: str) -> None:
    with pytest.raises(RegistrationError, match=r"tells is a tuple of exception types, as in tells=\(ValueError,\)\."):
        Server(tells=tells) if where == "server" else Server().tool(tells=tells)(pass_on)


def test_the_log_says_once_for_each_tool_how_a_value_error_is_told(caplog: pytest.LogCaptureFixture) -> None:
    server = Server("db")

    @server.tool
    def query(fails: int = 1) -> None:
        raise (KeyError, ValueError)[fails](REASON)

    server.tool(name="other")(query)

    async def talk(client: testing.Client) -> None:
        await client.call_tool("query", {"fails": 0})
        for name in ("query", "query", "other"):
            assert REASON not in (await client.call_tool(name)).text

    in_client(server, talk)
    hints = [record.getMessage() for record in caplog.records if "tells=" in record.getMessage()]
    assert hints == [
        f"tool {name} tells clients the text of a ValueError if registered with tells=(ValueError,)"
        for name in ("query", "other")
    ]


def pass_on() -> None: ...


async def _fail(error: BaseException) -> None:
    raise error


async def _group(*errors: BaseException) -> None:
    async with asyncio.TaskGroup() as group:
        for error in errors:
            group.create_task(_fail(error))


async def _nested(*errors: BaseException) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(_group(*errors))


@ERAS
@pytest.mark.parametrize("within", [_group, _nested])
def test_an_exception_inside_a_task_group_is_told_as_it_would_be_outside(era: str, within: Any) -> None:
    server = Server("db", tells=(ValueError,))

    @server.tool
    async def told() -> None:
        await within(OSError("secret"), ToolError("first"), ValueError("second"))

    @server.tool
    async def named(ctx: Context) -> None:
        await within(ValueError(REASON))

    @server.tool
    async def masked() -> None:
        await within(OSError("secret"))

    @server.resource("table://{name}")
    async def table(name: str) -> str:
        return await within(ResourceNotFound(name))

    @server.prompt
    async def ask() -> str:
        return await within(ToolError("no prompt today"))

    async def talk(client: testing.Client) -> None:
        assert [(await client.call_tool(name)).text for name in ("told", "named")] == ["first", REASON]
        assert "error id" in (await client.call_tool("masked")).text
        with pytest.raises(RpcError, match="There is no such resource"):
            await client.read_resource("table://users")
        with pytest.raises(RpcError, match="no prompt today"):
            await client.get_prompt("ask")

    in_client(server, talk, era=era)


@ERAS
def test_a_question_inside_a_task_group_is_asked(era: str) -> None:
    server = Server("db")

    @server.tool(asks=True)
    async def greet(ctx: Context) -> str:
        async with asyncio.TaskGroup() as group:
            asking = group.create_task(ctx.elicit("Your name?", str))
        return asking.result().data

    assert call(server, "greet", era=era, answers={"Your name?": "Ada"}).text == "Ada"
