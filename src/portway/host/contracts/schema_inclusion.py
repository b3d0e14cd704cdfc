"""Decides whether all that one JSON Schema accepts is accepted by another, and where not.

The answer is on the safe side: nothing is passed over that the target may refuse, and what cannot be decided counts as
refused. An object has only the members that the source names, unless `additionalProperties` or `patternProperties` of
the source speak of others, or a nested object names none at all.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from portway.host.contracts.schema_tree import (
    ANY_TYPE,
    Assertions,
    Node,
    SchemaTree,
    Undecidable,
    canonical,
    has_reference,
    named,
    texts,
    type_of,
    types_of,
    types_of_all,
    values_of,
)

Path = tuple[str, ...]
T = TypeVar("T")
UNJUDGED = "unjudged"
"""The keyword of a problem that cannot be decided."""
_GROUPS = (
    ("not",),
    ("if", "then", "else"),
    ("contains", "minContains", "maxContains"),
    ("prefixItems", "items", "additionalItems"),
    ("anyOf",),
    ("oneOf",),
    ("propertyNames",),
    ("dependentRequired",),
    ("dependentSchemas",),
    ("dependencies",),
)
"""Keywords that are understood together: where the source has all of a group word for word, the target's hold."""
_UNDECIDED = {
    *("not", "if", "then", "else", "contains", "minContains", "maxContains", "propertyNames", "dependentRequired"),
    *("dependentSchemas", "dependencies", "unevaluatedItems", "unevaluatedProperties", "prefixItems"),
    *("additionalItems", "$ref", "$dynamicRef", "$recursiveRef"),
}
_SAME_TEXT = ("pattern", "format", "contentEncoding", "contentMediaType")
_SIZES = (
    ("minLength", "maxLength", "string"),
    ("minItems", "maxItems", "array"),
    ("minProperties", "maxProperties", "object"),
)
_OPTIONS = ("anyOf", "oneOf")
_KINDS: dict[str, Assertions] = {
    name: {"type": name} for name in ("null", "boolean", "object", "array", "string", "number")
}


@dataclass(frozen=True, slots=True)
class Problem:
    """A keyword by which the target may refuse at `path` what the source accepts; the values are those of both."""

    path: Path
    keyword: str
    source: object = None
    target: object = None


