"""What is wrong with an argument, and the one way to say it, whichever engine found it."""

import functools
from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from portway.plans.schema import Path, Shape, show


class Fault(msgspec.Struct, frozen=True):
    """One thing wrong inside one argument; `path` leads there from the argument, `said` is the engine's own words."""

    kind: Literal["missing", "unknown", "invalid"]
    path: Path = ()
    said: str = ""


class Refused(Exception):
    """An engine refuses the value of one argument."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = faults


def missing(shape: Shape, path: Path) -> str:
    expected = shape.describe(shape.at(path))
    return f"{spell(path)}: missing ({expected} is required)" if expected else f"{spell(path)}: missing"


def unknown(shape: Shape, path: Path) -> str:
    """Names an argument or field nobody asked for, with the nearest one that exists."""
    return unknown_among(path, shape.at(path[:-1]).get("properties", {}) if len(path) > 1 else shape.properties)


def unknown_among(path: Path, names: Iterable[str]) -> str:
    """The same, where `names` are those that exist."""
    import difflib  # only a call that fails needs it

    near = difflib.get_close_matches(str(path[-1]), list(names), n=1)
    return f"{spell(path)}: unknown, did you mean {near[0]}?" if near else f"{spell(path)}: unknown"


def describe(shape: Shape, name: str, value: object, faults: Sequence[Fault]) -> list[str]:
    """Renders the faults of the argument `name`, whose value is `value`; each place is named once."""
    lines: dict[Path, str] = {}
    for fault in faults:
        path = (name, *fault.path)
        if path in lines:
            continue
        if fault.kind == "missing":
            lines[path] = missing(shape, path)
        elif fault.kind == "unknown":
            lines[path] = unknown(shape, path)
        else:
            lines[path] = _invalid(shape, path, functools.reduce(step_into, fault.path, value), fault.said)
    return list(lines.values())


class Lost:
    """Stands for a value no path leads to."""


def step_into(value: object, step: str | int) -> object:
    """Returns the member of plain data, or Lost."""
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


def _invalid(shape: Shape, path: Path, value: object, said: str) -> str:
    expected = shape.describe(shape.at(path))
    got = "" if value is Lost else f", got {show(value)}"
    if not expected or (isinstance(value, _KINDS.get(expected, ())) and not isinstance(value, bool)):
        return f"{spell(path)}: {said[:1].lower()}{said[1:]}{got}"  # the type is right, so only the engine knows why
    return f"{spell(path)}: expected {expected}{got}"


def spell(path: Path) -> str:
    """Writes the way to a value as code does: rows[2].name."""
    first, *rest = path
    return str(first) + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in rest)
