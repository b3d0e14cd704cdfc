"""How JSON arguments become a call, driven through compile_plan."""

import dataclasses
import datetime as dt
import decimal
import enum
import functools
import json
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, ClassVar, Generic, Literal, NamedTuple, NotRequired, TypedDict, TypeVar

import attrs
import jsonschema
import msgspec
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portway.exceptions import ArgumentError, RegistrationError
from portway.plans.plan import Plan, compile_plan
from portway.protocol.errors import PARSE_ERROR, RpcError

T = TypeVar("T")


class Context:
    pass


class Unit(enum.Enum):
    CELSIUS = "celsius"
    KELVIN = "kelvin"


@dataclasses.dataclass
class Unfinished:
    part: "Missing"  # noqa: F821 - the point of the test


@dataclasses.dataclass
class Range:
    min: int
    max: int = 10


class Options(TypedDict):
    depth: int
    label: NotRequired[str]


class Point(NamedTuple):
    x: float
    y: float = 0.0


class Filter(msgspec.Struct):
    field: str
    above: float = 0


@dataclasses.dataclass
class Plain:
    x: int
    y: int = 0
    tags: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Derived(Plain):
    kind: ClassVar[str] = "derived"
    z: int = 5


@dataclasses.dataclass(slots=True)
class Slotted:
    x: int
    y: int = 0


@dataclasses.dataclass
class HalfSlotted(Slotted):
    z: int = 5


class Tagged:
    tags = ("of the base class",)


@dataclasses.dataclass(frozen=True)
class Frozen(Tagged):
    x: int
    y: int = 0
    tags: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(kw_only=True)
class Ordered:
    y: int = 0
    x: int


@dataclasses.dataclass
class Counted:
    x: int
    y: int = 1

    def __post_init__(self) -> None:
        self.y += 1


@attrs.define(slots=False)
class Attrs:
    x: int
    y: int = 0
    inner: Plain | None = None


@dataclasses.dataclass
class Nested:
    one: Plain
    more: list[Derived]
    named: dict[str, tuple[Plain, ...]]
    spare: Plain = dataclasses.field(default_factory=lambda: Plain(9))


@dataclasses.dataclass
class Page(Generic[T]):
    items: list[T]
    next: str | None = None


class Holder(msgspec.Struct):
    plain: Plain
    n: int = 1


class Cat(pydantic.BaseModel):
    kind: Literal["cat"]


class Dog(pydantic.BaseModel):
    kind: Literal["dog"]


class Person(pydantic.BaseModel):
    name: str = pydantic.Field(min_length=2, title="Full name")
    age: int = 3


class Tree(pydantic.BaseModel):
    value: int
    children: list["Tree"] = []


def plan(fn: Callable[..., Any]) -> Plan:
    return compile_plan(fn, context_type=Context)


def call(compiled: Plan, context: object = None, **arguments: Any) -> Any:
    args, kwargs = compiled.bind(json.dumps(arguments).encode(), context)
    return compiled.fn(*args, **kwargs)


def problems(compiled: Plan, **arguments: Any) -> list[str]:
    with pytest.raises(ArgumentError) as caught:
        compiled.bind(json.dumps(arguments).encode(), None)
    return caught.value.problems


def refuse(value: str) -> str:
    raise ValueError("Nobody is called so")


def returning(annotation: Any, default: Any = ...) -> Plan:
    """A plan of a function that returns its one argument, annotated so."""

    def echo(value): ...
    def echo_default(value=default): ...

    fn = echo if default is ... else echo_default
    fn.__annotations__["value"] = annotation
    return plan(fn)


STAMP = dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC)
IDENTITY = uuid.UUID("2a75d831-11f1-447c-adbf-1de61d72ca8f")

