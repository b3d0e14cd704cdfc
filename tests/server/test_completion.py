"""Completion of arguments, driven through the server."""

import enum
import json
import logging
import threading
from typing import Literal

import pytest

from portway import Context, RegistrationError, Server, ToolError
from tests.server.one_request import ask


class Color(enum.Enum):
    RED = "red"
    ROSE = "Rose"
    BLUE = "blue"


def make() -> Server:
    server = Server("completes")

    @server.prompt
    def paint(color: Color, size: Literal["small", "large"] | None = None, glossy: bool = False, note: str = "") -> str:
        return f"{color}{size}{glossy}{note}"

    @server.resource("city://{country}/{name}")
    def city(country: str, name: str) -> str:
        return country + name

    @server.resource("city://all")
    def cities() -> str:
        return ""

    @server.completion("city://{country}/{name}", "name")
    def names(value: str, arguments: dict[str, str]) -> list[str]:
        assert threading.current_thread() is not threading.main_thread()
        return [arguments.get("country", "?") + value]

    @server.completion("city://{country}/{name}", "country")
    async def countries(begun: str, ctx: Context) -> list[str]:
        if begun == "fail":
            raise ValueError("planted")
        if begun == "sorry":
            raise ToolError("No such country.")
        return {"many": [str(n) for n in range(250)], "text": "text", "number": [1]}.get(begun, [ctx.protocol_version])

    return server


def complete(ref, name, value, *, server=None, version="2025-11-25", **params):
    typed = {"name": name, "value": value}
    return ask(server or make(), "completion/complete", {"ref": ref, "argument": typed, **params}, version=version)


PAINT = {"type": "ref/prompt", "name": "paint"}
CITY = {"type": "ref/resource", "uri": "city://{country}/{name}"}
DOCS = {"type": "ref/resource", "uri": "docs://{+path}"}
CHOICES = [
    ("color", "", ["Rose", "blue", "red"]),
    ("color", "R", ["Rose", "red"]),
    ("color", "x", []),
    ("size", "s", ["small"]),
    ("glossy", "T", ["true"]),
    ("note", "anything", []),
]
REFUSED = [
    ({"type": "ref/prompt", "name": "none"}, "x", "There is no prompt 'none' to complete."),
    ({"type": "ref/resource", "uri": "city://x"}, "x", "There is no resource template 'city://x' to complete."),
    (PAINT, "none", "paint has no argument 'none' to complete."),
    ({"type": "ref/resource", "uri": "city://all"}, "x", "city://all has no argument 'x' to complete."),
    ({"type": "ref/other", "name": "paint"}, "x", "Invalid params"),
    (None, "x", "Invalid params"),
]


@pytest.mark.parametrize(("argument", "begun", "values"), CHOICES)
def test_literal_enum_and_bool_arguments_complete_without_a_function(argument, begun, values):
    assert complete(PAINT, argument, begun)["result"] == {
        "completion": {"values": values, "total": len(values), "hasMore": False}
    }


@pytest.mark.parametrize("version", ["2025-11-25", "2026-07-28"])
def test_a_completer_gets_the_arguments_given_already(version):
    reply = complete(CITY, "name", "Par", version=version, context={"arguments": {"country": "fr"}})
    assert reply["result"]["completion"]["values"] == ["frPar"]
    assert ("resultType" in reply["result"]) == (version == "2026-07-28")
    assert complete(CITY, "name", "Par", version=version)["result"]["completion"]["values"] == ["?Par"]


def test_a_completer_may_take_the_context():
    assert complete(CITY, "country", "")["result"]["completion"]["values"] == ["2025-11-25"]


def test_at_most_a_hundred_values_are_sent_and_the_rest_is_counted():
    completion = complete(CITY, "country", "many")["result"]["completion"]
    assert completion == {"values": [str(n) for n in range(100)], "total": 250, "hasMore": True}


@pytest.mark.parametrize(("ref", "argument", "why"), REFUSED)
def test_what_does_not_exist_cannot_be_completed(ref, argument, why):
    error = complete(ref, argument, "")["error"]
    assert error["code"] == -32602
    assert why in error["message"]


@pytest.mark.parametrize("begun", ["fail", "text", "number"])
def test_a_completion_that_fails_is_logged_and_the_client_gets_an_error_id(begun, caplog):
    with caplog.at_level(logging.ERROR, "portway.server"):
        error = complete(CITY, "country", begun)["error"]
    assert error["code"] == -32603
    assert "planted" not in json.dumps(error)
    assert caplog.records[0].exc_info


def test_a_tool_error_reaches_the_client():
    assert complete(CITY, "country", "sorry")["error"]["message"] == "No such country."


def test_scopes_hold_for_completion_too():
    server = Server("scoped")

    @server.prompt(scopes=["paint"])
    def secret(color: Color) -> str:
        return str(color)

    params = {"ref": {"type": "ref/prompt", "name": "secret"}, "argument": {"name": "color", "value": ""}}
    assert ask(server, "completion/complete", params)["error"]["data"] == {"requiredScopes": ["paint"]}


def test_a_function_of_the_wrong_shape_is_refused_as_a_completer():
    server = make()
    with pytest.raises(RegistrationError, match="it takes the text typed so far"):
        server.completion("paint", "note")(make)
    with pytest.raises(RegistrationError, match="it takes the text typed so far"):
        server.completion("paint", "note")(lambda a, b, c: [])
    with pytest.raises(RegistrationError, match="There is no prompt or resource template 'none' to complete"):
        server.completion("none", "note")(lambda value: [])
    with pytest.raises(RegistrationError, match="'paint' has no argument 'none' to complete"):
        server.completion("paint", "none")(lambda value: [])


@pytest.mark.parametrize(("policy", "values"), [("ignore", ["first"]), ("replace", ["second"])])
def test_a_name_keeps_the_completer_of_the_component_that_has_it(policy, values, tmp_path):
    outer = Server("outer", on_duplicate=policy)
    inner = Server("inner")
    for server, own in ((outer, "first"), (inner, "second")):
        (tmp_path / own).mkdir()
        (tmp_path / own / own).touch()
        outer.add_folder("docs://{+path}", tmp_path / own)
        server.prompt(name="pick")(lambda name: name)
    outer.completion("pick", "name")(lambda value: ["first"])
    inner.completion("pick", "name")(lambda value: ["second"])
    outer.mount(inner)
    for ref, name in (({"type": "ref/prompt", "name": "pick"}, "name"), (DOCS, "path")):
        assert complete(ref, name, "", server=outer)["result"]["completion"]["values"] == values
