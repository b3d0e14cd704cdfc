"""The JSON Schemas that clients are shown: built of parameters, definitions (`$defs`, `$ref`) joined, renamed and
inlined, titles dropped; and a schema or a value in words for errors.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from portway.counted import counted

Schema = dict[str, Any]  # Any: JSON Schema is an open format, and authors' own keywords are kept
Path = tuple[str | int, ...]

REF_PREFIX = "#/$defs/"
_REFERENCE = re.compile(rf'"\$ref":"{re.escape(REF_PREFIX)}([^"]+)"')
_INLINE_NODES = 2000  # beyond this, shared definitions stay shared: a schema must not grow without bound
_SHOWN = 60  # characters of a refused value that an error repeats
_MAX_WORDS = 200  # characters of what an error says was expected

_NOUNS = {
    "string": "a string",
    "integer": "an integer",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
}
_FORMATS = {
    "date-time": "a date and time such as 2026-01-31T12:00:00Z",
    "date": "a date such as 2026-01-31",
    "time": "a time such as 12:00:00",
    "duration": "a duration such as PT90S",
    "uuid": "a UUID",
    "decimal": "a decimal number",
}
LIMITS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "more than {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "less than {}",
    "multipleOf": "a multiple of {}",
    "minLength": "at least {}",
    "maxLength": "at most {}",
    "pattern": "matching {}",
    "minItems": "at least {}",
    "maxItems": "at most {}",
}
_COUNTED = {"minLength": "character", "maxLength": "character", "minItems": "item", "maxItems": "item"}
_LITERAL = frozenset({"const", "enum", "default", "examples"})  # their values are data, whatever they look like
_NAMED = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies"})


class Shape(msgspec.Struct, frozen=True):
    """The schemas of a function's arguments, by name, with the definitions they refer to."""

    properties: dict[str, Schema] = {}
    defs: dict[str, Schema] = {}

    def add(self, name: str, schema: Schema, defs: dict[str, Schema]) -> Schema:
        """Add an argument and return its schema. A definition is renamed if another one has its name."""
        taken = [key for key, definition in defs.items() if self.defs.get(key, definition) != definition]
        if taken:
            text = msgspec.json.encode((schema, defs)).decode()
            for key in taken:
                text = text.replace(f'"{REF_PREFIX}{key}"', f'"{REF_PREFIX}{key}_{len(self.defs)}"')
            schema, defs = msgspec.json.decode(text)
            defs = {f"{key}_{len(self.defs)}" if key in taken else key: definition for key, definition in defs.items()}
        self.defs.update(defs)
        return self.properties.setdefault(name, schema)

    def input_schema(self, required: Iterable[str]) -> Schema:
        """Return the whole object schema, ready to be listed."""
        schema: Schema = {"type": "object", "properties": self.properties}  # some clients refuse a schema without it
        if names := list(required):
            schema["required"] = names
        return flatten({**schema, "additionalProperties": False}, self.defs)

    def at(self, path: Path) -> Schema:
        """Return the schema of the value at `path`, the first element being an argument; {} where it is unknown."""
        schema: Schema = {"properties": self.properties}
        for step in path:
            schema = self._step(schema, step)
        return self._resolve(schema)

    def _resolve(self, schema: Schema) -> Schema:
        while "$ref" in schema:
            schema = self.defs.get(str(schema["$ref"]).removeprefix(REF_PREFIX), {})
        return schema

    def _step(self, schema: Schema, step: str | int) -> Schema:
        schema = self._resolve(schema)
        found: object
        for option in (*schema.get("anyOf", ()), *schema.get("oneOf", ())):
            if inner := self._step(option, step):
                return inner
        if isinstance(step, str):
            found = schema.get("properties", {}).get(step) or schema.get("additionalProperties")
        else:
            first: list[Schema] = schema.get("prefixItems", [])
            found = first[step] if step < len(first) else schema.get("items")
        return found if isinstance(found, dict) else {}

    def describe(self, schema: Schema) -> str:
        """Return in words what a value must be; "" if anything is allowed, or if a phrase cannot say it."""
        schema = self._resolve(schema)
        if options := schema.get("anyOf") or schema.get("oneOf"):
            words = [self.describe(option) for option in options if isinstance(option, dict)]
            text = " or ".join(dict.fromkeys(words)) if len(words) == len(options) and all(words) else ""
        elif "const" in schema:
            text = show(schema["const"])
        elif "enum" in schema:
            values = [show(value) for value in schema["enum"]]
            text = values[0] if len(values) == 1 else f"one of {', '.join(values)}"
        else:
            types = schema["type"] if isinstance(schema.get("type"), list) else [schema.get("type")]
            noun = _FORMATS.get(schema.get("format", "")) or " or ".join(_NOUNS.get(str(name), "") for name in types)
            limits = " and ".join(
                text.format(_limit(key, schema[key])) for key, text in LIMITS.items() if key in schema
            )
            text = f"{noun} ({limits})" if noun and limits else noun or limits
        return text[:_MAX_WORDS]