ACCEPTED = [
    (str, "x", "x"),
    (int, "5", 5),
    (int, 5.0, 5),
    (float, 5, 5.0),
    (bool, "true", True),
    (int | str, "5", "5"),
    (int | None, None, None),
    (Any, [1], [1]),
    (Literal["a", "b"], "b", "b"),
    (Unit, "kelvin", Unit.KELVIN),
    (Range, {"min": 1}, Range(1, 10)),
    (Options, {"depth": 1, "label": "x"}, {"depth": 1, "label": "x"}),
    (Point, [1], Point(1.0, 0.0)),
    (Filter, {"field": "a"}, Filter("a")),
    (dt.datetime, "2026-01-31T12:00:00Z", STAMP),
    (dt.date, "2026-01-31", dt.date(2026, 1, 31)),
    (uuid.UUID, str(IDENTITY), IDENTITY),
    (decimal.Decimal, "1.50", decimal.Decimal("1.50")),
    (bytes, "YWJj", b"abc"),
    (list[int], ["1", 2], [1, 2]),
    (set[str], ["a", "a"], {"a"}),
    (tuple[int, str], [1, "a"], (1, "a")),
    (dict[str, list[Range]], {"a": [{"min": 1}]}, {"a": [Range(1)]}),
    (list[int], "[1, 2]", [1, 2]),  # models send JSON in a string
    (Range, '{"min": 4}', Range(4)),
    (str, "[1, 2]", "[1, 2]"),  # and strings that only look like it stay strings
    # what msgspec does not take, pydantic does
    (Path, "/a", Path("/a")),
    (dt.datetime | str, "soon", "soon"),
    (Range | Person, {"name": "Ann"}, Person(name="Ann")),
    (Person, {"name": "Ann", "age": "4"}, Person(name="Ann", age=4)),
    (Annotated[int, pydantic.Field(ge=1)], "1", 1),
    (list[Annotated[int, pydantic.Field(ge=1)]], "[1]", [1]),
    (Literal[80, "443"], 80, 80),  # an exact member comes before any conversion
    (Literal[80, "443"], "443", "443"),
    (Literal[443, "443"], "443", "443"),
    (list[Literal["null"] | None], ["null", None], ["null", None]),
    (Tree, {"value": 1, "children": [{"value": 2}]}, Tree(value=1, children=[Tree(value=2)])),
]


@pytest.mark.parametrize(("annotation", "sent", "received"), ACCEPTED)
def test_an_argument_arrives_as_its_declared_type(annotation, sent, received):
    compiled = returning(annotation)
    (value,), _ = compiled.bind(msgspec.Raw(json.dumps({"value": sent}).encode()), None)
    assert (value, type(value)) == (received, type(received))


X: dict[str, Any] = {"x": 1}
PLAIN = {"x": 1, "y": 0, "tags": []}
DEFAULTED = [  # type, sent, what the function has and returns
    (Plain, X, PLAIN),
    (Derived, X, {**PLAIN, "z": 5}),
    (Slotted, X, {"x": 1, "y": 0}),
    (HalfSlotted, X, {"x": 1, "y": 0, "z": 5}),
    (Frozen, X, PLAIN),
    (Ordered, X, {"x": 1, "y": 0}),
    (Counted, X, {"x": 1, "y": 2}),
    (Attrs, {"x": 1, "inner": X}, {"x": 1, "y": 0, "inner": PLAIN}),
    (
        Nested,
        {"one": X, "more": [X], "named": {"a": [X]}},
        {"one": PLAIN, "more": [{**PLAIN, "z": 5}], "named": {"a": [PLAIN]}, "spare": {**PLAIN, "x": 9}},
    ),
    (Page[Plain], {"items": [X]}, {"items": [PLAIN], "next": None}),
    (Page[int], {"items": [1]}, {"items": [1], "next": None}),
    (Holder, {"plain": X}, {"plain": PLAIN, "n": 1}),
    (dict[str, Plain | None], {"a": X, "b": None}, {"a": PLAIN, "b": None}),
]