class Inclusion:
    """One comparison. It makes so many `steps` at most, and none later than `until`, by the thread's own clock."""

    def __init__(self, source: SchemaTree, target: SchemaTree, steps: int, until: float) -> None:
        self._source = source
        self._target = target
        self._steps = steps
        self._until = until
        self._open: set[tuple[frozenset[int], frozenset[int]]] = set()
        self._kept: dict[bytes, Assertions] = {}

    def problems(self) -> list[Problem]:
        """Return where the target may refuse what the source accepts. Raises `Undecidable`."""
        try:
            return list(dict.fromkeys(self._check((self._source.root,), self._target.root, ())))
        except RecursionError:
            raise Undecidable from None

    def _check(self, source: Sequence[Node], target: Node, path: Path, *, is_option: bool = False) -> list[Problem]:
        """Return the problems of a value at `path`. One of several options of the target need not name all members."""
        self._spent(None)
        if target is True or target == {}:
            return []
        parts = self._source.conjuncts(source, is_exact=False)
        if parts is None or not types_of_all(parts):
            return []
        if not isinstance(target, dict):
            return [Problem(path, "false" if target is False else UNJUDGED)]
        wanted = self._target.conjuncts((target,), is_exact=True)
        if wanted is None:
            return [Problem(path, "false")]
        key = (frozenset(map(id, parts)), frozenset(map(id, wanted)))
        if key in self._open:  # a reference has led back here: it holds if all else does
            return []
        self._open.add(key)
        try:
            return self._check_parts(parts, wanted, path, is_option=is_option)
        finally:
            self._open.discard(key)

    def _check_parts(
        self, parts: list[Assertions], wanted: list[Assertions], path: Path, *, is_option: bool
    ) -> list[Problem]:
        """Compare schemas that hold together: each of the source's alternatives with all of the target."""
        left = [rest for part in wanted if (rest := self._unsaid(part, parts))]
        if not left:
            return []
        for part in parts:
            for keyword in _OPTIONS:
                options = part.get(keyword)
                if isinstance(options, list) and options:
                    others = [other for other in parts if other is not part]
                    rest = self._source.without(part, keyword)
                    cases = [self._source.conjuncts((*others, rest, option), is_exact=False) for option in options]
                    return [
                        problem
                        for case in cases
                        if case is not None and types_of_all(case)
                        for problem in self._check_parts(self._spent(case), wanted, path, is_option=is_option)
                    ]
        problems = [problem for each in left for problem in self._check_keywords(parts, each, path)]
        if not is_option and "object" in types_of_all(parts):
            names = self._names(wanted)
            declared = dict.fromkeys(name for part in parts for name in named(part, "properties"))
            problems += [
                Problem((*path, name), "property")
                for name in declared
                if names is not None and name not in names and _member(parts, name, path) is not None
            ]
        return problems

    def _names(self, wanted: Sequence[Assertions]) -> set[str] | None:
        """Return the members that a schema of the target speaks of; None if it speaks of any."""
        found: set[str] = set()
        waiting, seen = list(wanted), set[int]()
        while waiting:
            part = self._spent(waiting.pop())
            if id(part) in seen:
                continue
            seen.add(id(part))
            if part.get("additionalProperties", False) is not False or "patternProperties" in part:
                return None
            found |= named(part, "properties").keys()
            for keyword in _OPTIONS:
                options = part.get(keyword)
                for option in options if isinstance(options, list) else ():
                    waiting += self._target.conjuncts((option,), is_exact=True) or []
        return found

    def _spent(self, value: T) -> T:
        self._steps -= 1
        if self._steps < 0 or time.thread_time() > self._until:
            raise Undecidable
        return value

    def _unsaid(self, target: Assertions, parts: list[Assertions]) -> Assertions:
        """Return the target without what one of the source's schemas says word for word."""
        for part in parts:
            if self._is_same(part, target):
                return {}
        said = [
            keyword
            for group in _GROUPS
            if any(keyword in target for keyword in group)
            and any(
                all((k in part) == (k in target) and self._is_same(part.get(k), target.get(k)) for k in group)
                for part in parts
            )
            for keyword in group
        ]
        return self._target.without(target, *said) if said else target

    def _is_same(self, source: object, target: object) -> bool:
        text = self._source.text(source)
        self._steps -= len(text) // 500
        if text != self._target.text(target):
            return False
        return not has_reference(text) or self._source.text(self._source.root) == self._target.text(self._target.root)

    def _check_keywords(self, parts: list[Assertions], target: Assertions, path: Path) -> list[Problem]:
        """Return the problems with a target that has no reference and no `allOf`; the parts have no alternatives."""
        problems = [Problem(path, UNJUDGED, None, keyword) for keyword in target if keyword in _UNDECIDED]
        problems += [Problem(path, UNJUDGED, None, keyword) for keyword in target if _is_malformed(keyword, target)]
        if problems:
            return problems
        types, values = types_of_all(parts), values_of(parts)
        if values is not None:
            types &= {type_of(value) for value in values.values()}
        if not types:
            return []
        if lost := types - types_of(target):
            return [Problem(path, "type", _type_names(types), _type_names(types_of(target)))] if lost else []
        problems = self._listed(parts, target, path)
        problems += [Problem(path, *each) for each in _numbers_and_texts(parts, target, types)]
        if "object" in types:
            problems += self._objects(parts, target, path)
        if "array" in types:
            problems += self._arrays(parts, target, path)
        for keyword in _OPTIONS:
            if keyword in target:
                problems += self._options(parts, target, keyword, path)
        return problems

    def _listed(self, parts: list[Assertions], target: Assertions, path: Path) -> list[Problem]:
        if "enum" not in target and "const" not in target:
            return []
        wanted, values = values_of([target]) or {}, values_of(parts)
        if values is not None and values.keys() <= wanted.keys():
            return []
        given = None if values is None else tuple(values)
        return [Problem(path, "enum", given, tuple(wanted))]

    def _objects(self, parts: list[Assertions], target: Assertions, path: Path) -> list[Problem]:
        declared = dict.fromkeys(name for part in parts for name in named(part, "properties"))
        required = {name for part in parts for name in texts(part, "required")}
        problems = [
            Problem((*path, name), "required", name in declared)
            for name in texts(target, "required")
            if name not in required
        ]
        wanted, patterns = named(target, "properties"), named(target, "patternProperties")
        others = target.get("additionalProperties")
        has_patterns = any(patterns.keys() <= named(part, "patternProperties").keys() for part in parts)
        for name, node in wanted.items():
            if (member := _member(parts, name, path)) is not None:
                problems += self._check(member, node, (*path, name))
        for name in declared:
            if name in wanted or (member := _member(parts, name, path)) is None:
                continue
            if patterns and not has_patterns:
                problems.append(Problem((*path, name), UNJUDGED))
            elif others is False and not patterns:
                problems.append(Problem((*path, name), "property"))
            elif others is not None and not patterns:
                problems += self._check(member, others, (*path, name))
            elif others is not None:
                problems.append(Problem((*path, name), UNJUDGED))
        for pattern, node in patterns.items():
            owners = [all_[pattern] for part in parts if pattern in (all_ := named(part, "patternProperties"))]
            if owners:
                problems += self._check(owners, node, (*path, f"/{pattern}/"))
            elif declared or _member(parts, None, path) is not None:
                problems.append(Problem(path, UNJUDGED, None, "patternProperties"))
        if others is not None and others is not True:
            if any(named(part, "patternProperties").keys() - patterns.keys() for part in parts):
                problems.append(Problem(path, UNJUDGED, None, "additionalProperties"))
            elif (member := _member(parts, None, path)) is not None:
                problems += self._check(member, others, (*path, "*"))
        return problems

    def _arrays(self, parts: list[Assertions], target: Assertions, path: Path) -> list[Problem]:
        problems = []
        if target.get("uniqueItems") is True and not any(part.get("uniqueItems") is True for part in parts):
            problems.append(Problem(path, "uniqueItems", None, True))
        if "items" in target:
            items = [part["items"] for part in parts if "prefixItems" not in part and _is_schema(part.get("items"))]
            problems += self._check(items, target["items"], (*path, "[]"))
        return problems

    def _options(self, parts: list[Assertions], target: Assertions, keyword: str, path: Path) -> list[Problem]:
        options = target[keyword]
        assert isinstance(options, list)
        problems = []
        for case in self._cases(parts):
            tried = [self._check(case, option, path, is_option=True) for option in options]
            fitting = [number for number, found in enumerate(tried) if not found]
            if keyword == "oneOf" and fitting:
                # One option accepts the case whole; no other may accept any of it.
                others = (option for number, option in enumerate(options) if number != fitting[0])
                if all(self._are_disjoint(case, (other,)) for other in others):
                    continue
            elif fitting:
                continue
            types = types_of_all(case)
            lost = types.difference(*(self._types(option) for option in options))
            near = [found for option, found in zip(options, tried, strict=True) if self._types(option) & types]
            near = [found for found in near if all(each.keyword == "property" for each in found)][:1] or near
            if lost:
                problems.append(Problem(path, "type", _type_names(types), _type_names(types - lost)))
            elif len(near) == 1 and near[0]:
                problems += near[0]
            else:
                problems.append(Problem(path, UNJUDGED, None, keyword))
        return problems

    def _cases(self, parts: list[Assertions]) -> list[list[Assertions]]:
        """Return the source split by type, and by value where these are listed."""
        values = values_of(parts)
        if values is not None and len(values) <= 100:
            return [[self._keep({"const": value, "type": _json_type(value)})] for value in values.values()]
        types = types_of_all(parts)
        kinds = [kind for kind in _KINDS.values() if types_of(kind) & types]
        return [[*parts, kind] for kind in kinds] if len(kinds) > 1 else [parts]

    def _keep(self, node: Assertions) -> Assertions:
        return self._kept.setdefault(canonical(node), node)

    def _types(self, node: Node) -> frozenset[str]:
        """Return the types that a schema of the target may accept."""
        parts = self._target.conjuncts((node,), is_exact=False)
        if parts is None:
            return frozenset()
        types, values = types_of_all(parts), values_of(parts)
        if values is not None:
            types &= {type_of(value) for value in values.values()}
        for part in parts:
            for keyword in _OPTIONS:
                if isinstance(options := part.get(keyword), list):
                    types &= frozenset[str]().union(*(self._types(option) for option in options))
        return types

    def _are_disjoint(self, source: Sequence[Node], target: Sequence[Node]) -> bool:
        """Return whether it is certain that no value is accepted by both."""
        self._spent(None)
        mine = self._source.conjuncts(source, is_exact=False)
        theirs = self._target.conjuncts(target, is_exact=False)
        if mine is None or theirs is None:
            return True
        types = types_of_all(mine).intersection(*(self._types(part) for part in theirs))
        one, other = values_of(mine), values_of(theirs)
        if not types or (one is not None and other is not None and not one.keys() & other.keys()):
            return True
        if types != {"object"}:
            return False
        members = {name for part in theirs for name in named(part, "properties")}
        for name in members.intersection(*[[name for part in mine for name in texts(part, "required")]]):
            member = [named(part, "properties")[name] for part in mine if name in named(part, "properties")]
            if self._are_disjoint(member, [named(part, "properties").get(name, True) for part in theirs]):
                return True
        return False


