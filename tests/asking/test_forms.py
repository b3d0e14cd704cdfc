"""Forms: the schema of a Python type, and the value an answer is converted to."""

from __future__ import annotations

import datetime as dt
import enum
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypedDict

import mcp_types._v2026_07_28 as wire
import msgspec
import pydantic
import pytest

from portway import RegistrationError
from portway.asking.forms import Unfit, form_of

NEW, OLD = "2026-07-28", "2025-06-18"
FIELDS = (
    wire.BooleanSchema,
    wire.NumberSchema,
    wire.TitledMultiSelectEnumSchema,
    wire.UntitledMultiSelectEnumSchema,
    wire.TitledSingleSelectEnumSchema,
    wire.UntitledSingleSelectEnumSchema,
    wire.LegacyTitledEnumSchema,
    wire.StringSchema,
)


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


Size = Annotated[Literal["s", "l"], {"s": "Small", "l": "Large"}]


@dataclass
class Booking:
    """A table.

    Args:
        color: of the cloth
    """

    name: Annotated[str, "Who comes"]
    guests: Annotated[int, msgspec.Meta(ge=1, le=8, title="Guests")]
    nick: str | None
    color: Color = Color.BLUE
    size: Size = "s"
    extras: list[Literal["wine", "bread"]] = field(default_factory=list)
    day: dt.date = dt.date(2026, 1, 31)
    at: dt.datetime | None = None
    price: float = 9.5
    quiet: bool = True


class Person(pydantic.BaseModel):
    mail: str = pydantic.Field(alias="eMail", json_schema_extra={"format": "email"}, max_length=30)
    age: int | None = pydantic.Field(default=None, ge=0)
    size: Size = "l"


class Note(TypedDict, total=False):
    text: str


VERBATIM = {
    "type": "object",
    "properties": {
        "plan": {"type": "string", "enum": ["a", "b"], "enumNames": ["A", "B"]},
        "many": {"type": "array", "items": {"anyOf": [{"const": "x", "title": "X"}]}, "maxItems": 1},
        "count": {"type": "integer", "minimum": 2, "default": 3},
        "mail": {"type": "string", "format": "email", "minLength": 3},
    },
    "required": ["plan"],
}


def test_a_class_becomes_a_flat_object_in_the_keywords_of_the_specification() -> None:
    assert form_of(Booking, "value").schema(NEW) == {
        "type": "object",
        "properties": {
            "name": {"type": "string", "description": "Who comes"},
            "guests": {"type": "integer", "minimum": 1, "maximum": 8, "title": "Guests"},
            "nick": {"type": "string"},
            "color": {"type": "string", "enum": ["red", "blue"], "default": "blue", "description": "of the cloth"},
            "size": {
                "type": "string",
                "oneOf": [{"const": "s", "title": "Small"}, {"const": "l", "title": "Large"}],
                "default": "s",
            },
            "extras": {"type": "array", "items": {"type": "string", "enum": ["wine", "bread"]}},
            "day": {"type": "string", "format": "date", "default": "2026-01-31"},
            "at": {"type": "string", "format": "date-time"},
            "price": {"type": "number", "default": 9.5},
            "quiet": {"type": "boolean", "default": True},
        },
        "required": ["name", "guests"],
    }
    assert form_of(Person, "value").schema(NEW) == {
        "type": "object",
        "properties": {
            "eMail": {"type": "string", "maxLength": 30, "format": "email"},
            "age": {"type": "integer", "minimum": 0},
            "size": {
                "type": "string",
                "oneOf": [{"const": "s", "title": "Small"}, {"const": "l", "title": "Large"}],
                "default": "l",
            },
        },
        "required": ["eMail"],
    }


def test_before_2025_11_25_only_booleans_have_defaults_and_titles_become_enum_names() -> None:
    fields = form_of(Booking, "value").schema(OLD)["properties"]
    assert {name for name, schema in fields.items() if "default" in schema} == {"quiet"}
    assert fields["size"] == {"type": "string", "enum": ["s", "l"], "enumNames": ["Small", "Large"]}


