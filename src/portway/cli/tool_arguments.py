"""Arguments of `portway call`: `key=value` read by a tool's schema, and a schema shown as a signature."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, cast

Schema = Mapping[str, Any]
_TYPES: dict[type, str] = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    list: "array",
    dict: "object",
}


class ArgumentProblem(ValueError):
    """A `key=value` that does not fit the schema; the message names the mend."""


def signature(schema: Schema) -> str:
    """Return an object schema's parameters, as in `city: string, days: integer = 3, units: "c" | "f"?`."""
    required = schema.get("required", [])
    parts = []
    for name, prop in schema.get("properties", {}).items():
        part = f"{name}: {describe(prop, schema)}"
        if isinstance(prop, Mapping) and "default" in prop:
            part += f" = {json.dumps(prop['default'], ensure_ascii=False)}"
        elif name not in required:
            part += "?"
        parts.append(part)
    return ", ".join(parts)


def describe(schema: Schema, root: Schema) -> str:
    """Return a schema's type in a few words."""
    schema = _resolved(schema, root)
    if "enum" in schema:
        return " | ".join(json.dumps(value, ensure_ascii=False) for value in schema["enum"])
    branches = schema.get("anyOf") or schema.get("oneOf")
    if branches:
        return " | ".join(dict.fromkeys(describe(branch, root) for branch in branches))
    if places := schema.get("prefixItems"):
        rest = [f"{describe(schema['items'], root)}…"] if schema.get("items") else []
        return f"[{', '.join([*(describe(place, root) for place in places), *rest])}]"
    if schema.get("type") == "array" and "items" in schema:
        return f"array of {describe(schema['items'], root)}"
    return " | ".join(sorted(_types(schema, root))) or "any"


def read_arguments(pairs: Iterable[str], schema: Schema) -> dict[str, Any]:
    """Return the arguments of `key=value` words, each read as its property's type. Raises ArgumentProblem."""
    properties = schema.get("properties", {})
    arguments: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise ArgumentProblem(f"{pair!r} is not key=value")
        if name not in properties and schema.get("additionalProperties") is False:
            known = ", ".join(properties) or "none"
            raise ArgumentProblem(f"the tool takes no argument {name}; it takes: {known}")
        arguments[name] = read_value(name, text, properties.get(name, {}), schema)
    return arguments


def read_value(name: str, text: str, schema: Schema, root: Schema) -> object:
    """Return the value of an argument that is given as text. Raises ArgumentProblem."""
    allowed = _types(_resolved(schema, root), root)
    if allowed == {"string"}:
        return text
    try:
        value = cast("object", json.loads(text))
    except ValueError:
        value = text
    kind = "null" if value is None else _TYPES[type(value)]
    if not allowed or kind in allowed or (kind == "integer" and "number" in allowed):
        return value
    if "string" in allowed:
        return text
    raise ArgumentProblem(f"{name} must be {' or '.join(sorted(allowed))} (as JSON), not {text!r}")


def _types(schema: Schema, root: Schema) -> set[str]:
    """Return the JSON types a schema allows; none when it does not say."""
    if "type" in schema:
        given = schema["type"]
        return {given} if isinstance(given, str) else set(given)
    if "enum" in schema:
        return {"null" if value is None else _TYPES[type(value)] for value in schema["enum"]}
    branches = [_types(_resolved(branch, root), root) for branch in schema.get("anyOf") or schema.get("oneOf") or []]
    return set().union(*branches) if all(branches) else set()


def _resolved(schema: Schema, root: Schema) -> Schema:
    """Return the schema at the end of a chain of local `$ref`s; an empty one for a reference that leads nowhere."""
    for _ in range(8):
        if not isinstance(schema, Mapping):  # true or false
            return {}
        reference = schema.get("$ref")
        if reference is None:
            return schema
        found: Any = root
        for key in str(reference).removeprefix("#/").split("/"):
            found = found.get(key) if isinstance(found, dict) else None
        schema = found if isinstance(found, dict) else {}
    return {}
