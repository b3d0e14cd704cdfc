"""Schemas of the author's own: served as written, and what is held to them, driven through compile_plan."""

import json
import tracemalloc
from typing import Annotated, Any

import pytest

from portway.exceptions import ArgumentError, OutputError, RegistrationError
from portway.plans.content import Image, ToolResult
from portway.plans.plan import Plan, compile_plan

SCHEMA = """{
  "$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object",
  "$defs": {"address": {"$anchor": "addr", "type": "object", "required": ["street"], "additionalProperties": false,
                        "properties": {"street": {"type": "string"}, "zip": {"type": ["string", "null"]}}}},
  "properties": {
    "name": {"type": "string", "minLength": 2, "title": " spaced  out "}, "n": {"minimum": 1, "type": "integer"},
    "home": {"$ref": "#/$defs/address"}, "work": {"$ref": "#addr"}, "weight": {"maximum": 1.50e2},
    "contact": {"anyOf": [{"type": "string"}, {"type": "integer"}]}, "unit": {"enum": ["m", "km"]}},
  "allOf": [{"not": {"required": ["name", "n"]}}],
  "if": {"properties": {"n": {"const": 5}}, "required": ["n"]}, "then": {"required": ["contact"]},
  "x-own": [1.0, 1E2, 12345678901234567890123, "\\u00e9"], "additionalProperties": false
}"""


class Context:
    pass


def whole(members: dict[str, Any]) -> dict[str, Any]:
    return members


def plan(fn=whole, given=None, output=None) -> Plan:
    return compile_plan(fn, context_type=Context, input_schema=given, output_schema=output)


def properties(**members: Any) -> dict[str, Any]:
    return {"type": "object", "properties": members, "required": list(members)}


def test_a_schema_given_as_text_is_served_with_its_members_order_and_numbers_as_written():
    served = plan(given=SCHEMA).input_schema.decode()
    literals: list[str] = []
    assert json.loads(served) == json.loads(SCHEMA)
    assert list(json.loads(served)) == list(json.loads(SCHEMA))
    for number in ("1.50e2", "1.0,1E2,12345678901234567890123", '"\\u00e9"', '" spaced  out "'):
        assert number in served
    json.loads(served, parse_float=literals.append)
    assert literals == ["1.50e2", "1.0", "1E2"]
    assert plan(given=json.loads(SCHEMA)).input_schema == plan(
        given=json.dumps(json.loads(SCHEMA))
    ).input_schema.replace(b"\\u00e9", "é".encode())


FAULTS = [
    ('{"name": 1}', "name: expected a string (at least 2 characters), got 1"),
    ('{"name": "x"}', 'name: expected a string (at least 2 characters), got "x"'),
    ('{"nam": "xx"}', "nam: unknown, did you mean name?"),
    ('{"n": 0}', "n: expected an integer (at least 1), got 0"),
    ('{"n": 5}', "contact: missing"),
    ('{"name": "xx", "n": 1}', 'arguments: does not fit the schema (not), got {"name":"xx","n":1}'),
    ('{"home": {}}', "home.street: missing (a string is required)"),
    ('{"work": {"street": "x", "zip": 1}}', "work.zip: expected a string or null, got 1"),
    ('{"home": {"street": "x", "stret": 1}}', "home.stret: unknown, did you mean street?"),
    ('{"contact": []}', "contact: expected a string or an integer, got []"),
    ('{"unit": "mi"}', 'unit: expected one of "m", "km", got "mi"'),
    (
        '{"name": 1, "home": 2, "zzz": 3}',
        "name: expected a string (at least 2 characters), got 1; home: expected an object",
    ),
    ("[1]", "expected an object, got [1]"),
    ('{"n": 1e999}', "n: a number is out of range (1.8e308, 4300 digits)"),
    ('{"n": ' + "[" * 3000 + "]" * 3000 + "}", "not readable as JSON"),
]


@pytest.mark.parametrize(("arguments", "problem"), FAULTS)
def test_all_that_is_wrong_with_the_arguments_is_named(arguments, problem):
    with pytest.raises(ArgumentError) as caught:
        plan(given=SCHEMA).bind(arguments.encode(), None)
    assert str(caught.value).startswith("the arguments for whole are wrong: ")
    assert problem in str(caught.value)


def test_one_error_names_at_most_ten_faults():
    schema = properties(rows={"type": "array", "items": {"type": "integer"}})
    with pytest.raises(ArgumentError) as caught:
        plan(lambda rows: rows, schema).bind(json.dumps({"rows": ["x"] * 1000}).encode(), None)
    assert len(caught.value.problems) == 10
    assert caught.value.problems[1] == 'rows[1]: expected an integer, got "x"'


