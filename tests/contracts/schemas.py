"""Generated JSON Schemas, edits of them, and instances near them."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import strategies as st

NAMES = st.sampled_from(["a", "b", "c"])
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-4, 6),
    st.sampled_from([0.5, 1.0, 2.5]),
    st.sampled_from(["", "x", "xy", "xyz"]),
)
TYPES = st.sampled_from(["null", "boolean", "string", "integer", "number", "array", "object"])
_LIMIT = st.integers(0, 4)
_ASSERTIONS: dict[str, st.SearchStrategy[Any]] = {
    "type": TYPES | st.lists(TYPES, min_size=1, max_size=3, unique=True),
    "enum": st.lists(SCALARS, min_size=1, max_size=4),
    "const": SCALARS,
    "minimum": _LIMIT,
    "maximum": _LIMIT,
    "exclusiveMinimum": _LIMIT,
    "exclusiveMaximum": _LIMIT,
    "multipleOf": st.sampled_from([1, 2, 3, 0.5]),
    "minLength": _LIMIT,
    "maxLength": _LIMIT,
    "pattern": st.sampled_from(["^x", "y$"]),
    "minItems": st.integers(0, 2),
    "maxItems": st.integers(0, 2),
    "uniqueItems": st.booleans(),
    "minProperties": st.integers(0, 2),
    "maxProperties": st.integers(0, 2),
    "required": st.lists(NAMES, max_size=2, unique=True),
}
_REFERENCE = st.sampled_from(["#/$defs/one", "#/$defs/two"]).map(lambda to: {"$ref": to})
_ITSELF = st.just({"$ref": "#"})  # only where it speaks of a part of the value, else it has no end


def _nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    options = st.lists(inner, min_size=1, max_size=3)
    keywords = _ASSERTIONS | {
        "properties": st.dictionaries(NAMES, inner, max_size=3),
        "patternProperties": st.dictionaries(st.sampled_from(["^a", "."]), inner, max_size=2),
        "items": inner,
        "dependentSchemas": st.dictionaries(NAMES, inner, max_size=1),
        "dependentRequired": st.dictionaries(NAMES, st.lists(NAMES, max_size=1), max_size=1),
        **dict.fromkeys(("additionalProperties", "contains", "propertyNames", "unevaluatedProperties"), inner),
        **dict.fromkeys(("not", "if", "then", "else"), inner),
        **dict.fromkeys(("prefixItems", "anyOf", "oneOf", "allOf"), options),
    }
    chosen = st.lists(st.sampled_from(sorted(keywords)), max_size=3, unique=True)
    return chosen.flatmap(lambda names: st.fixed_dictionaries({name: keywords[name] for name in names}))


_LEAVES = (
    st.booleans()
    | st.fixed_dictionaries({"type": TYPES})
    | st.fixed_dictionaries({}, optional={name: _ASSERTIONS[name] for name in ("type", "enum", "minimum", "maxLength")})
)
_PLAIN_SCHEMAS = st.recursive(_LEAVES, _nested, max_leaves=4)
SCHEMAS = st.recursive(_LEAVES | _REFERENCE, _nested, max_leaves=6)
object_schemas = st.fixed_dictionaries(
    {"type": st.just("object"), "properties": st.dictionaries(NAMES, SCHEMAS | _ITSELF, max_size=3)},
    optional={
        "required": st.lists(NAMES, max_size=2, unique=True),
        "additionalProperties": SCHEMAS,
        "patternProperties": st.dictionaries(st.sampled_from(["^a", "."]), SCHEMAS, max_size=1),
        "anyOf": st.lists(SCHEMAS, min_size=1, max_size=2),
        "allOf": st.lists(SCHEMAS, min_size=1, max_size=2),
        "$defs": st.fixed_dictionaries({"one": _PLAIN_SCHEMAS, "two": _PLAIN_SCHEMAS}),
    },
)


def _places(node: Any) -> list[Any]:
    found = [node] if isinstance(node, dict) else []
    for inner in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        found += _places(inner)
    return found


@st.composite
def edited(draw: st.DrawFn, schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema that differs from another in one to three places, or is another altogether."""
    if draw(st.integers(0, 9)) == 0:
        return draw(object_schemas)
    changed = copy.deepcopy(schema)
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.sampled_from(_places(changed)))
        keys = [key for key in place if place is not changed or key != "type"]
        if keys and draw(st.booleans()):
            key = draw(st.sampled_from(sorted(keys)))
            if key in _ASSERTIONS and draw(st.booleans()):
                place[key] = draw(_ASSERTIONS[key])
            else:
                del place[key]
        else:
            added = draw(_PLAIN_SCHEMAS)
            for key, value in added.items() if isinstance(added, dict) else ():
                if place is not changed or key != "type":
                    place[key] = value
    return changed


VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=5
)


INSTANCES = st.dictionaries(NAMES, VALUES, max_size=3)


def closed(schema: Any) -> Any:
    """Return the schema without members that it does not name: what a caller sends who goes by it."""
    if not isinstance(schema, dict):
        return schema
    found = dict(schema)
    for keyword in ("properties", "patternProperties", "$defs"):
        if keyword in found:
            found[keyword] = {name: closed(inner) for name, inner in found[keyword].items()}
    for keyword in ("anyOf", "oneOf", "allOf", "prefixItems"):
        if keyword in found:
            found[keyword] = [closed(inner) for inner in found[keyword]]
    for keyword in ("items", "additionalProperties"):
        if keyword in found:
            found[keyword] = closed(found[keyword])
    if "properties" in found and "patternProperties" not in found:
        found.setdefault("additionalProperties", False)
    return found