def _member(parts: Sequence[Assertions], name: str | None, path: Path) -> list[Node] | None:
    """Return the schemas of an object's member, None if callers do not send it; without a name, of any other member."""
    found: list[Node] = []
    may_be_there = bool(path) and not any("properties" in part for part in parts)
    for part in parts:
        properties = named(part, "properties")
        if name is not None and name in properties:
            found.append(properties[name])
            may_be_there = True
        elif name is not None and named(part, "patternProperties"):
            may_be_there = True
        elif "additionalProperties" in part:
            if part["additionalProperties"] is False:
                return None
            found.append(part["additionalProperties"])
            may_be_there = True
    return found if may_be_there else None


def _numbers_and_texts(
    parts: Sequence[Assertions], target: Assertions, types: frozenset[str]
) -> list[tuple[str, object, object]]:
    """Return the keywords of the target for texts, sizes and numbers that the source does not keep, and both values."""
    found: list[tuple[str, object, object]] = []
    values = values_of(parts)
    for keyword in _SAME_TEXT if "string" in types else ():
        given = [text for part in parts if isinstance(text := part.get(keyword), str)]
        if keyword in target and target[keyword] not in given:
            found.append((keyword, given[0] if given else None, target[keyword]))
    for least, most, kind in _SIZES:
        if kind in types:
            sized = [each for each in (values or {}).values() if isinstance(each, str | list | dict)]
            sizes = None if values is None else [len(each) for each in sized if type_of(each) == kind]
            found += _limits(parts, target, (least, most), sizes, default=0)
    if types & {"integer", "fraction"}:
        numbers = None if values is None else [n for n in values.values() if type_of(n) in ("integer", "fraction")]
        found += _limits(parts, target, ("minimum", "maximum"), numbers, default=None)
        found += _limits(parts, target, ("exclusiveMinimum", "exclusiveMaximum"), numbers, default=None)
        found += _multiples(parts, target, types)
    return found