def _limit(keyword: str, value: object) -> object:
    """Return the value of a keyword with the noun of what it counts, if it counts something."""
    return counted(value, _COUNTED[keyword]) if keyword in _COUNTED and isinstance(value, int | float) else value


def subschemas(schema: Schema) -> Iterator[Schema]:
    """Yield the schemas directly inside a schema, without boolean ones."""
    for keyword, value in schema.items():
        if keyword not in _LITERAL:
            named = keyword in _NAMED and isinstance(value, dict)
            for inner in value.values() if named else value if isinstance(value, list) else (value,):
                if isinstance(inner, dict):
                    yield inner


def flatten(schema: Schema, defs: Mapping[str, Schema]) -> Schema:
    """Replace references by their definitions, as many clients cannot follow them. Recursive ones stay, with $defs."""
    once = {name: definition for name, definition in defs.items() if name not in _reachable(definition, defs)}
    try:
        flat: Schema = _inline(schema, once, [_INLINE_NODES])
    except OverflowError:
        flat = schema
    kept = {name: defs[name] for name in sorted(_reachable(flat, defs))}
    if REF_PREFIX in str(flat.get("$ref", "")):  # MCP wants the object itself at the root
        name = flat["$ref"].removeprefix(REF_PREFIX)
        flat = {**defs[name], **{key: value for key, value in flat.items() if key != "$ref"}}
    return {**flat, "$defs": kept} if kept else flat


def without_class_titles(defs: Mapping[str, Schema]) -> dict[str, Schema]:
    """Remove the titles that engines add to definitions: the names of the classes."""
    return {
        name: {k: v for k, v in schema.items() if k != "title" or not _bare(name).endswith(_bare(v))}
        for name, schema in defs.items()
    }


def _bare(name: str) -> str:
    return re.sub(r"\W", "_", name)


def show(value: object) -> str:
    """Return a value as short JSON, for an error."""
    try:
        text = msgspec.json.encode(value).decode()
    except (TypeError, ValueError):
        return "a value that is not JSON"
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def _inline(node: Any, defs: Mapping[str, Schema], budget: list[int]) -> Any:  # noqa: ANN401 - JSON
    budget[0] -= 1
    if budget[0] < 0:
        raise OverflowError
    if isinstance(node, list):
        return [_inline(item, defs, budget) for item in node]
    if not isinstance(node, dict):
        return node
    reference = node.get("$ref")
    name = reference.removeprefix(REF_PREFIX) if isinstance(reference, str) else ""
    if name in defs:
        node = {**defs[name], **{key: value for key, value in node.items() if key != "$ref"}}
    tag = node.get("discriminator")
    if isinstance(tag, dict) and isinstance(tag.get("mapping"), dict):  # it refers to the definitions
        node = {**node, "discriminator": {key: value for key, value in tag.items() if key != "mapping"}}
    values = node.get("enum")
    if isinstance(values, list) and "type" not in node and all(isinstance(value, str) for value in values):
        node = {"type": "string", **node}  # msgspec leaves it out, and some model providers insist on it
    return {key: value if key in _LITERAL else _inline(value, defs, budget) for key, value in node.items()}


def _reachable(schema: Schema, defs: Mapping[str, Schema]) -> set[str]:
    """Return the names of the definitions that a schema refers to, directly or through other definitions."""
    found: set[str] = set()
    wanted = _references(schema)
    while wanted:
        name = wanted.pop()
        if name in defs and name not in found:
            found.add(name)
            wanted |= _references(defs[name])
    return found


def _references(schema: Schema) -> set[str]:
    return set(_REFERENCE.findall(msgspec.json.encode(schema).decode()))
