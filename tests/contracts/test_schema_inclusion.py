"""What the diff calls unbroken, `jsonschema` finds unbroken, whatever the schemas and the instances are."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from referencing import Registry
from referencing.exceptions import Unresolvable

from portway.host.contracts.schema_changes import SchemaComparison, View
from portway.host.contracts.schema_tree import canonical
from tests.contracts.schemas import Schemas, closed

VIEWS: tuple[View, View] = ("input", "output")
KEYWORDS = (
    *(
        "type",
        "properties",
        "required",
        "additionalProperties",
        "patternProperties",
        "items",
        "anyOf",
        "oneOf",
        "allOf",
    ),
    *(
        "enum",
        "const",
        "minimum",
        "exclusiveMaximum",
        "multipleOf",
        "maxLength",
        "pattern",
        "format",
        "$ref",
        "$id",
        "$defs",
    ),
    *("not", "if", "contains", "uniqueItems", "description", "title", "default", "x-own", "\u202e"),
)


def breaks(old: object, new: object) -> bool:
    return any(note.breaks for note in SchemaComparison().notes(old, new, "input"))


def accepts(schema: Any, instance: Any) -> bool | None:
    """Return whether an instance is valid, None where the schema refers to nothing."""
    try:
        return jsonschema.Draft202012Validator(schema, registry=Registry()).is_valid(instance)
    except Unresolvable:
        return None


def hold_to_jsonschema(seed: int) -> None:
    """Check that a new schema which refuses what its old one accepts is said to break."""
    make = Schemas(seed)
    old = make.root()
    new = make.edited(old)
    judged = breaks(old, new)
    for _ in range(8):
        value = make.value(old, old)
        if accepts(old, value) and accepts(closed(old), value) and accepts(new, value) is False:
            assert judged, (old, new, value)


SEEDS = st.lists(st.integers(0, 2**40), min_size=10, max_size=10)


@settings(deadline=None, max_examples=100)
@given(SEEDS)
def test_what_an_old_input_schema_accepts_and_a_new_one_refuses_breaks(seeds: list[int]) -> None:
    for seed in seeds:
        hold_to_jsonschema(seed)


@pytest.mark.slow
@settings(deadline=None, max_examples=1000)
@given(SEEDS)
def test_what_many_old_input_schemas_accept_and_a_new_one_refuses_breaks(seeds: list[int]) -> None:
    for seed in seeds:
        hold_to_jsonschema(seed)


@given(st.integers())
def test_a_schema_does_not_break_itself(seed: int) -> None:
    schema = Schemas(seed).root()
    assert SchemaComparison().notes(schema, dict(reversed(schema.items())), "input") == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYWORDS), inner, max_size=4),
)


@settings(deadline=None)
@given(JSON, JSON)
def test_schemas_with_any_value_under_any_keyword_are_judged(old: object, new: object) -> None:
    for view in VIEWS:
        notes = SchemaComparison().notes(old, new, view)
        assert bool(notes) == (canonical(old) != canonical(new))
        assert all(note.text.isprintable() for note in notes)


def test_schemas_too_large_or_too_entangled_to_be_compared_break() -> None:
    doubled: dict[str, Any] = {
        f"n{at}": {"properties": {side: {"$ref": f"#/$defs/n{at + 1}"} for side in "ab"}} for at in range(40)
    }
    entangled = {"$defs": doubled, "$ref": "#/$defs/n0"}
    huge = {"enum": ["x" * 300_000]}
    addressed = {"properties": {"a": {"$id": "http://example.com/a", "type": "string"}}}
    for old in (entangled, huge, addressed):
        new = old | {"$defs": doubled | {"n40": {"type": "string"}}}
        assert [note.text for note in SchemaComparison().notes(old, new, "input")] == [
            "input schema changed, in a way that cannot be judged"
        ]
        assert breaks(old, new)