def _limits(
    parts: Sequence[Assertions],
    target: Assertions,
    keywords: tuple[str, str],
    values: Sequence[object] | None,
    default: int | None,
) -> list[tuple[str, object, object]]:
    found: list[tuple[str, object, object]] = []
    for keyword, sign in zip(keywords, (1, -1), strict=True):
        limit = _number(target.get(keyword))
        if limit is None:
            continue
        is_exclusive = keyword.startswith("exclusive")
        if values is not None:
            numbers = [number for value in values if (number := _number(value)) is not None]
            if all((number - limit) * sign > 0 or (number == limit and not is_exclusive) for number in numbers):
                continue
        plain = [number for part in parts if (number := _number(part.get(keyword))) is not None]
        if default is not None and sign > 0:
            plain.append(default)
        reached = [(number, is_exclusive) for number in plain]
        if "imum" in keyword:
            twin = keyword.replace("exclusiveM", "m") if is_exclusive else f"exclusive{keyword.capitalize()}"
            reached += [(number, not is_exclusive) for part in parts if (number := _number(part.get(twin))) is not None]
        if not any((n - limit) * sign > 0 or (n == limit and (ex or not is_exclusive)) for n, ex in reached):
            found.append((keyword, (max if sign > 0 else min)(plain, default=None), limit))
    return found


def _multiples(
    parts: Sequence[Assertions], target: Assertions, types: frozenset[str]
) -> list[tuple[str, object, object]]:
    wanted = target.get("multipleOf")
    if wanted is None:
        return []
    given = [number for part in parts if (number := _number(part.get("multipleOf"))) is not None]
    is_whole = isinstance(wanted, int) and all(isinstance(number, int) for number in given)
    if "fraction" not in types and is_whole:
        given.append(1)
    if wanted in given or (is_whole and any(number % wanted == 0 for number in given)):  # type: ignore[operator]
        return []
    return [("multipleOf", given[0] if given else None, wanted)]


def _is_malformed(keyword: str, target: Assertions) -> bool:
    """Return whether a keyword that the comparison reads has a value that JSON Schema does not give it."""
    value = target[keyword]
    if keyword in ("items", "additionalProperties"):
        return not _is_schema(value)
    if keyword in ("properties", "patternProperties"):
        return not isinstance(value, dict) or not all(map(_is_schema, value.values()))
    if keyword in _OPTIONS:
        return not isinstance(value, list) or not value or not all(map(_is_schema, value))
    if keyword in ("enum", "required"):
        return not isinstance(value, list)
    if keyword == "type":
        names = value if isinstance(value, list) else [value]
        return not all(isinstance(name, str) and (name in ANY_TYPE or name == "number") for name in names)
    if keyword.startswith(("min", "max", "exclusive", "multiple")):
        return _number(value) is None or (keyword == "multipleOf" and value == 0)
    return keyword in _SAME_TEXT and not isinstance(value, str)


def _is_schema(node: object) -> bool:
    return isinstance(node, dict | bool)


def _number(value: object) -> int | float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _json_type(value: object) -> str:
    kind = type_of(value)
    return "number" if kind in ("integer", "fraction") else kind


def _type_names(types: frozenset[str]) -> tuple[str, ...]:
    """Return the names of types as JSON Schema has them."""
    names = types - {"fraction"} if "fraction" not in types else (types - {"integer", "fraction"}) | {"number"}
    return tuple(sorted(names))