@pytest.mark.parametrize(("annotation", "sent", "whole"), DEFAULTED)
@pytest.mark.parametrize("declared", [False, True], ids=["no return type", "return type"])
def test_fields_left_out_are_returned_with_their_defaults(annotation, sent, whole, declared):
    def echo(value):
        return value

    echo.__annotations__ = {"value": annotation, "return": annotation} if declared else {"value": annotation}
    compiled = plan(echo)
    results = [call(compiled, value=sent)] + ([sent] if declared else [])
    for result in results:
        assert json.loads(compiled.encode(result).structured) == whole


REFUSED = [
    (str, 5, "value: expected a string, got 5"),
    (int, "x", 'value: expected an integer, got "x"'),
    (int, True, "value: expected an integer, got true"),
    (int | None, [1], "value: expected an integer or null, got [1]"),
    (Literal["a", "b"], "c", 'value: expected one of "a", "b", got "c"'),
    (Unit, "rankine", 'value: expected one of "celsius", "kelvin", got "rankine"'),
    (Annotated[int, msgspec.Meta(ge=1, le=7)], 9, "value: expected an integer (at least 1 and at most 7), got 9"),
    (Range, {"min": "x"}, 'value.min: expected an integer, got "x"'),
    (Range, {}, "value.min: missing (an integer is required)"),
    (list[Range], [{"min": 1}, {"min": None}], "value[1].min: expected an integer, got null"),
    (dict[str, int], {"a": "x"}, "value.*: expected an integer"),
    (uuid.UUID, "x", 'value: expected a UUID, got "x"'),
    (dt.datetime, "x", 'value: expected a date and time such as 2026-01-31T12:00:00Z, got "x"'),
    (bytes, "é", 'value: invalid base64 encoded string, got "é"'),
    (list[int], "[1, ", 'value: expected a list, got "[1, "'),
    (Person, {"age": 1}, "value.name: missing (a string (at least 2 characters) is required)"),
    (Person, {"name": "A"}, 'value.name: expected a string (at least 2 characters), got "A"'),
    (Person | int, {"name": 3}, "value.name: expected a string (at least 2 characters), got 3"),
    (Tree, {"value": 1, "children": [{"value": "x"}]}, 'value.children[0].value: expected an integer, got "x"'),
    (Annotated[int, pydantic.Field(ge=1)], 0, "value: expected an integer (at least 1), got 0"),
    (Path, 3, "value: expected a string, got 3"),
    (pydantic.HttpUrl, 3, "value: expected a string (at least 1 character and at most 2083 characters), got 3"),
    (
        list[pydantic.HttpUrl],
        ["example.com"],
        'value[0]: input should be a valid URL, relative URL without a base, got "example.com"',
    ),
    (Annotated[str, pydantic.AfterValidator(refuse)], "x", 'value: nobody is called so, got "x"'),
    (str, {"long": "x" * 200}, 'value: expected a string, got {"long":"' + "x" * 48 + "..."),
]


@pytest.mark.parametrize(("annotation", "sent", "said"), REFUSED)
def test_a_wrong_argument_is_described_the_same_way_by_either_engine(annotation, sent, said):
    assert said in problems(returning(annotation), value=sent)


def test_every_wrong_argument_is_named_in_one_message():
    def get_weather(city: str, days: int, unit: str = "c"): ...

    with pytest.raises(ArgumentError) as caught:
        plan(get_weather).bind(b'{"days": "x", "untis": "k"}', None)
    assert str(caught.value) == (
        "3 arguments are wrong for get_weather: city: missing (a string is required); "
        'days: expected an integer, got "x"; untis: unknown, did you mean unit?'
    )