def test_a_large_value_is_judged_in_time_and_memory_bounded_by_its_size():
    schema = properties(rows={"anyOf": [{"items": {"type": "integer"}}, {"type": "null"}], "uniqueItems": True})
    bind = plan(lambda rows: rows, schema).bind
    bind(json.dumps({"rows": list(range(20_000))}).encode(), None)
    tracemalloc.start()
    with pytest.raises(ArgumentError, match="rows: does not fit the schema"):
        bind(
            json.dumps({"rows": [{"n": n} for n in range(20_000)]}).encode(), None
        )  # quadratic, this would take minutes
    assert tracemalloc.get_traced_memory()[1] < 50_000_000
    tracemalloc.stop()


UNIQUE = ["[1, true, 0, false]", '[{"a": 1, "b": 2}, {"a": 2, "b": 1}]', '["1", 1]', "[[1], [1, 1]]"]
EQUAL = ["[1, 1.0]", '[{"a": 1, "b": [2]}, {"b": [2.0], "a": 1}]', "[null, null]", '["x", "x"]']


@pytest.mark.parametrize(("rows", "unique"), [(rows, True) for rows in UNIQUE] + [(rows, False) for rows in EQUAL])
def test_items_are_unique_as_json_has_it(rows, unique):
    bind = plan(lambda rows: rows, properties(rows={"uniqueItems": True})).bind
    if unique:
        bind(f'{{"rows": {rows}}}'.encode(), None)
        return
    with pytest.raises(ArgumentError, match=r"rows: does not fit the schema \(uniqueItems\)"):
        bind(f'{{"rows": {rows}}}'.encode(), None)


def test_of_alternatives_that_exclude_each_other_one_must_fit():
    bind = plan(lambda n: n, properties(n={"oneOf": [{"type": "integer"}, {"minimum": 2}]})).bind
    assert bind(b'{"n": 1}', None)[1] == {"n": 1}
    for wrong in (b'{"n": 2}', b'{"n": 1.5}'):
        with pytest.raises(ArgumentError, match="n: expected an integer"):
            bind(wrong, None)


def test_members_become_keyword_arguments_or_one_dict():
    def keywords(a: int, context: Context, b: str = "b") -> None: ...

    def closed(options: Annotated[dict, "all of them"], *, context: Context) -> None: ...

    context = Context()
    assert plan(keywords, properties(a={})).bind(b'{"a": [1]}', context) == ((), {"a": [1], "context": context})
    assert plan(closed, properties(a={})).bind(b'{"a": 1}', context) == ((), {"options": {"a": 1}, "context": context})
    assert plan(closed, properties(options={})).bind(b'{"options": 1}', context)[1]["options"] == 1
    assert plan(lambda: 0, {"type": "object"}).bind(None, None) == ((), {})
    with pytest.raises(ArgumentError, match="c: unknown"):
        plan(keywords, properties(a={})).bind(b'{"a": 1, "c": 1}', context)


