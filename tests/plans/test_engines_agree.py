"""What arguments are read as, with pydantic (JSON, lax) as the judge: the same, or a difference with its reason."""

import dataclasses
import datetime as dt
import decimal
import enum
import json
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, Literal, NamedTuple, NotRequired, Optional, TypeVar

import pydantic
import pytest
from typing_extensions import TypedDict

from portway.exceptions import ArgumentError
from portway.plans import engines
from portway.plans.faults import Refused
from portway.plans.plan import compile_plan
from portway.plans.signature import Parameter

T = TypeVar("T")


class Model(pydantic.BaseModel):
    a: int


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Word(enum.StrEnum):
    A = "a"
    TRUE = "true"


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0
    label: str | None = None


@dataclasses.dataclass
class Figure:
    points: list[Point]
    center: Point = dataclasses.field(default_factory=lambda: Point(0))
    tags: dict[str, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class Money:
    amount: decimal.Decimal
    currency: Literal["EUR", "USD"] = "EUR"


@dataclasses.dataclass
class Page(Generic[T]):
    items: list[T]
    next: str | None = None


class Pair(NamedTuple):
    a: int
    b: str = "z"


class Options(TypedDict):
    depth: int
    label: NotRequired[str]


class Partial(TypedDict, total=False):
    when: dt.date


@dataclasses.dataclass
class Tree:
    value: int
    children: list["Tree"] = dataclasses.field(default_factory=list)


NUMBERS = ["0", "1", "-3", "1.0", "1.5", '"1"', '"1.0"', "true", '"x"', "null"]
LARGE = [
    "9007199254740993",
    "1e3",
    "1e400",
    "1e-7",
    "18446744073709551616",
    '"9007199254740993"',
    "0.1",
    "-1e30",
    '"inf"',
    '"1e3"',
]
TEXTS = ['"x"', '""', '"1"', '"true"', '"null"', '"\\u00e9"', '"-1.5"', "true", "null", '["x"]']
FLAGS = ["true", "false", '"true"', '"False"', '"1"', '"0"', '"yes"', '"off"', "1", "0"]
LISTS = ["[]", "[1]", '["1"]', "[1, 2]", "[1, 1]", "[null]", "[1.5]", '["x", "y"]', "{}", '"[1]"']
OBJECTS = ["{}", '{"a": 1}', '{"a": "1"}', '{"1": 2}', '{"a": null}', '{"a": [1]}', '{"a": 1.5}', "[]", "1", "null"]
COLORS = ['"red"', '"RED"', '"blue"', '""', "1", "null", '"null"', '["red"]', "true", '"x"']
POINTS = ['{"x": 1}', '{"x": "1"}', '{"x": 1, "y": 2}', '{"x": 1, "label": null}', '{"x": 1, "label": "l"}']
POINTS += ['{"x": 1, "other": 2}', "{}", '{"x": null}', "[1, 2]", '"x"']
TREES = [
    '{"value": 1}',
    '{"value": 1, "children": []}',
    '{"value": 1, "children": [{"value": 2}]}',
    '{"value": "1"}',
    "{}",
]
TREES += ["[]", '{"value": 1, "children": null}', '{"value": 1, "children": [{}]}', "null", "1"]
DEPTHS = [
    '{"depth": 1}',
    '{"depth": "1"}',
    '{"depth": 1, "label": "l"}',
    '{"depth": 1, "label": null}',
    "{}",
    "[]",
    "null",
]
DEPTHS += ['{"depth": 1, "other": 2}', '{"label": "l"}', '{"depth": 1.0}']
PAIRS = ["[]", "[1]", '[1, "x"]', '["1", "x"]', "[1, 2]", '[1, "x", 3]', '[1.0, "x"]', "{}", "null", '"[]"']
FINE = '"2026-01-31T12:30:00.1234567Z"'
DATES = ['"2026-01-31"', '"2026-01-31T00:00:00"', '"2026-01-31T12:30:00Z"', '"2026-01-31T12:30:00.123456+02:00"', FINE]
DATES += ['"2026-01-31 12:30:00"', '"1700000000"', "1700000000", "1700000000.5", "1700000000123"]
TIMES = [
    '"12:30:00"',
    '"12:30"',
    '"12:30:00.5"',
    '"12:30:00Z"',
    '"12:30:00+02:00"',
    '"24:00"',
    "45000",
    '"x"',
    "null",
    "[]",
]
SPANS = ['"PT90S"', '"P1D"', '"P1DT2H"', '"-PT1S"', '"00:01:30"', "90", "1.5", '"90"', '"PT0.123456S"', "null"]
EXACT = "12345678901234567890.123456789"
DECIMALS = ["1", "1.50", '"1.50"', '"1e3"', "0.1", EXACT, '"0.10000000000000000001"', "1e400", '"x"', "true"]
BYTES = ['"YWJj"', '"YWI="', '""', '"abc"', '"\\u00e9"', '"YWJj\\n"', "1", "null", "[]", '"YW Jj"']
UID = "2a75d831-11f1-447c-adbf-1de61d72ca8f"
UIDS = [
    f'"{UID}"',
    f'"{UID.upper()}"',
    f'"{UID.replace("-", "")}"',
    f'"urn:uuid:{UID}"',
    '"x"',
    "1",
    "null",
    "[]",
    '""',
    "{}",
]


def inside(template: str, values: list[str]) -> list[str]:
    return [template.replace("_", value) for value in values]


CASES: list[tuple[Any, list[str]]] = [
    (int, NUMBERS + LARGE),
    (float, NUMBERS + LARGE),
    (bool, FLAGS),
    (str, TEXTS),
    (bytes, BYTES),
    (Any, NUMBERS + LARGE),
    (int | None, NUMBERS + TEXTS),
    (float | None, NUMBERS + LARGE),
    (str | None, TEXTS),
    (bool | None, FLAGS + TEXTS),
    (Optional[list[int]], LISTS),  # noqa: UP045 - the older spelling counts too
    (int | str, NUMBERS + TEXTS),
    (float | str, NUMBERS + TEXTS),
    (int | float, NUMBERS + LARGE),
    (int | bool, NUMBERS + FLAGS),
    (bool | str, FLAGS + TEXTS),
    (int | list[int], NUMBERS + LISTS),
    (str | list[str], TEXTS + LISTS),
    (str | dict[str, int], TEXTS + OBJECTS),
    (str | Point, TEXTS + POINTS),
    (Literal["a", "1", "true"], TEXTS),
    (Literal[1, 2, 80], [*NUMBERS, "80", '"80"']),
    (Literal[80, "x"], [*NUMBERS, "80", '"80"']),
    (Literal[80, "443"], [*NUMBERS, "80", '"443"']),
    (Literal["null", "x"] | None, TEXTS),
    (Literal["-1.5"] | float, NUMBERS + TEXTS),
    (Literal["true"] | bool, FLAGS + TEXTS),
    (Color, COLORS),
    (Color | None, COLORS),
    (Level, NUMBERS),
    (Word, TEXTS),
    (Word | bool, FLAGS + TEXTS),
    (list, LISTS),
    (list[int], LISTS),
    (list[str], LISTS),
    (list[float], LISTS),
    (list[int | None], LISTS),
    (list[Color], inside("[_]", COLORS)),
    (list[bytes], inside("[_]", BYTES)),
    (set[int], LISTS),
    (frozenset[str], LISTS),
    (tuple[int, ...], LISTS),
    (tuple[int, str], PAIRS),
    (Sequence[int], LISTS),
    (dict, OBJECTS),
    (dict[str, int], OBJECTS),
    (dict[str, Any], OBJECTS),
    (dict[str, str | int], OBJECTS),
    (dict[int, int], OBJECTS),
    (Mapping[str, float], OBJECTS),
    (Point, POINTS),
    (Point | None, POINTS + TEXTS),
    (list[Point], inside("[_]", POINTS)),
    (dict[str, Point], inside('{"k": _}', POINTS)),
    (Figure, inside('{"points": [_]}', POINTS)),
    (Money, inside('{"amount": _}', DECIMALS)),
    (Page[int], inside('{"items": _}', LISTS)),
    (Pair, PAIRS),
    (Options, DEPTHS),
    (Partial, inside('{"when": _}', DATES)),
    (Tree, TREES),
    (dt.datetime, DATES),
    (dt.datetime | None, DATES),
    (dt.datetime | int, DATES),
    (dt.date, DATES),
    (dt.date | int, DATES + NUMBERS),
    (dt.time, TIMES),
    (dt.timedelta, SPANS),
    (uuid.UUID, UIDS),
    (decimal.Decimal, DECIMALS),
    (decimal.Decimal | float, DECIMALS),
    (list[decimal.Decimal], inside("[_]", DECIMALS)),
]

DIGITS = "pydantic reads a JSON number as a float first, so it loses digits that the client sent"
BASE64 = "JSON carries bytes as base64, and so does the schema; pydantic takes the text itself"
MICROSECONDS = "beyond a microsecond, which Python does not hold, msgspec rounds and pydantic cuts"
FIRST = "a text that is a number is read as one before it is read as a time or as another kind of number"

DIFFERENCES = {
    (bytes, '"YWJj"'): BASE64,
    (bytes, '"YWI="'): BASE64,
    (list[bytes], '["YWJj"]'): BASE64,
    (list[bytes], '["YWI="]'): BASE64,
    (int | float, '"1.0"'): FIRST,
    (dt.datetime | int, '"1700000000"'): FIRST,
    (dt.datetime, FINE): MICROSECONDS,
    (dt.datetime | None, FINE): MICROSECONDS,
    (dt.datetime | int, FINE): MICROSECONDS,
    (decimal.Decimal, EXACT): DIGITS,
    (list[decimal.Decimal], f"[{EXACT}]"): DIGITS,
    (Money, f'{{"amount": {EXACT}}}'): DIGITS,
}


@pytest.mark.parametrize(("annotation", "values"), CASES, ids=lambda case: engines.type_name(case)[:40])
def test_a_value_that_both_engines_take_is_the_same_but_for_a_named_difference(annotation, values):
    assert len(set(values)) >= 10
    engine, judge = engines.choose(Parameter("value", annotation), "f"), pydantic.TypeAdapter(annotation)
    for value in values:
        try:
            ours, theirs = engine.decode(value.encode()), judge.validate_json(value)
        except (Refused, pydantic.ValidationError):
            continue
        is_same = (ours, type(ours)) == (theirs, type(theirs))
        assert is_same == ((annotation, value) not in DIFFERENCES), (value, ours, theirs)


def test_there_are_sixty_types_and_every_difference_is_one_of_them():
    assert len(CASES) >= 60
    assert {annotation for annotation, _ in DIFFERENCES} <= {annotation for annotation, _ in CASES}


@pytest.mark.parametrize(
    "annotation", [bytes, dt.datetime, Point, list[Point], Money, Literal[80, "443"], Color | None]
)
def test_a_parameter_is_read_alike_whatever_stands_beside_it(annotation):
    def alone(value): ...
    def beside(value, path, model): ...

    alone.__annotations__.update(value=annotation)
    beside.__annotations__.update(value=annotation, path=Path, model=Model)
    plans = [compile_plan(fn, context_type=Refused) for fn in (alone, beside)]
    for value in next(values for kind, values in CASES if kind == annotation):
        arguments = f'{{"value": {value}, "path": "/", "model": {{"a": 1}}}}'
        read = []
        for plan, sent in zip(plans, (f'{{"value": {value}}}', arguments), strict=True):
            try:
                read.append(plan.bind(sent.encode())[0][0])
            except ArgumentError as error:
                read.append(error.problems)
        assert read[0] == read[1]
    schemas = [json.loads(plan.input_schema)["properties"]["value"] for plan in plans]
    assert schemas[0] == schemas[1]


def test_a_result_is_encoded_alike_whatever_the_parameters_are():
    def alone() -> bytes: ...
    def beside(path: Path, model: Model) -> bytes: ...

    plans = [compile_plan(fn, context_type=Refused) for fn in (alone, beside)]
    assert plans[0].output_schema == plans[1].output_schema
    assert [plan.encode(b"abc").structured for plan in plans] == [b'{"result":"YWJj"}'] * 2