def test_one_argument_with_two_faults_counts_once():
    class Pair(pydantic.BaseModel):
        a: int
        b: int

    with pytest.raises(ArgumentError, match=r"^1 argument is wrong for echo: value\.a: .*; value\.b: "):
        returning(Pair).bind(b'{"value": {"a": "x", "b": "y"}}', None)


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"[]", "expected an object, got []"),
        (b"{", "not readable as JSON"),
        (b'{"value": [1e999]}', "value: a number is out of range (1.8e308, 4300 digits)"),
        (b'{"value": %b}' % (b"9" * 5000), "value: a number is out of range (1.8e308, 4300 digits)"),
        (b'{"value":' + b"[" * 100_000, "not readable as JSON"),
    ],
)
@pytest.mark.parametrize("annotation", [str, Path])
def test_arguments_that_are_no_json_object_are_refused_in_words(annotation, sent, said):
    with pytest.raises(ArgumentError, match="the arguments for echo are wrong: ") as caught:
        returning(annotation).bind(sent, None)
    assert caught.value.problems == [said]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
FUZZED = [returning(annotation) for annotation, _, _ in ACCEPTED]


@settings(max_examples=60, deadline=None)
@given(value=JSON, extra=st.dictionaries(st.text(max_size=5), JSON, max_size=2))
def test_no_json_raises_anything_but_an_argument_error(value, extra):
    raw = json.dumps({"value": value, **extra}).encode()
    for compiled in FUZZED:
        said = ""
        try:
            compiled.bind(raw, None)
        except ArgumentError as error:
            said = str(error)
        assert "<class" not in said
        assert "$" not in said or b"$" in raw


def test_absent_arguments_are_an_empty_object():
    def echo(value: int = 3):
        return value

    compiled = plan(echo)
    args, kwargs = compiled.bind(None, None)
    assert echo(*args, **kwargs) == 3


def test_a_mutable_default_is_new_for_every_call():
    for annotation in (list[str], list[str] | Path):
        compiled = returning(annotation, ["a"])
        (first,), _ = compiled.bind(None, None)
        first.append("b")
        (second,), _ = compiled.bind(None, None)
        assert second == ["a"]
        assert json.loads(compiled.input_schema)["properties"]["value"]["default"] == ["a"]


def test_the_context_is_found_by_its_type_under_any_name_and_kept_from_the_client():
    class Special(Context):
        pass

    def first(c: Context, a: int, *, b: int = 2):
        return c, a, b

    def middle(a: int, here: Context | None = None, b: int = 2):
        return here, a, b

    def keyword(a: int, *, b: int = 2, me: "Annotated[Special, 'the context']"):
        return me, a, b

    keyword.__annotations__["me"] = Special
    for fn in (first, middle, keyword):
        compiled = plan(fn)
        assert call(compiled, "context", a=1, b=5) == ("context", 1, 5)
        assert set(json.loads(compiled.input_schema)["properties"]) == {"a", "b"}


class Silent:
    def __call__(self, a: int) -> int:
        return a


class Toolbox:
    """A box."""

    def method(self, a: int) -> int:
        """Adds."""
        return a + 1

    async def slow(self, a: int) -> int:
        return a

    def __call__(self, a: int) -> int:
        """Calls.

        Args:
            a: A number.
        """
        return a + 2

    @staticmethod
    def static(a: int) -> int:
        return a + 3


def test_methods_objects_partials_and_wrappers_can_be_called():
    def add(a: int, secret: str = "", b: int = 1) -> tuple[int, str, int]:
        return a, secret, b

    async def original(a: int) -> int:
        return a

    @functools.wraps(original)
    def wrapper(*args, **kwargs):
        return original(*args, **kwargs)

    box = Toolbox()
    assert call(plan(box.method), a=1) == 2
    assert call(plan(Toolbox.static), a=1) == 4
    called = plan(box)
    assert (call(called, a=1), called.name, called.description) == (3, "Toolbox", "A box.")
    assert b'"description":"A number."' in called.input_schema
    assert plan(Silent()).description is None
    partial = plan(functools.partial(add, secret="hidden"))
    assert partial.name == "add"
    assert call(partial, a=1, b=2) == (1, "hidden", 2)
    assert b"hidden" not in partial.input_schema
    assert problems(partial, a=1, secret="mine") == ["secret: unknown"]
    assert [plan(fn).is_async for fn in (add, original, wrapper, box.slow, functools.partial(original))] == [
        False,
        True,
        True,
        True,
        True,
    ]


