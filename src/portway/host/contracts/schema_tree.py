"""JSON Schemas prepared for comparison: references resolved, annotations dropped.

Everything here takes what a server sent, so any keyword may have any value.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import unquote

Node = object
"""A schema: a bool or a mapping; anything else is malformed."""
Assertions = Mapping[str, object]

ANY_TYPE = frozenset({"null", "boolean", "object", "array", "string", "integer", "fraction"})
_TYPES = {name: frozenset({name}) for name in ANY_TYPE - {"fraction"}} | {"number": frozenset({"integer", "fraction"})}
_ONE = frozenset(
    {
        *("items", "additionalItems", "additionalProperties", "not", "if", "then", "else", "contains"),
        *("propertyNames", "unevaluatedItems", "unevaluatedProperties"),
    }
)
_NAMED = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies"})
_SEVERAL = frozenset({"allOf", "anyOf", "oneOf", "prefixItems", "items"})
_PLAIN = frozenset(
    {
        *("type", "enum", "const", "required", "format", "pattern", "minLength", "maxLength", "minimum", "maximum"),
        *("exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minItems", "maxItems", "uniqueItems", "minContains"),
        *("maxContains", "minProperties", "maxProperties", "dependentRequired", "contentEncoding", "contentMediaType"),
        *("$ref", "$dynamicRef", "$recursiveRef", "$anchor", "$dynamicAnchor", "$id", "id"),
    }
)
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
_OLD_DRAFT = re.compile(r"draft-0?[3-7]")
_MOST_PARTS = 256  # of one schema, by references and `allOf`


class Undecidable(Exception):
    """The schemas are too large, too deep or too entangled to be compared."""


class SchemaTree:
    """One document. `root` holds only assertions; the annotations of the original are dropped."""

    def __init__(self, schema: object) -> None:
        """Raises `Undecidable` if a part of it has an address of its own, against which references are resolved."""
        self.root = assertions(schema)
        dialect = schema.get("$schema") if isinstance(schema, dict) else None
        self.has_old_dialect = isinstance(dialect, str) and _OLD_DRAFT.search(dialect) is not None
        self._texts: dict[int, bytes] = {}
        self._derived: dict[tuple[int, tuple[str, ...]], Assertions] = {}
        if isinstance(self.root, dict) and any(_has_own_address(part) for part in self.root.values()):
            raise Undecidable
        self.definitions = b""
        if isinstance(self.root, dict):
            self.definitions = canonical({name: self.root.get(name) for name in ("$defs", "definitions")})

    def resolve(self, reference: object) -> Node | None:
        """Return what a reference names, None if it is not in the document."""
        if not isinstance(reference, str) or not reference.startswith("#") or reference[1:2] not in ("", "/"):
            return None
        node: object = self.root
        for step in unquote(reference[1:]).split("/")[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            if isinstance(node, dict):
                node = node.get(name)
            elif isinstance(node, list) and name.isdecimal() and len(name) < 6 and int(name) < len(node):
                node = node[int(name)]
            else:
                return None
        return node if isinstance(node, dict | bool) else None

    def conjuncts(self, nodes: Iterable[Node], *, is_exact: bool) -> list[Assertions] | None:
        """Return the schemas, without references and `allOf`, that all hold where all `nodes` do; None for never.

        What cannot be resolved is left as it stands if `is_exact`, else it is dropped, so that more is accepted.
        """
        found: list[Assertions] = []
        seen: set[int] = set()
        waiting = list(nodes)[::-1]
        while waiting:
            node = waiting.pop()
            if node is False:
                return None
            if not isinstance(node, dict) or id(node) in seen:
                continue
            seen.add(id(node))
            if len(seen) > _MOST_PARTS:
                raise Undecidable
            if "$ref" in node:
                target = self.resolve(node["$ref"])
                if target is not None:
                    waiting.append(target)
                    if is_exact or not self.has_old_dialect:
                        waiting.append(self.without(node, "$ref"))
                    continue
                if not is_exact:
                    node = {} if self.has_old_dialect else self.without(node, "$ref")
            parts = node.get("allOf")
            if isinstance(parts, list):
                waiting += parts[::-1]
                node = self.without(node, "allOf")
            if node:
                found.append(node)
        return found

    def without(self, node: Assertions, *keywords: str) -> Assertions:
        """Return the same schema without these keywords: for one node always the same object."""
        key = (id(node), keywords)
        if key not in self._derived:
            self._derived[key] = {name: value for name, value in node.items() if name not in keywords}
            self._derived[id(node), ("",)] = node  # keeps it, so that its id stays its own
        return self._derived[key]

    def text(self, node: Node) -> bytes:
        """Return a node as canonical JSON."""
        found = self._texts.get(id(node))
        if found is None:
            found = canonical(node)
            if isinstance(node, dict):
                self._texts[id(node)] = found
                self._derived[id(node), ("",)] = node
        return found


def canonical(value: object) -> bytes:
    """Return JSON in which equal values are equal texts: names in order, and 1.0 as 1."""
    return json.dumps(_whole(value), sort_keys=True, separators=(",", ":")).encode()


def _whole(value: object) -> object:
    if isinstance(value, dict):
        return {name: _whole(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_whole(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def assertions(schema: object) -> Node:
    """Return a schema without its annotations and what JSON Schema does not know."""
    if not isinstance(schema, dict):
        return schema
    found: dict[str, object] = {}
    for name, value in schema.items():
        if name in _SEVERAL and isinstance(value, list):
            found[name] = [assertions(part) for part in value]
        elif name in _ONE:
            found[name] = assertions(value)
        elif name in _NAMED:
            found[name] = {key: assertions(part) for key, part in value.items()} if isinstance(value, dict) else value
        elif name in _PLAIN or name in _SEVERAL:
            found[name] = value
    return found


def named(node: Assertions, keyword: str) -> Mapping[str, Node]:
    """Return a keyword's schemas by name."""
    value = node.get(keyword)
    return value if isinstance(value, dict) else {}


