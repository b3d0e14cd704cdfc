"""No work on what a client sends grows faster than what it sends: measured by counts and by sizes of replies."""

from __future__ import annotations

import difflib
import threading
from typing import Any

import msgspec
import pydantic
import pytest

from portway import Server, testing
from portway.plans import jsonschema_validation
from portway.protocol.errors import PARSE_ERROR, RpcError
from tests.server.test_composition import in_client

MANY = {f"n{i}": i for i in range(20_000)}
LONG = "k" * 1_000_000


class Struct(msgspec.Struct, forbid_unknown_fields=True):
    a: int = 0


class Model(pydantic.BaseModel, extra="forbid"):
    a: int = 0
    rows: list[int] = []


def make_server() -> Server:
    server = Server("s")

    @server.tool
    def plain(
        a: int = 0, b: int = 0, c: int = 0, d: int = 0, e: int = 0, f: int = 0, struct: Struct | None = None
    ) -> None: ...

    @server.tool
    def model(model: Model) -> None: ...

    @server.tool(input_schema={"type": "object", "properties": {"a": {}}, "additionalProperties": False})
    def closed(a: int = 0) -> None: ...

    @server.tool(input_schema={"type": "object", "properties": {"a": {"type": "integer"}}})
    def opened(a: int = 0) -> None: ...

    @server.prompt
    def prompt(a: str = "") -> str:
        return a

    return server


CALLS = {
    "unknown names": ("plain", MANY),
    "a long name": ("plain", {LONG: 1}),
    "unknown names of a struct": ("plain", {"struct": MANY}),
    "a name like the words of an error": ("plain", {"struct": {" - at `$" * 50_000: 1}}),
    "unknown names of a model": ("model", {"model": MANY}),
    "wrong items of a model": ("model", {"model": {"rows": ["x"] * 50_000}}),
    "names beyond a closed schema": ("closed", MANY),
    "names beyond an open schema": ("opened", MANY),
    "a wrong argument that is large": ("plain", {"a": ["x"] * 200_000}),
}


@pytest.mark.parametrize(("tool", "arguments"), CALLS.values(), ids=CALLS)
def test_a_reply_names_at_most_ten_faults_and_seeks_near_names_for_those_alone(
    tool: str, arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    sought: list[str] = []
    original = difflib.get_close_matches

    def counted(word: str, *rest: Any, **options: Any) -> list[str]:
        sought.append(word)
        return original(word, *rest, **options)

    monkeypatch.setattr(difflib, "get_close_matches", counted)

    async def talk(client: testing.Client) -> Any:
        return await client.call_tool(tool, arguments)

    result = in_client(make_server(), talk)
    assert result.is_error
    assert len(sought) <= 10
    assert all(len(word) <= 100 for word in sought)
    assert result.text.count("; ") <= 10
    assert len(result.text) < 2500


def test_an_error_says_how_many_faults_it_does_not_name() -> None:
    async def talk(client: testing.Client) -> Any:
        return (await client.call_tool("plain", MANY)).text

    text = in_client(make_server(), talk)
    assert text.startswith("20000 arguments are wrong for plain: n0: unknown; ")
    assert text.endswith("n9: unknown; and 19990 more")


@pytest.mark.parametrize("method", ["tools/call", "prompts/get", "resources/read", "completion/complete", LONG])
def test_a_long_name_does_not_come_back_whole(method: str) -> None:
    server, replies = make_server(), []
    params: dict[str, Any] = {"name": LONG, "uri": f"a://{LONG}"}
    params |= {"ref": {"type": "ref/prompt", "name": LONG}, "argument": {"name": LONG, "value": LONG}}

    async def talk(client: testing.Client) -> None:
        with pytest.raises(RpcError) as refused:
            await client.request(method, params)
        replies.append(refused.value.message)

    if method == "completion/complete":
        server.completion("prompt", "a")(lambda value: [])
    in_client(server, talk)
    assert len(replies[0]) < 1000


WORK = {
    "many keywords": ({"type": "array", "items": {"type": "integer", "minimum": 0}}, [1] * 5000),
    "alternatives": ({"type": "array", "items": {"anyOf": [{"type": "null"}, {"const": 1}]}}, [1] * 5000),
    "items that must differ": ({"type": "array", "uniqueItems": True}, list(range(20_000))),
    "a pattern on a long text": ({"type": "string", "pattern": "^(a|b)*$"}, "a" * 70_000),
    "a pattern of names": ({"type": "object", "patternProperties": {"^a*$": {}}}, {"a" * 70_000: 1}),
}


@pytest.mark.parametrize(("schema", "value"), WORK.values(), ids=WORK)
def test_holding_arguments_to_a_schema_leaves_the_event_loop_and_is_bounded(
    schema: dict[str, Any], value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jsonschema_validation, "MAX_STEPS", 10_000)
    threads: list[threading.Thread] = []
    original = jsonschema_validation.GivenSchema.problems

    def noted(given: jsonschema_validation.GivenSchema, value: object) -> list[str]:
        threads.append(threading.current_thread())
        return original(given, value)

    monkeypatch.setattr(jsonschema_validation.GivenSchema, "problems", noted)
    server = Server("s")

    @server.tool(input_schema={"type": "object", "properties": {"value": schema}})
    def take(value: Any = None) -> str:
        return "taken"

    async def talk(client: testing.Client) -> list[str]:
        small = value[:3] if isinstance(value, list | str) else {"a": 1}
        return [(await client.call_tool("take", {"value": sent})).text for sent in (small, value)]

    small, large = in_client(server, talk)
    assert small == "taken"
    assert large == ("the arguments for take are wrong: too large or too complex to be validated against the schema")
    assert threads[0] is threading.main_thread()
    assert threads[1] is not threading.main_thread()


@pytest.mark.parametrize("number", ["1e999", "-1e999", "9" * 5000])
@pytest.mark.parametrize("tool", ["plain", "opened", "model"])
def test_a_number_out_of_range_is_a_result_that_names_the_argument_and_the_bound(number: str, tool: str) -> None:
    server = make_server()
    argument = {"plain": "a", "opened": "a", "model": "model"}[tool]
    raw = number if tool != "model" else f'{{"a": {number}}}'

    async def talk(client: testing.Client) -> Any:
        return await client.call_tool(tool, {argument: msgspec.Raw(raw.encode())})

    result = in_client(server, talk)
    assert result.is_error
    assert f"{argument}: a number is out of range (1.8e308, 4300 digits)" in result.text


@pytest.mark.parametrize("tool", ["plain", "opened", "model"])
def test_arguments_that_are_not_utf_8_are_a_parse_error(tool: str) -> None:
    async def talk(client: testing.Client) -> None:
        with pytest.raises(RpcError, match="The message is not valid JSON in UTF-8") as refused:
            await client.request("tools/call", {"name": tool, "arguments": msgspec.Raw(b'{"a": "\xff"}')})
        assert refused.value.code == PARSE_ERROR

    in_client(make_server(), talk)