def test_an_error_calls_a_function_what_its_client_calls_it():
    renamed = compile_plan(lambda a: a, context_type=Context, name="look-up")
    with pytest.raises(ArgumentError, match="1 argument is wrong for look-up: a: missing"):
        renamed.bind(None, None)


def variadic(*args: int): ...
def keywords(**kwargs: int): ...
def positional(a: int, /): ...
def unresolved(a: "Missing"): ...  # noqa: F821 - the point of the test
def incomplete(a: Unfinished): ...
def hidden(*, __a: int): ...
def callback(a: Callable[[], int]): ...
def mixed(a: Filter | Person): ...
def generator(a: int):
    yield a


def twice(a: Context, b: Context): ...


@pytest.mark.parametrize(
    ("fn", "said"),
    [
        (variadic, r"variadic: \*args: int cannot be described to a client; name every parameter"),
        (keywords, r"keywords: \*\*kwargs: int cannot"),
        (positional, "positional: a is positional-only"),
        (unresolved, "unresolved: an annotation uses Missing, which does not exist when the program runs"),
        (incomplete, "incomplete: an annotation uses Missing, which does not exist when the program runs"),
        (hidden, "hidden: __a cannot name an argument"),
        (callback, r"callback: parameter a .* cannot be described to a client"),
        (mixed, r"mixed: parameter a \(.*Filter \| .*Person\) cannot be described to a client"),
        (generator, "generator is a generator; return a list"),
        (twice, "twice: a and b both ask for the context"),
        (Toolbox, "Toolbox is a class"),
        (Toolbox.method, "method is a method without its object; register obj.method"),
        (3, "3 is not callable"),
    ],
)
def test_a_function_clients_cannot_call_is_refused_at_registration(fn, said):
    with pytest.raises(RegistrationError, match=said):
        plan(fn)