def texts(node: Assertions, keyword: str) -> list[str]:
    """Return the texts of a keyword's list."""
    value = node.get(keyword)
    return [text for text in value if isinstance(text, str)] if isinstance(value, list) else []


def types_of(node: Assertions) -> frozenset[str]:
    """Return the types that a schema admits by `type`, "integer" and "fraction" being those of numbers."""
    given = node.get("type")
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, list):
        return ANY_TYPE
    # One that JSON Schema does not know may admit anything.
    return frozenset[str]().union(*(_TYPES.get(name, ANY_TYPE) for name in names if isinstance(name, str)))


def type_of(value: object) -> str:
    """Return the type of a JSON value."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "integer" if isinstance(value, int) or value.is_integer() else "fraction"
    return "string" if isinstance(value, str) else "array" if isinstance(value, list) else "object"


def values_of(parts: Sequence[Assertions]) -> dict[bytes, object] | None:
    """Return the values that these schemas admit, by canonical JSON; None if they are not listed."""
    found: dict[bytes, object] | None = None
    admitted = types_of_all(parts)
    for part in parts:
        lists: tuple[object, object] = ([part["const"]] if "const" in part else None, part.get("enum"))
        for values in lists:
            if isinstance(values, list):
                listed = {canonical(value): value for value in values if type_of(value) in admitted}
                found = listed if found is None else {key: value for key, value in found.items() if key in listed}
    if found is None and admitted <= {"null", "boolean"}:
        every: dict[str, list[object]] = {"null": [None], "boolean": [False, True]}
        found = {canonical(value): value for name in admitted for value in every[name]}
    return found


def types_of_all(parts: Iterable[Assertions]) -> frozenset[str]:
    """Return the types that all of these schemas admit by `type`."""
    return ANY_TYPE.intersection(*(types_of(part) for part in parts))


def has_reference(text: bytes) -> bool:
    """Return whether the JSON of a schema may hold a reference."""
    return any(b'"%b"' % reference.encode() in text for reference in _REFERENCES)


def _has_own_address(node: object) -> bool:
    if isinstance(node, dict):
        return isinstance(node.get("$id"), str) or any(map(_has_own_address, node.values()))
    return isinstance(node, list) and any(map(_has_own_address, node))
