"""Random JSON Schemas, edits of them, and objects that they nearly or wholly accept."""

from __future__ import annotations

import copy
from random import Random
from typing import Any

NAMES = "abc"
TYPES = ["null", "boolean", "string", "integer", "number", "array", "object"]
TEXTS = ["", "x", "xy", "xyz", "y"]
SCALARS = [None, True, False, *range(-3, 6), 0.5, 1.0, 2.5, *TEXTS]
LIMITS = ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength"]
SIZES = ["minItems", "maxItems", "minProperties", "maxProperties"]
ONE = [
    "additionalProperties",
    "items",
    "contains",
    "propertyNames",
    "not",
    "if",
    "then",
    "else",
    "unevaluatedProperties",
]
SEVERAL = ["anyOf", "oneOf", "allOf", "prefixItems"]
PLAIN = ["type", "enum", "const", *LIMITS, "multipleOf", "pattern", *SIZES, "uniqueItems", "required"]
NESTED = [
    "properties",
    "properties",
    "items",
    "anyOf",
    "oneOf",
    "patternProperties",
    "dependentSchemas",
    *ONE,
    *SEVERAL,
]


class Schemas:
    """Makes schemas and values from one source of chance."""

    def __init__(self, seed: int) -> None:
        self.chance = Random(seed)

    def root(self) -> dict[str, Any]:
        """Return the schema of an object, whose definitions refer to nothing."""
        made = self.schema(0)
        root = made if isinstance(made, dict) else {}
        root.pop("$ref", None)
        members = {name: self._member(1) for name in NAMES if self._often(8)}
        definitions = {name: self.schema(2, refers=False) for name in ("one", "two")}
        required = self._assertion("required")
        return root | {"type": "object", "properties": members, "required": required, "$defs": definitions}

    def schema(self, depth: int, *, refers: bool = True) -> Any:
        if self._often(1):
            return self._often(6)
        made: dict[str, Any] = {"type": self._assertion("type")} if self._often(7) else {}
        for _ in range(self.chance.choice([0, 1, 1, 2, 3])):
            nested = depth < 3 and self._often(5)
            keyword = self.chance.choice(NESTED if nested else [*PLAIN, "$ref"] if refers else PLAIN)
            made[keyword] = self._nested(keyword, depth + 1, refers) if nested else self._assertion(keyword)
        return made

    def edited(self, schema: dict[str, Any]) -> dict[str, Any]:
        """Return a schema that differs in one to three places, now and then in all."""
        if self._often(1):
            return self.root()
        changed = copy.deepcopy(schema)
        for _ in range(self.chance.choice([1, 1, 1, 2, 3])):
            places = _places(changed)
            place = places[int(len(places) * self.chance.random() ** 2)]  # rather one near the root
            keys = [key for key in place if place is not changed or key not in ("type", "$defs")]
            if not keys or self._often(4):
                added = self.schema(2, refers=False)
                added = added if isinstance(added, dict) else {}
                place |= {key: value for key, value in added.items() if place is not changed or key != "type"}
                continue
            key = self.chance.choice(keys)
            if key in PLAIN and self._often(6):
                place[key] = self._assertion(key)
            elif key in SEVERAL and len(place[key]) > 1 and self._often(5):
                place[key].pop(self.chance.randrange(len(place[key])))
            elif key in SEVERAL and self._often(5):
                place[key].append(self.schema(2, refers=False))
            else:
                del place[key]
        return changed

    def value(self, schema: Any, root: dict[str, Any], depth: int = 0) -> Any:
        """Return a value that a schema is likely to accept."""
        if not isinstance(schema, dict) or depth > 4 or self._often(1):
            return self.chance.choice(SCALARS)
        if "$ref" in schema:
            target = root if schema["$ref"] == "#" else root["$defs"].get(schema["$ref"][8:], {})
            return self.value(target, root, depth + 1)
        for keyword in ("anyOf", "oneOf", "allOf"):
            if keyword in schema and self._often(6):
                option, rest = self.chance.choice(schema[keyword]), {k: v for k, v in schema.items() if k != keyword}
                return self.value(rest | option if isinstance(option, dict) else rest, root, depth)
        if "const" in schema or "enum" in schema:
            return self.chance.choice([schema["const"]] if "const" in schema else schema["enum"])
        kind = schema.get("type", "object" if "properties" in schema else self.chance.choice(TYPES))
        kind = self.chance.choice(kind) if isinstance(kind, list) else kind
        if kind == "object":
            members = [name for name in NAMES if name in schema.get("required", ()) or self._often(5)]
            known, others = schema.get("properties", {}), schema.get("additionalProperties", {})
            return {name: self.value(known.get(name, others), root, depth + 1) for name in members}
        if kind == "array":
            return [self.value(schema.get("items", {}), root, depth + 1) for _ in range(self.chance.randrange(3))]
        numbers = {"integer": list(range(-2, 8)), "number": [0.5, 1.0, 2.5, *range(-1, 6)]}
        return self.chance.choice({"string": TEXTS, "boolean": [True, False], "null": [None], **numbers}[kind])

    def _often(self, times: int) -> bool:
        """Return true in so many of ten cases."""
        return self.chance.random() * 10 < times

    def _member(self, depth: int) -> Any:
        """Return the schema of a part of a value, which may be the root's own: elsewhere it would have no end."""
        return {"$ref": "#"} if self._often(1) else self.schema(depth)

    def _nested(self, keyword: str, depth: int, refers: bool) -> Any:
        schema = [self.schema(depth, refers=refers) for _ in range(self.chance.randint(1, 3))]
        if keyword in SEVERAL:
            return schema
        if keyword == "properties":
            return dict(zip(self.chance.sample(NAMES, len(schema)), schema, strict=True))
        if keyword == "additionalProperties" and self._often(5):
            return False
        if keyword in ("patternProperties", "dependentSchemas"):
            return {self.chance.choice(["^a", "."] if keyword == "patternProperties" else NAMES): schema[0]}
        return schema[0]

    def _assertion(self, keyword: str) -> Any:
        choose = self.chance.choice
        if keyword == "type":
            return choose(TYPES) if self._often(7) else self.chance.sample(TYPES, self.chance.randint(1, 3))
        if keyword in LIMITS + SIZES:
            return self.chance.randrange(5 if keyword in LIMITS else 3)
        if keyword == "enum":
            return [choose(SCALARS) for _ in range(self.chance.randint(1, 4))]
        if keyword == "required":
            return self.chance.sample(NAMES, self.chance.randint(0, 2))
        others = {"const": SCALARS, "multipleOf": [1, 2, 3, 0.5], "pattern": ["^x", "y$"], "uniqueItems": [True, False]}
        return choose({"$ref": ["#/$defs/one", "#/$defs/two"], **others}[keyword])


def closed(schema: Any) -> Any:
    """Return the schema without members that it does not name: what a caller sends who goes by it."""
    if not isinstance(schema, dict):
        return schema
    found = dict(schema)
    for keyword in ("properties", "patternProperties", "$defs"):
        if keyword in found:
            found[keyword] = {name: closed(inner) for name, inner in found[keyword].items()}
    for keyword in SEVERAL:
        if keyword in found:
            found[keyword] = [closed(inner) for inner in found[keyword]]
    for keyword in ("items", "additionalProperties"):
        if keyword in found:
            found[keyword] = closed(found[keyword])
    if "properties" in found and "patternProperties" not in found:
        found.setdefault("additionalProperties", False)
    return found


def _places(node: Any) -> list[Any]:
    """Return every object in a JSON value."""
    found = [node] if isinstance(node, dict) else []
    for inner in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        found += _places(inner)
    return found
