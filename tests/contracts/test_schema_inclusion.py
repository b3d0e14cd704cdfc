"""What the diff calls unbroken, `jsonschema` finds unbroken, whatever the schemas and the instances are."""

from __future__ import annotations

from typing import Any

import jsonschema
from hypothesis import given
from hypothesis import strategies as st
from referencing import Registry
from referencing.exceptions import Unresolvable

from portway.host.contracts.schema_changes import schema_notes
from tests.contracts.schemas import INSTANCES, closed, edited, object_schemas


def breaks(old: object, new: object) -> bool:
    return any(note.breaks for note in schema_notes(old, new, "input"))


def accepts(schema: Any, instance: Any) -> bool | None:
    """Return whether an instance is valid, None where the schema refers to nothing or to itself without end."""
    try:
        return jsonschema.Draft202012Validator(schema, registry=Registry()).is_valid(instance)
    except (RecursionError, Unresolvable):
        return None


@given(st.data())
def test_what_an_old_input_schema_accepts_and_a_new_one_refuses_breaks(data: st.DataObject) -> None:
    old = data.draw(object_schemas)
    new = data.draw(edited(old))
    judged = breaks(old, new)
    for _ in range(5):
        instance = data.draw(INSTANCES)
        if accepts(old, instance) and accepts(closed(old), instance) and accepts(new, instance) is False:
            assert judged, (old, new, instance)


@given(object_schemas)
def test_a_schema_does_not_break_itself(schema: dict[str, Any]) -> None:
    assert schema_notes(schema, dict(schema), "input") == []