@pytest.mark.parametrize(
    ("kind", "schema", "value"),
    [
        (str, {"type": "string"}, "x"),
        (bool, {"type": "boolean"}, False),
        (float | None, {"type": "number"}, 1.5),
        (dt.date, {"type": "string", "format": "date"}, dt.date(2026, 1, 2)),
        (Annotated[int, "How many"], {"type": "integer", "description": "How many"}, 3),
        (Literal["b", "a"], {"type": "string", "enum": ["b", "a"]}, "a"),
        (Literal["a", "b"], {"type": "string", "enum": ["a", "b"]}, "a"),
        (Color, {"type": "string", "enum": ["red", "blue"]}, Color.RED),
        (
            Annotated[list[Color], {Color.RED: "Red!"}],
            {
                "type": "array",
                "items": {"anyOf": [{"const": "red", "title": "Red!"}, {"const": "blue", "title": "blue"}]},
            },
            [Color.BLUE],
        ),
    ],
)
def test_a_type_that_is_no_object_becomes_the_only_field(kind: Any, schema: dict[str, Any], value: object) -> None:
    form = form_of(kind, "field")
    assert form.schema(NEW)["properties"] == {"field": schema}
    assert form.read({"field": msgspec.to_builtins(value)}) == value


def test_every_field_is_one_the_specification_knows() -> None:
    for kind in (Booking, Person, Note, VERBATIM, Color, set[Size], Annotated[str, msgspec.Meta(pattern="^a")]):
        for version in (NEW, OLD):
            for schema in form_of(kind, "value").schema(version)["properties"].values():
                readings = []
                for model in FIELDS:
                    try:
                        readings.append(model.model_validate(schema).model_dump(by_alias=True, exclude_unset=True))
                    except pydantic.ValidationError:
                        continue
                assert schema in readings


def test_a_schema_given_as_a_dict_is_served_unchanged_and_checked() -> None:
    form = form_of(VERBATIM, "value")
    assert form.schema(NEW) == VERBATIM
    assert form.read({"plan": "a", "many": ["x"]}) == {"plan": "a", "many": ["x"]}
    assert form.since == "2025-11-25"
    for content in ({"plan": "A"}, {}, {"plan": "a", "count": 1}, {"plan": "a", "many": ["x", "x"]}):
        with pytest.raises(Unfit):
            form.read(content)


def test_an_answer_becomes_the_type_with_defaults_and_nulls_filled_in() -> None:
    answer = form_of(Booking, "value").read({"name": "Ada", "guests": 2, "color": "red", "extras": ["wine"]})
    assert answer == Booking("Ada", 2, None, Color.RED, extras=["wine"])
    assert form_of(Person, "value").read({"eMail": "a@b"}) == Person(eMail="a@b")
    assert form_of(Note, "value").read({}) == {}
    assert form_of(None, "value").read({"stray": 1}) is None
    assert form_of(int | None, "value").read({}) is None


@pytest.mark.parametrize(
    ("kind", "content", "said"),
    [
        (Booking, {"name": 1, "guests": 2}, "name: expected a string, got 1"),
        (Booking, {"guests": 2}, "name: missing (a string is required)"),
        (Booking, {"name": "x", "guests": 9}, "guests: expected an integer (at least 1 and at most 8), got 9"),
        (Person, {"eMail": "a", "age": "old"}, 'age: expected an integer (at least 0) or null, got "old"'),
        (int, {}, "value: missing (an integer is required)"),
        (int, {"value": [1]}, "value: expected an integer, got [1]"),
        (Color, {"value": "green"}, 'value: expected one of "blue", "red", got "green"'),
    ],
)
def test_content_that_does_not_fit_is_named(kind: Any, content: dict[str, object], said: str) -> None:
    with pytest.raises(Unfit) as refused:
        form_of(kind, "value").read(content)
    assert said in str(refused.value)


@dataclass
class Nested:
    inner: Booking


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (
            Nested,
            "The form Nested: inner cannot be a field of a form; a form holds text, numbers, booleans, dates, and",
        ),
        (list[str], "The form list[str]: value cannot be a field of a form"),
        (dict[str, int], "The form dict[str, int]: value cannot be"),
        (Literal[1, 2], "The form Literal[1, 2]: value cannot be"),
        (Any, "The form Any: value cannot be"),
        (str | int, "value cannot be a field of a form"),
        ({"type": "object", "properties": {"a": {"type": "object"}}}, "The form: a cannot be a field of a form"),
        ({"type": "object", "properties": {"a": True}}, "The form: a cannot be a field of a form"),
        ({"type": "string"}, 'The form is no requestedSchema: it needs "type": "object" and "properties".'),
    ],
)
def test_a_type_no_form_can_hold_is_refused_with_its_field_and_the_fix(kind: Any, said: str) -> None:
    with pytest.raises(RegistrationError) as refused:
        form_of(kind, "value")
    assert said in str(refused.value)
