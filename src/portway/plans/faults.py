"""Words what is wrong with an argument, the same for both engines: missing, unknown, wrong type, out of range."""

import functools
from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from portway.plans.schema import Path, Shape, show

MAX_FAULTS = 10
"""Faults that one error names; what a client sends may have any number."""
_LONGEST = 100  # characters of a name for which a near one is sought


class Fault(msgspec.Struct, frozen=True):
    """One thing wrong inside one argument. `path` leads there from the argument; `said` is the engine's own message.

    `says_more` is True if that message says more than the schema does, and so is shown.
    """

    kind: Literal["missing", "unknown", "invalid"]
    path: Path = ()
    said: str = ""
    says_more: bool = False


class Refused(Exception):
    """An engine refuses the value of one argument."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = faults


def missing(path: Path, expected: str) -> str:
    """Return the sentence for an absent argument or field; `expected` says in words what it must be, or is ""."""
    return f"{spell(path)}: missing ({expected} is required)" if expected else f"{spell(path)}: missing"


def unknown(path: Path, names: Iterable[str]) -> str:
    """Return the sentence for an argument or field that is not one of `names`, with the nearest one of them."""
    import difflib  # only a call that fails needs it

    name = str(path[-1])
    near = difflib.get_close_matches(name, list(names), n=1) if len(name) <= _LONGEST else []
    return f"{spell(path)}: unknown, did you mean {near[0]}?" if near else f"{spell(path)}: unknown"


def describe(shape: Shape, name: str, value: object, faults: Sequence[Fault]) -> list[str]:
    """Return one sentence for each place in the argument `name`, whose value is `value`, that has a fault."""
    lines: dict[Path, str] = {}
    for fault in faults:
        path = (name, *fault.path)
        if len(lines) == MAX_FAULTS:
            break
        if path in lines:
            continue
        if fault.kind == "missing":
            lines[path] = missing(path, shape.describe(shape.at(path)))
        elif fault.kind == "unknown":
            lines[path] = unknown(path, shape.at(path[:-1]).get("properties", {}))
        else:
            expected = shape.describe(shape.at(path))
            lines[path] = _invalid(path, expected, functools.reduce(step_into, fault.path, value), fault)
    return list(lines.values())


class Lost:
    """Stands for a value that no path leads to."""


def step_into(value: object, step: str | int) -> object:
    """Return the member of plain data, or Lost."""
    if isinstance(value, dict):
        return value.get(step, Lost)
    if isinstance(value, list) and isinstance(step, int) and step < len(value):
        return value[step]
    return Lost


_KINDS: dict[str, type | tuple[type, ...]] = {
    "a string": str,
    "an integer": int,
    "a number": (int, float),
    "a list": list,
    "an object": dict,
}


def _invalid(path: Path, expected: str, value: object, fault: Fault) -> str:
    got = "" if value is Lost else f", got {show(value)}"
    type_is_right = isinstance(value, _KINDS.get(expected, ())) and not isinstance(value, bool)
    if not expected or type_is_right or fault.says_more:
        return f"{spell(path)}: {fault.said[:1].lower()}{fault.said[1:]}{got}"
    return f"{spell(path)}: expected {expected}{got}"


def spell(path: Path) -> str:
    """Write the way to a value as code does: rows[2].name. A long name is cut."""
    first, *rest = path
    return _cut(first) + "".join(f"[{step}]" if isinstance(step, int) else f".{_cut(step)}" for step in rest)


def _cut(step: str | int) -> str:
    text = str(step)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
