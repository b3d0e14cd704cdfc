"""How results become content and structured content, and what schemas say, driven through compile_plan."""

import base64
import collections
import dataclasses
import datetime as dt
import decimal
import json
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Optional, TypedDict

import jsonschema
import msgspec
import pydantic
import pytest

from portway.exceptions import OutputError
from portway.plans.content import (
    Annotations,
    Audio,
    EmbeddedResource,
    Image,
    ResourceContents,
    ResourceLink,
    Text,
    ToolResult,
)
from portway.plans.plan import Plan, compile_plan
from portway.plans.signature import EMPTY, parse_docstring

PNG = b"\x89PNG"


@dataclasses.dataclass
class Weather:
    city: str
    degrees: float = 20.0


@dataclasses.dataclass
class Node:
    value: int
    children: list["Node"] = dataclasses.field(default_factory=list)


class Row(TypedDict):
    x: int


class Pair(NamedTuple):
    a: int
    b: str = "z"


class Record(msgspec.Struct):
    a: int


class Model(pydantic.BaseModel):
    a: int = pydantic.Field(serialization_alias="A", title="The a")


class Measured(pydantic.BaseModel):
    degrees: float | None


class Shout(str):
    __slots__ = ()


def returning(annotation: Any = EMPTY) -> Plan:
    def f(): ...

    if annotation is not EMPTY:
        f.__annotations__["return"] = annotation
    return compile_plan(f, context_type=Plan)


DECLARED = [  # declared type, result, structured content, text (None: the JSON of the result itself)
    (str, 'say "hé"', {"result": 'say "hé"'}, 'say "hé"'),
    (str, Shout("x"), {"result": "x"}, "x"),
    (int, 3, {"result": 3}, "3"),
    (float, 1, {"result": 1.0}, "1.0"),
    (bool, True, {"result": True}, "true"),
    (Optional[int], None, {"result": None}, ""),  # noqa: UP045 - the older spelling counts too
    (list[int], (1, 2), {"result": [1, 2]}, "[1,2]"),
    (set[int], {1}, {"result": [1]}, "[1]"),
    (list[Weather], [Weather("Rome")], {"result": [{"city": "Rome", "degrees": 20.0}]}, None),
    (Pair, Pair(1), {"result": [1, "z"]}, '[1,"z"]'),
    (dt.datetime, dt.datetime(2026, 1, 31), {"result": "2026-01-31T00:00:00"}, "2026-01-31T00:00:00"),  # noqa: DTZ001
    (decimal.Decimal, decimal.Decimal("1.50"), {"result": "1.50"}, "1.50"),
    (bytes, b"abc", {"result": "YWJj"}, "YWJj"),
    (dict, {"a": 1}, {"a": 1}, '{"a":1}'),
    (dict, collections.defaultdict(int, a=1), {"a": 1}, '{"a":1}'),
    (dict[str, Any], {"a": [Weather("Rome")]}, {"a": [{"city": "Rome", "degrees": 20.0}]}, None),
    (dict[str, int], {"a": 1}, {"a": 1}, None),
    (dict[str, float | None], {"a": None, "b": 1.5}, {"a": None, "b": 1.5}, None),
    (Measured, Measured(degrees=None), {"degrees": None}, None),
    (dict | None, {"a": 1}, {"result": {"a": 1}}, '{"a":1}'),
    (Weather, Weather("Rome", 1.5), {"city": "Rome", "degrees": 1.5}, None),
    (Weather, {"city": "Rome"}, {"city": "Rome", "degrees": 20.0}, None),
    (Node, Node(1, [Node(2)]), {"value": 1, "children": [{"value": 2, "children": []}]}, None),
    (Row, {"x": 1}, {"x": 1}, None),
    (Record, Record(1), {"a": 1}, None),
    (Model, Model(a=1), {"A": 1}, None),
    (Model, {"a": 1}, {"A": 1}, None),
    (list[Model], [Model(a=1)], {"result": [{"A": 1}]}, None),
    (Path, Path("/a"), {"result": "/a"}, "/a"),
]


@pytest.mark.parametrize(("annotation", "result", "structured", "text"), DECLARED)
def test_a_declared_result_conforms_to_its_schema_and_is_mirrored_as_text(annotation, result, structured, text):
    plan = returning(annotation)
    encoded = plan.encode(result)
    assert json.loads(encoded.structured) == structured
    schema = json.loads(plan.output_schema)
    assert schema["type"] == "object"
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(structured, schema)
    content = json.loads(encoded.content)
    if text is None:
        data = structured.get("result", structured)
        assert json.loads(content[0]["text"]) == data
    else:
        assert content == ([{"type": "text", "text": text}] if text else [])


