"""The changes between two JSON Schemas in words, and which of them break callers."""

import time
from collections.abc import Iterator
from typing import Literal

from portway.host.contracts.contract_changes import Note, as_json, shown
from portway.host.contracts.schema_inclusion import UNJUDGED, Inclusion, Path, Problem
from portway.host.contracts.schema_tree import SchemaTree, Undecidable, canonical, named

View = Literal["input", "output"]
"""Callers send what an input schema accepts, and get what an output schema accepts."""

_MOST_BYTES = 256 * 1024  # of one schema
_STEPS = 20_000
_SECONDS = 1.0  # of the processor, in the thread that compares them: for all schemas of a contract
_ANNOTATIONS = frozenset(
    {"title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "$comment"}
)
_SHOWN_VALUES = 5


class SchemaComparison:
    """Compares the schemas of two contracts. What takes too long, one by one or all together, cannot be judged."""

    def __init__(self) -> None:
        self._until = time.thread_time() + _SECONDS
        self._known: dict[tuple[str, str, View], list[Note]] = {}  # most schemas are the same in both eras

    def notes(self, old: object, new: object, view: View) -> list[Note]:
        """Return the changes between two schemas that differ."""
        key = as_json(old), as_json(new), view
        if key not in self._known:
            try:
                if time.thread_time() > self._until or max(len(key[0]), len(key[1])) > _MOST_BYTES:
                    raise Undecidable
                self._known[key] = self._compare(old, new, view)
            except Undecidable:
                self._known[key] = [Note(f"{view} schema changed, in a way that cannot be judged", breaks=True)]
        return self._known[key]

    def _compare(self, old: object, new: object, view: View) -> list[Note]:
        if canonical(old) == canonical(new):
            return []
        lost, gained = self._problems(old, new), self._problems(new, old)
        notes = [_note(path, keyword, lost, gained, view) for path, keyword in dict.fromkeys((*lost, *gained))]
        found = [note for note in notes if note is not None]
        found += [Note(text, breaks=False) for text in _annotations(old, new)]
        return found or [Note(f"{view} schema written in another way", breaks=False)]

    def _problems(self, source: object, target: object) -> dict[tuple[Path, str], list[Problem]]:
        """Return what `source` accepts and `target` may refuse, by path and keyword."""
        found: dict[tuple[Path, str], list[Problem]] = {}
        for problem in Inclusion(SchemaTree(source), SchemaTree(target), _STEPS, self._until).problems():
            found.setdefault((problem.path, problem.keyword), []).append(problem)
        return found


def _note(
    path: Path,
    keyword: str,
    lost: dict[tuple[Path, str], list[Problem]],
    gained: dict[tuple[Path, str], list[Problem]],
    view: View,
) -> Note | None:
    """Return the note for one keyword at one path, None where another says it."""
    was_lost, was_gained = lost.get((path, keyword)), gained.get((path, keyword))
    breaks = bool(was_lost if view == "input" else was_gained)
    if keyword == "property":
        if was_lost:
            return _at(path, "removed", breaks=True)
        return None if (path, "required") in lost else _at(path, "new optional", breaks=False)
    if keyword == "required":
        if was_lost:
            is_known = any(problem.source for problem in was_lost)
            return _at(path, "now required" if is_known else "new required", breaks=breaks)
        return None if (path, "property") in lost else _at(path, "now optional", breaks=breaks)
    if keyword in (UNJUDGED, "false"):
        return _at(path, "changed, in a way that cannot be judged" if breaks else "changed", breaks=breaks)
    if keyword in ("type", "enum"):
        return _at(path, _values(keyword, was_lost or [], was_gained or []), breaks=breaks)
    old, new = (was_lost[0].source, was_lost[0].target) if was_lost else (None, None)
    if was_gained:
        old, new = was_gained[0].target, was_gained[0].source
    return _at(path, f"{keyword} {_value(old)} → {_value(new)}", breaks=breaks)


def _values(keyword: str, lost: list[Problem], gained: list[Problem]) -> str:
    """Say which types or values an input or output can have no longer, and which it can have now."""
    gone = _difference(lost)
    added = _difference(gained)
    if gone and added:
        return f"{'type' if keyword == 'type' else 'values'} {gone} → {added}"
    if gone:
        return f"no longer {gone}"
    if added:
        return f"also {added}"
    only = next((problem.target for problem in lost), None) or next((problem.target for problem in gained), ())
    listed = _list(only if isinstance(only, tuple) else ())
    return f"only {listed}" if lost else f"not only {listed}"


def _difference(problems: list[Problem]) -> str:
    """Return the values that sources have and their targets have not, "" when a source does not list its values."""
    found: dict[object, None] = {}
    for problem in problems:
        if not isinstance(problem.source, tuple) or not isinstance(problem.target, tuple):
            return ""
        kept = set(problem.target)
        found |= dict.fromkeys(value for value in problem.source if value not in kept)
    return _list(tuple(found))


def _list(values: tuple[object, ...]) -> str:
    named_ = [value.decode() if isinstance(value, bytes) else str(value) for value in values]
    more = f" and {len(named_) - _SHOWN_VALUES} more" if len(named_) > _SHOWN_VALUES else ""
    return ", ".join(shown(name) for name in named_[:_SHOWN_VALUES]) + more


def _value(value: object) -> str:
    return "none" if value is None else shown(str(value))


def _at(path: Path, words: str, *, breaks: bool) -> Note:
    return Note(f"{_spell(path)}: {words}" if path else words, breaks=breaks)


def _spell(path: Path) -> str:
    """Write a path as in `place.tags[]`."""
    return shown(".".join(path).replace(".[]", "[]"))


def _annotations(old: object, new: object) -> Iterator[str]:
    """Yield the annotations that differ at places which both schemas have."""
    before, after = dict(_annotated(old, ())), dict(_annotated(new, ()))
    for path, had in before.items():
        has = after.get(path)
        for name in sorted(had.keys() | has.keys()) if has is not None else ():
            values = had.get(name), has.get(name) if has is not None else None
            if canonical(values[0]) != canonical(values[1]):
                where = f"{_spell(path)}: " if path else ""
                yield f"{where}{shown(name)} {_text(values[0])} → {_text(values[1])}"


def _annotated(schema: object, path: Path) -> Iterator[tuple[Path, dict[str, object]]]:
    """Yield the path of each schema with what in it asserts nothing."""
    if not isinstance(schema, dict):
        return
    yield path, {name: value for name, value in schema.items() if name in _ANNOTATIONS or name.startswith("x-")}
    for keyword in ("properties", "patternProperties", "$defs", "definitions"):
        for name, inner in named(schema, keyword).items():
            yield from _annotated(inner, (*path, name))
    for keyword in ("items", "additionalProperties"):
        yield from _annotated(schema.get(keyword), (*path, "[]" if keyword == "items" else "*"))
    for keyword in ("anyOf", "oneOf", "allOf", "prefixItems"):
        options = schema.get(keyword)
        for number, inner in enumerate(options if isinstance(options, list) else ()):
            yield from _annotated(inner, (*path, f"{keyword}[{number}]"))


def _text(value: object) -> str:
    return "none" if value is None else shown(canonical(value).decode())