def test_pydantic_is_imported_only_when_needed_and_its_extra_is_named_when_absent():
    program = """
import sys
from pathlib import Path
from portway.exceptions import RegistrationError
from portway.plans.plan import compile_plan
def native(a: int, b: list[str] = ["x"]) -> dict: ...
compile_plan(native, context_type=type("Context", (), {}))
assert "pydantic" not in sys.modules
sys.modules["pydantic"] = None
def needs(a: int, b: Path | int): ...
try:
    compile_plan(needs, context_type=type("Context", (), {}))
except RegistrationError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "needs: parameter b (pathlib.Path | int) needs pydantic: pip install 'portway[pydantic]'\n"


def test_strings_become_declared_types_for_prompts_and_templates():
    def forecast(city: str, days: int, units: list[str], ctx: Context, when: dt.date | None = None):
        """Writes a forecast.

        Args:
            city: Where.
        """
        return city, days, units, ctx, when

    compiled = compile_plan(forecast, context_type=Context, result=False)
    args, kwargs = compiled.bind_values({"city": "[Paris]", "days": "3", "units": '["c"]'}, "context")
    assert forecast(*args, **kwargs) == ("[Paris]", 3, ["c"], "context", None)
    listed = [(a.name, a.description, a.required) for a in compiled.listed]
    assert listed == [("city", "Where.", True), ("days", None, True), ("units", None, True), ("when", None, False)]
    with pytest.raises(ArgumentError, match='days: expected an integer, got "x"; units: missing'):
        compiled.bind_values({"city": "Paris", "days": "x"}, None)


def test_pydantic_fields_keep_their_alias_default_and_factory():
    counter = iter(range(10))

    def search(
        query: Annotated[str, pydantic.Field(alias="q", description="What to find")],
        limit: int = pydantic.Field(5, ge=1, title="Most results"),
        serial: int = pydantic.Field(default_factory=lambda: next(counter)),
    ):
        return query, limit, serial

    compiled = plan(search)
    assert [call(compiled, q="a"), call(compiled, q="b", limit=2)] == [("a", 5, 0), ("b", 2, 1)]
    assert problems(compiled, q="a", limit=0) == ["limit: expected an integer (at least 1), got 0"]
    assert json.loads(compiled.input_schema) == {
        "type": "object",
        "properties": {
            "q": {"type": "string", "description": "What to find"},
            "limit": {"type": "integer", "default": 5, "minimum": 1, "title": "Most results"},
            "serial": {"type": "integer"},
        },
        "required": ["q"],
        "additionalProperties": False,
    }


def test_a_default_of_none_admits_null():
    def find(
        name: str = None,  # noqa: RUF013 - the point of the test
        unit: Annotated[Literal["c", "k"], "Of temperature"] = None,  # noqa: RUF013
        count: Annotated[int, msgspec.Meta(ge=1, description="How many")] = None,  # noqa: RUF013
        near: Annotated[str, pydantic.Field(alias="n", min_length=2)] = None,  # noqa: RUF013
        far: int = pydantic.Field(None, ge=1),
        whatever: Any = None,
    ):
        return [name, unit, count, near, far, whatever]

    compiled = plan(find)
    assert call(compiled) == [None] * 6
    assert call(compiled, name=None, unit=None, count=None, n=None, far=None, whatever=None) == [None] * 6
    assert call(compiled, name="x", unit="c", count=1, n="xx", far=1) == ["x", "c", 1, "xx", 1, None]
    assert problems(compiled, count=0)[0].startswith("count: expected an integer (at least 1) or null")
    schemas = json.loads(compiled.input_schema)["properties"]
    assert schemas["name"] == {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None}
    assert [schemas[name].get("description") for name in ("unit", "count")] == ["Of temperature", "How many"]
    assert schemas["whatever"] == {"default": None}


def test_the_default_of_the_signature_comes_before_that_of_a_field():
    def count(value: Annotated[int, pydantic.Field(default=3)] = 4):
        return value

    assert call(plan(count)) == 4
    assert json.loads(plan(count).input_schema)["properties"]["value"]["default"] == 4


def test_a_tagged_union_keeps_no_reference_to_what_was_inlined():
    tagged = returning(Annotated[Cat | Dog, pydantic.Field(discriminator="kind")])
    assert "mapping" not in tagged.input_schema.decode()
    assert json.loads(tagged.input_schema)["properties"]["value"]["discriminator"] == {"propertyName": "kind"}


def test_types_of_one_name_keep_their_own_definitions_whichever_engine_describes_them():
    class Named:
        @dataclasses.dataclass
        class Tree:
            label: str
            below: list[Any] = dataclasses.field(default_factory=list)

    Named.Tree.__annotations__["below"] = list[Named.Tree]

    def grow(a: Named.Tree, b: Tree, c: Named.Tree): ...

    grow.__annotations__ = {"a": Named.Tree, "b": Tree, "c": Named.Tree}
    schema = json.loads(plan(grow).input_schema)
    assert len(schema["$defs"]) == 2
    validator = jsonschema.Draft202012Validator(schema)
    ours, theirs = {"label": "x", "below": [{"label": "y"}]}, {"value": 1, "children": [{"value": 2}]}
    assert validator.is_valid({"a": ours, "b": theirs, "c": ours})
    assert not validator.is_valid({"a": ours, "b": theirs, "c": theirs})
    assert not validator.is_valid({"a": ours, "b": {"value": 1, "children": [{"label": "y"}]}, "c": ours})


@pytest.mark.parametrize("sent", [b'{"value": "\xff"}', b'{"value": {"a": "\xff"}}'])
@pytest.mark.parametrize("annotation", [str, Path, Any, Annotated[Any, pydantic.Field(title="A")], Person])
def test_text_that_is_not_utf_8_is_refused_by_either_engine(annotation, sent):
    with pytest.raises(RpcError, match="The message is not valid JSON in UTF-8") as caught:
        returning(annotation).bind(sent, None)
    assert caught.value.code == PARSE_ERROR