@pytest.mark.parametrize(
    ("annotation", "result"),
    [
        (int, "x"),
        (int, True),
        (int, None),
        (float, float("nan")),
        (dict[str, float | None], {"a": None, "b": float("inf")}),
        (list[Measured], [Measured(degrees=float("nan"))]),
        (str, 3),
        (str, "\ud800"),
        (dict, [1]),
        (dict, Record(1)),
        (dict[str, int], {"a": "x"}),
        (dict[str, Any], {"a": object()}),
        (list[int], ["x"]),
        (list[int], None),
        (Weather, 3),
        (Row, {"x": "a"}),
        (Literal["a"], "b"),
        (Annotated[int, msgspec.Meta(ge=3)], 1),
        (Model, {"a": "x"}),
        (Path, 3),
        (EMPTY, object()),
        (Weather, ToolResult("no structured")),
        (int, ToolResult("x", {"result": "a"})),
        (int, ToolResult("x", {"other": 1})),
        (EMPTY, ToolResult(structured=[1])),
    ],
)
def test_a_result_that_breaks_the_promise_is_never_sent(annotation, result):
    with pytest.raises(OutputError, match=r"\bf\b"):
        returning(annotation).encode(result)


def text(*parts: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": part} for part in parts]


IMAGE = {"type": "image", "mimeType": "image/png", "data": base64.b64encode(PNG).decode()}

UNDECLARED = [  # annotation, result, content, structured content
    (EMPTY, None, [], None),
    (None, None, [], None),
    (EMPTY, "x", text("x"), None),
    (Any, 3, text("3"), None),
    (Any, {"a": 1}, text('{"a":1}'), {"a": 1}),
    (EMPTY, [1, {"a": 2}], text('[1,{"a":2}]'), None),
    (EMPTY, Weather("Rome"), text('{"city":"Rome","degrees":20.0}'), {"city": "Rome", "degrees": 20.0}),
    (EMPTY, Model(a=1), text('{"A":1}'), {"A": 1}),
    (EMPTY, [Model(a=1)], text('[{"A":1}]'), None),
    (list, [1], text("[1]"), None),
    (Text, Text("x"), text("x"), None),
    (Image, Image(data=PNG), [IMAGE], None),
    (str | Image, "x", text("x"), None),
    (list[Text | Image], [Text("x"), Image(data=PNG)], [*text("x"), IMAGE], None),
    (list[Any], ["a", 1, None, {"k": 2}, Image(data=PNG)], [*text("a", "1", '{"k":2}'), IMAGE], None),
    (EMPTY, Audio(data=b"", format="mp3"), [{"type": "audio", "mimeType": "audio/mpeg", "data": ""}], None),
    (
        EMPTY,
        ResourceLink("a://b", "b", size=3, meta={"k": 1}),
        [{"type": "resource_link", "uri": "a://b", "name": "b", "size": 3, "_meta": {"k": 1}}],
        None,
    ),
    (
        EMPTY,
        EmbeddedResource(ResourceContents("a://b", "text/plain", ""), annotations=Annotations(["user"], 0.5)),
        [
            {
                "type": "resource",
                "resource": {"uri": "a://b", "mimeType": "text/plain", "text": ""},
                "annotations": {"audience": ["user"], "priority": 0.5},
            }
        ],
        None,
    ),
    (ToolResult, ToolResult("x", {"a": 1}), text("x"), {"a": 1}),
    (ToolResult, ToolResult(structured={"a": 1}), text('{"a":1}'), {"a": 1}),
    (ToolResult, ToolResult([Text("x"), "y"]), text("x", "y"), None),
    (ToolResult, ToolResult(["x", "y", 1]), text("x", "y", "1"), None),
    (ToolResult, ToolResult([]), [], None),
    (Record, ToolResult("x", Record(1)), text("x"), {"a": 1}),
    (int, ToolResult("x", {"result": 1}), text("x"), {"result": 1}),
]


@pytest.mark.parametrize(("annotation", "result", "content", "structured"), UNDECLARED)
def test_content_and_undeclared_results_go_out_as_they_are(annotation, result, content, structured):
    encoded = returning(annotation).encode(result)
    assert json.loads(encoded.content) == content
    assert (encoded.structured and json.loads(encoded.structured)) == structured


def test_content_any_and_bare_lists_promise_no_output_schema():
    for annotation in (EMPTY, None, Any, object, list, tuple, list[Any], Image, Image | None, str | Text, ToolResult):
        assert returning(annotation).output_schema is None


def test_an_explicit_error_result_needs_no_structured_content():
    encoded = returning(Weather).encode(ToolResult("no such city", is_error=True, meta={"retry": False}))
    assert (json.loads(encoded.content), encoded.structured) == (text("no such city"), None)
    assert (encoded.is_error, encoded.meta) == (True, b'{"retry":false}')


def test_media_take_their_type_from_the_file_and_fail_where_they_are_made(tmp_path):
    (tmp_path / "a.JPG").write_bytes(PNG)
    assert Image(path=tmp_path / "a.JPG").block.mime_type == "image/jpeg"
    assert Audio(data=b"").block.mime_type == "audio/wav"
    with pytest.raises(FileNotFoundError):
        Image(path=tmp_path / "none.png")
    with pytest.raises(ValueError, match="Image takes either a path or data"):
        Image()
    with pytest.raises(ValueError, match="either text or blob"):
        ResourceContents("a://b")


def test_an_input_schema_says_what_the_author_said_and_nothing_invented():
    def tool(
        where: Annotated[str, "The city"],
        near: Weather,
        days: Annotated[int, msgspec.Meta(ge=1, title="Days ahead")] = 3,
        mode: Literal["a", "b"] = "a",
        when: dt.datetime | None = None,
    ): ...

    schema = json.loads(compile_plan(tool, context_type=Plan).input_schema)
    assert schema == {
        "type": "object",
        "properties": {
            "where": {"type": "string", "description": "The city"},
            "near": {
                "type": "object",
                "properties": {"city": {"type": "string"}, "degrees": {"type": "number", "default": 20.0}},
                "required": ["city"],
            },
            "days": {"type": "integer", "minimum": 1, "title": "Days ahead", "default": 3},
            "mode": {"type": "string", "enum": ["a", "b"], "default": "a"},
            "when": {"anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}], "default": None},
        },
        "required": ["where", "near"],
        "additionalProperties": False,
    }
    assert returning().input_schema == b'{"type":"object","properties":{},"additionalProperties":false}'


@pytest.mark.parametrize("extra", [int, Path], ids=["msgspec", "pydantic"])
def test_recursive_types_keep_their_definitions_and_the_rest_is_inlined(extra):
    def tool(tree: Node, weather: Weather, other: extra): ...  # type: ignore[valid-type]

    schema = json.loads(compile_plan(tool, context_type=Plan).input_schema)
    assert list(schema["$defs"]) == ["Node"]
    assert schema["properties"]["weather"]["properties"]["city"] == {"type": "string"}
    validator = jsonschema.Draft202012Validator(schema)
    weather = {"city": "Rome"}
    assert validator.is_valid({"tree": {"value": 1, "children": [{"value": 2}]}, "weather": weather, "other": 1}) == (
        extra is int
    )
    assert not validator.is_valid({"tree": {"value": 1, "children": [{}]}, "weather": weather, "other": 1})


def test_arguments_named_like_schema_keywords_stay_arguments():
    def tool(enum: Weather, default: Weather, type: str, const: Literal["a"], required: int): ...  # noqa: A002

    schema = json.loads(compile_plan(tool, context_type=Plan).input_schema)
    assert list(schema["properties"]) == ["enum", "default", "type", "const", "required"]
    sent = {"enum": {"city": "Rome"}, "default": {"city": "Rome"}, "type": "x", "const": "a", "required": 1}
    jsonschema.validate(sent, schema)


def test_definitions_that_would_explode_when_inlined_stay_shared():
    layer: Any = Weather
    for depth in range(12):
        layer = dataclasses.make_dataclass(f"Layer{depth}", [("a", layer), ("b", layer)])
    plan = returning(layer)
    assert len(plan.output_schema) < 4000
    jsonschema.Draft202012Validator.check_schema(json.loads(plan.output_schema))


def test_docstrings_give_the_description_and_the_text_of_parameters():
    google = """Finds things.

Args:
    query (str): What to
        find.
    limit: How many.

Returns:
    A list."""
    sphinx = "Finds things.\n\n:param query: What to\n    find.\n:param int limit: How many.\n:type limit: int\n"
    parameters = {"query": "What to find.", "limit": "How many."}
    assert parse_docstring(google) == ("Finds things.\n\nReturns:\n    A list.", parameters)
    assert parse_docstring(sphinx) == ("Finds things.", parameters)
    assert parse_docstring("Only a line: here.") == ("Only a line: here.", {})
    assert parse_docstring(None) == (None, {})
