"""The errors of docs/errors-author.md, errors-asking.md and resources.md, each provoked by a few lines of a server."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from portway import Context, Server, testing
from portway.http.limits import Limits
from portway.protocol.errors import RpcError
from portway.transport.http_app import HttpApp
from tests.conftest import RunCli
from tests.docs.test_wire_errors import error_text, legacy, pattern
from tests.http.running_listener import Listener

REGISTERED = [
    ("…: an annotation cannot be read: …", "@server.tool\ndef f(a: 'int[') -> None: ..."),
    ("… is a class; register a function or a method of an instance", "server.tool(Exception)"),
    ("… is not callable", "server.tool(5)"),
    ("… has no readable signature; wrap it in a function of your own", "server.tool(max)"),
    (
        "… cannot name a …: use 1 to 128 letters, digits, '_', '-' or '.', and pass it as name=.",
        "server.prompt(lambda: '')",
    ),
    (
        "There is already a … … on this server; give one of the two another name.",
        "@server.tool\ndef f() -> None: ...\nserver.tool(f)",
    ),
    ("scopes must be a list, as in scopes=[…].", "@server.tool(scopes='a')\ndef f() -> None: ..."),
    (
        '@server.resource needs its URI: @server.resource("config://settings").',
        "@server.resource\ndef f() -> str: ...",
    ),
    (
        "… is not a resource URI; it needs a scheme, such as config://settings.",
        "@server.resource('settings')\ndef f() -> str: ...",
    ),
    (
        "The resource … and its function … disagree: the URI names …, the function ….",
        "@server.resource('a://{b}')\ndef f(c: str) -> str: ...",
    ),
    ("The template … has the expression {…}; ….", "@server.resource('a://{b:3}')\ndef f(b: str) -> str: ..."),
    (
        "The template … leaves open where … and … end; use one {+name} or {name*} at most.",
        "@server.resource('a://{+b}/{+c}')\ndef f(b: str, c: str) -> str: ...",
    ),
    (
        "The resource … may come without …: give that parameter of … a default.",
        "@server.resource('a://b{?c}')\ndef f(c: str) -> str: ...",
    ),
    ("… is not JSON (…).", "@server.tool(input_schema='{')\ndef f(a: dict) -> None: ..."),
    ("The icon … must have an https: or data: URI.", "Icon('logo.png')"),
    ("… has no …=: ….", "server.prompt(tags=['a'])"),
    ("The metadata of … is wrong: ….", "@server.tool(title=5)\ndef f() -> None: ..."),
    ("… has two names, … and …; give one.", "server.tool('f', name='g')"),
    ("The metadata of … is wrong: ….", "@server.tool(annotations={'readonlyHint': True})\ndef f() -> None: ..."),
    ("… is one of …, not ….", "Server(on_duplicate='no')"),
    ("… cannot be mounted in itself.", "server.mount(server)"),
    ("a message is said by the user or the assistant, not by …", "Message('a', role='system')"),
    ("There is no … … on this server.", "server.remove_tool('f')"),
    (
        "…: asks=True needs an async def; a def can only ask by parameters: Annotated[str, Ask(…)].",
        "@server.tool(asks=True)\ndef f() -> None: ...",
    ),
    (
        "…: … cannot be described to a client (…); use plain types, a dataclass, a TypedDict or a pydantic model",
        "class Odd: ...\n@server.tool\ndef f(odd: Odd) -> None: ...",
    ),
]


@pytest.mark.parametrize(("text", "source"), REGISTERED, ids=[text for text, _ in REGISTERED])
def test_a_wrong_registration_is_refused_with_the_documented_text(text: str, source: str) -> None:
    with pytest.raises((TypeError, KeyError, ValueError)) as refused:
        exec(f"from portway import Icon, Message, Server\nserver = Server()\n{source}", {})
    assert re.fullmatch(pattern(text), refused.value.args[0])


RETURNED = [
    ("… broke its declared return type: …", "@server.tool\ndef f() -> int:\n return 'x'"),
    ("… returned …, which JSON cannot express", "@server.tool\ndef f() -> float:\n return float('nan')"),
    (
        "… returned NaN or an infinity, which JSON cannot express",
        "@server.tool\ndef f() -> dict[str, float]:\n return {'a': float('nan')}",
    ),
    ("… returned what JSON cannot express: …", "@server.tool\ndef f() -> dict:\n return {'a': object()}"),
    ("… was given what JSON cannot express: …", "@server.tool\ndef f() -> None:\n sample('a', tools=[object()])"),
    ("…: ToolResult.meta must be an object", "@server.tool\ndef f() -> ToolResult:\n return ToolResult(meta=5)"),
    (
        "…: ToolResult.structured must be an object",
        "@server.tool\ndef f() -> ToolResult:\n return ToolResult(structured=5)",
    ),
    (
        "… declares a return type, so its ToolResult needs structured=",
        "@server.tool\ndef f() -> int:\n return ToolResult(content=[])",
    ),
    (
        '…: for its return type, ToolResult.structured must be {"result": …}',
        "@server.tool\ndef f() -> int:\n return ToolResult(structured={'other': 1})",
    ),
    (
        "a prompt returned …; it returns text, content blocks, or a list of Message",
        "@server.prompt\ndef f() -> str:\n return 5",
    ),
    ("… takes either a path or data", "@server.tool\ndef f() -> Image:\n return Image()"),
    ("the handler raised …", "@server.tool\ndef f() -> None:\n raise SystemExit"),
]


@pytest.mark.parametrize(("text", "source"), RETURNED, ids=[text for text, _ in RETURNED])
def test_a_wrong_result_gives_the_client_an_id_and_the_log_the_documented_text(
    text: str, source: str, caplog: pytest.LogCaptureFixture
) -> None:
    answer = answer_of(source, {"name": "f"}, "prompts/get" if "prompt" in source else "tools/call")
    error_id = re.fullmatch(r"The \w+ f failed; the server's log has the cause under error id (\w+)\.", answer)
    assert error_id
    record = next(record for record in caplog.records if error_id[1] in record.getMessage())
    assert re.fullmatch(pattern("… … failed, error id …"), record.getMessage())
    assert record.exc_info
    assert re.fullmatch(pattern(text), str(record.exc_info[1]))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"a": "x", "c": 1}, "… wrong for …: …"),
        ([], "the arguments for … are wrong: …"),
    ],
)
def test_wrong_arguments_are_answered_with_the_documented_text(arguments: object, text: str) -> None:
    source = "@server.tool\ndef f(a: int, b: int = 1) -> None: ..."
    assert re.fullmatch(pattern(text), answer_of(source, {"name": "f", "arguments": arguments}))


def answer_of(source: str, params: dict[str, Any], method: str = "tools/call") -> str:
    names: dict[str, Any] = {}
    exec(f"from portway import Image, Server, ToolResult, sample\nserver = Server()\n{source}", names)
    listener = Listener(HttpApp(names["server"]), Limits())
    try:
        return error_text(listener.talk(legacy(method, params)))
    finally:
        listener.stop()
        listener.join()


def test_a_wrong_completion_and_a_second_registration_are_logged_with_the_documented_text(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = Server(on_duplicate="warn")

    @server.prompt
    def greet(name: str) -> str:
        return name

    server.prompt(greet)

    @server.completion("greet", "name")
    def complete(value: str) -> str:
        return value

    @server.prompt(name="asked")
    def ask(name: str) -> str:
        return name

    @server.completion("asked", "name")
    async def complete_by_asking(value: str, ctx: Context) -> None:
        await ctx.elicit("What next?")

    async def main() -> None:
        async with testing.Client(server) as client:
            for prompt in ("greet", "asked"):
                with pytest.raises(RpcError, match="the server's log has the cause"):
                    await client.complete(prompt, "name", "a")

    asyncio.run(main())
    assert re.search(pattern("the … … is registered again and replaces the one before"), caplog.text)
    assert "A completion cannot ask the client; ask in the prompt or the tool." in caplog.text
    assert re.search(pattern("what completes an argument of … must return a list of str"), caplog.text)


def test_a_lifespan_that_ends_too_early_is_logged_with_the_documented_text(
    caplog: pytest.LogCaptureFixture,
) -> None:
    breaks, over = asyncio.Event(), asyncio.Event()

    async def breaking() -> None:
        await breaks.wait()
        raise OSError("the connection is gone")

    @contextlib.asynccontextmanager
    async def connected(server: Server) -> AsyncIterator[None]:
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(breaking())
                yield
        finally:
            over.set()

    async def main() -> None:
        async with testing.Client(Server(lifespan=connected)):
            breaks.set()
            await over.wait()

    asyncio.run(main())
    assert caplog.messages == ["a lifespan ended while the server runs; the next call enters it again"]


FAILING_LIFESPAN = """
import contextlib
from portway import Server

@contextlib.asynccontextmanager
async def database(server):
    raise OSError("no database")
    yield

server = Server("shop", lifespan=database)
"""


@pytest.mark.parametrize("transport", ["http", "stdio"])
def test_a_lifespan_that_fails_is_reported_with_the_documented_texts(
    run_cli: RunCli, tmp_path: Path, transport: str
) -> None:
    (tmp_path / "server.py").write_text(FAILING_LIFESPAN)
    done = run_cli("run", "server.py", "--transport", transport, "--port", "0")
    assert done.returncode == 1
    assert re.search(pattern("the lifespan of … failed"), done.stderr)
    assert re.search(pattern("the lifespan of … raised …: …"), done.stderr)