def deep(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(levels):
        schema = {"not": schema}
    return {"type": "object", **schema}


REFUSED = [
    ("[]", "whole: input_schema must be an object."),
    ("{", "whole: input_schema is not JSON"),
    ({"type": "object", "default": float("nan")}, "input_schema holds NaN or an infinity, which JSON cannot express"),
    (True, "whole: input_schema must be an object."),
    ('{"type": "object", "default": "\\ud800"}', "whole: input_schema is not JSON"),
    ({"type": "string"}, 'must have "type": "object" at its top, as MCP asks of tools.'),
    (
        {"type": "object", "properties": {"a": {"$ref": "https://x/y"}}},
        'refers to "https://x/y", and nothing is ever fetched',
    ),
    (
        {"type": "object", "allOf": [{"$ref": "other.json#/a"}]},
        "nothing is ever fetched; copy what that names into $defs.",
    ),
]


@pytest.mark.parametrize(("schema", "why"), REFUSED)
def test_a_schema_that_cannot_be_held_to_is_refused_at_registration(schema, why):
    with pytest.raises(RegistrationError) as caught:
        plan(given=schema)
    assert why in str(caught.value)


REFUSED_WHEN_USED = [  # only the library sees these, and it is not imported before it is needed
    ({"type": "object", "properties": {"a": {"type": "strin"}}}, "is no valid JSON Schema: at properties.a.type"),
    ({"type": "object", "properties": {"a": {"pattern": "("}}}, "is no valid JSON Schema: at properties.a.pattern"),
    ({"type": "object", "allOf": [{"$ref": "#/$defs/a"}]}, 'refers to "#/$defs/a", which is not in it.'),
    ({"type": "object", "$ref": "#"}, "is nested too deeply, or refers to itself without end."),
    (deep(300), "is nested too deeply, or refers to itself without end."),
]


@pytest.mark.parametrize(("schema", "why"), REFUSED_WHEN_USED)
def test_a_schema_that_means_nothing_is_refused_at_the_first_call(schema, why):
    bind = plan(given=schema).bind
    for _ in range(2):
        with pytest.raises(RegistrationError) as caught:
            bind(b"{}", None)
        assert why in str(caught.value)


def test_a_function_that_its_schema_does_not_fit_is_refused_at_registration():
    def add(a: int, b: int) -> int:
        return a + b

    with pytest.raises(
        RegistrationError, match="add: input_schema has the member 'c', but the function has no such parameter"
    ):
        plan(add, properties(a={}, b={}, c={}))
    with pytest.raises(RegistrationError, match="add: input_schema does not require 'b'; give it a default"):
        plan(add, properties(a={}))


DIALECTS = [  # in each, a keyword that the others do not have
    ("http://json-schema.org/draft-07/schema#", {"items": [{"type": "integer"}], "additionalItems": False}),
    ("https://json-schema.org/draft/2019-09/schema", {"items": [{"type": "integer"}], "additionalItems": False}),
    ("https://json-schema.org/draft/2020-12/schema", {"prefixItems": [{"type": "integer"}], "items": False}),
    (None, {"prefixItems": [{"type": "integer"}], "items": False}),
]


@pytest.mark.parametrize(("dialect", "rows"), DIALECTS)
def test_the_dialect_that_a_schema_names_is_the_one_it_is_read_in(dialect, rows):
    schema = properties(rows=rows) | ({"$schema": dialect} if dialect else {})
    bind = plan(lambda rows: rows, schema).bind
    assert bind(b'{"rows": [1]}', None) == ((), {"rows": [1]})
    for wrong in (b'{"rows": ["x"]}', b'{"rows": [1, 2]}'):
        with pytest.raises(ArgumentError):
            bind(wrong, None)


def test_an_unknown_dialect_is_read_as_2020_12():
    schema = properties(rows={"prefixItems": [{"type": "integer"}]}) | {"$schema": "https://example.com/own"}
    with pytest.raises(ArgumentError, match=r"rows\[0\]: expected an integer"):
        plan(lambda rows: rows, schema).bind(b'{"rows": ["x"]}', None)


def test_a_reference_to_nothing_is_an_error_of_the_schema_when_a_value_reaches_it():
    bind = plan(given={"type": "object", "properties": {"a": {"$ref": "#address"}}}).bind
    assert bind(b"{}", None)[1] == {"members": {}}
    with pytest.raises(RegistrationError, match='refers to "#address", which is not in it'):
        bind(b'{"a": 1}', None)


def test_what_only_looks_like_a_reference_is_data():
    schema = properties(**{"$ref": {"type": "string", "default": {"$ref": "https://x/y"}}})
    assert plan(given=schema).bind(b'{"$ref": "x"}', None)[1] == {"members": {"$ref": "x"}}


def test_references_are_resolved_within_the_subschema_that_has_its_own_id():
    inner = {
        "$id": "https://x.example/inner",
        "$defs": {"b": {"type": "integer"}},
        "properties": {"b": {"$ref": "#/$defs/b"}},
    }
    with pytest.raises(ArgumentError, match=r"a\.b: expected an integer"):
        plan(given=properties(a=inner)).bind(b'{"a": {"b": "x"}}', None)


def test_without_an_output_schema_the_return_annotation_gives_one():
    def count(args: dict) -> list[int]: ...

    made = plan(count, {"type": "object"})
    assert json.loads(made.output_schema)["properties"]["result"]["items"] == {"type": "integer"}
    assert made.encode([1]).structured == b'{"result":[1]}'
    assert plan(lambda: 0, {"type": "object"}).output_schema is None


def test_without_an_input_schema_the_parameters_give_one():
    def scale(factor: int = 2) -> Any: ...

    made = plan(scale, None, {"type": ["integer", "null"]})
    assert json.loads(made.input_schema)["properties"] == {"factor": {"type": "integer", "default": 2}}
    assert made.bind(b'{"factor": "3"}', None) == ((3,), {})


def test_a_result_is_held_to_the_output_schema_and_sent_as_it_is():
    made = plan(whole, None, '{"type": "array", "items": {"type": "integer"}}')
    assert made.output_schema == b'{"type":"array","items":{"type":"integer"}}'
    assert (made.encode([1, 2]).structured, made.encode([1, 2]).content) == (
        b"[1,2]",
        b'[{"type":"text","text":"[1,2]"}]',
    )
    assert made.encode(ToolResult(content="one", structured=[1])).structured == b"[1]"
    for wrong in (["x"], {"a": 1}, None, Image(data=b""), ToolResult(content="x"), ToolResult(structured=["x"])):
        with pytest.raises(OutputError):
            made.encode(wrong)
    with pytest.raises(OutputError, match=r'whole broke its output_schema: result\[0\]: expected an integer, got "x"'):
        made.encode(["x"])


def test_an_error_result_is_not_held_to_the_output_schema():
    assert plan(whole, None, {"type": "object", "required": ["a"]}).encode(ToolResult("no", is_error=True)).is_error


def test_a_null_that_the_schema_allows_is_sent_and_shown():
    encoded = plan(whole, None, {"type": "null"}).encode(None)
    assert (encoded.structured, encoded.content) == (b"null", b'[{"type":"text","text":"null"}]')
