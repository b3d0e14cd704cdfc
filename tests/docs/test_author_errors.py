"""The errors of docs/errors-author.md, each provoked by a few lines an author could write."""

from __future__ import annotations

import re
from typing import Any

import pytest

from portway import RegistrationError, Server
from portway.http.limits import Limits
from portway.transport.http import App
from tests.docs.test_wire_errors import legacy, pattern, said
from tests.http.listener import Listener

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
    (
        "The template … has the expression …; use {name} for one path segment or {+name} for a path, each name once.",
        "@server.resource('a://{?b}')\ndef f(b: str) -> str: ...",
    ),
    (
        "…: … cannot be described to a client (…); use plain types, a dataclass, a TypedDict or a pydantic model",
        "class Odd: ...\n@server.tool\ndef f(odd: Odd) -> None: ...",
    ),
]


@pytest.mark.parametrize(("text", "source"), REGISTERED, ids=[text for text, _ in REGISTERED])
def test_a_registration_that_cannot_be_is_refused_with_the_documented_text(text: str, source: str) -> None:
    with pytest.raises(RegistrationError) as refused:
        exec(source, {"server": Server()})
    assert re.fullmatch(pattern(text), str(refused.value))


RETURNED = [
    ("… broke its declared return type: …", "@server.tool\ndef f() -> int:\n return 'x'"),
    ("… returned …, which JSON cannot express", "@server.tool\ndef f() -> float:\n return float('nan')"),
    (
        "… returned NaN or an infinity, which JSON cannot express",
        "@server.tool\ndef f() -> dict[str, float]:\n return {'a': float('nan')}",
    ),
    ("… returned what JSON cannot express: …", "@server.tool\ndef f() -> dict:\n return {'a': object()}"),
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
def test_what_a_handler_may_not_return_is_an_id_to_the_client_and_the_documented_text_in_the_log(
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
    exec(f"from portway import Image, Server, ToolResult\nserver = Server()\n{source}", names)
    listener = Listener(App(names["server"]), Limits())
    try:
        return said(listener.talk(legacy(method, params)))
    finally:
        listener.stop()
        listener.join()
