"""Limits on the arguments of a tool that a schema cannot hold: values, ranges, patterns, folders, allowed hosts;
compiled once and checked on the JSON of a call.

A limit is for what the server may read, not only for what the client has written: each item of a list is checked, text
that holds a list or an object in JSON is looked into, since servers decode it, and an object that names a member twice
is refused, since readers differ on which one counts. An argument that is absent or null is not checked.
"""

import contextlib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from portway.counted import counted
from portway.http.web_url import HostList, read_url
from portway.policy.argument_json import TwoMembers, read_arguments, read_json, refused, unreadable
from portway.policy.rules import Limit

_MOST_PROBLEMS = 10
_LONGEST_PATTERN = 1000
_PATTERN_BYTES = 1 << 20  # of a compiled pattern and of what matching it keeps
_NUMBER = re.compile(r"-?[0-9]{1,15}(?:\.[0-9]{1,15})?")  # in text, as all servers read it
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:|~")  # makes of a path something else
_NOT_IN_PATHS = re.compile(r"[\\\x00-\x1f\x7f]")


class _Check(msgspec.Struct, frozen=True):
    """One condition: what to say when it does not hold, and whether it is for the items of a list in a text, too."""

    said: str
    holds: Callable[[Any], bool]
    is_for_text: bool = True
    looks_into: bool = True


class _Argument(msgspec.Struct, frozen=True):
    name: str
    path: tuple[str, ...]
    is_flat: bool  # its name leads into no object
    checks: tuple[_Check, ...]
    required: bool


class ArgumentLimits:
    """The limits of the arguments of a tool, by name; a point leads into an object: `options.path`.

    Raises ValueError for a limit that cannot be checked.
    """

    def __init__(self, limits: Mapping[str, Limit]) -> None:
        self._arguments = tuple(
            _Argument(name, tuple(name.split(".")), "." not in name, tuple(_checks(name, limit)), limit.required)
            for name, limit in limits.items()
        )

    def check(self, tool: str, arguments: bytes | memoryview | msgspec.Raw | None) -> None:
        """Raise ArgumentError, which names arguments and limits but no value, unless the JSON of arguments is allowed.

        None stands for no arguments. What is no object is left to the schema.
        """
        try:
            values = read_arguments(arguments)
            problems = self._problems(values or {}) if isinstance(values, dict | None) else []
        except (ValueError, RecursionError) as error:
            raise unreadable(tool, error) from None
        if problems:
            shown = problems[:_MOST_PROBLEMS]
            if len(problems) > len(shown):
                shown.append(f"and {len(problems) - len(shown)} more")
            raise refused(tool, shown)

    def _problems(self, values: dict[str, object]) -> list[str]:
        problems = []
        for argument in self._arguments:
            text = values.get(argument.name) if argument.is_flat else None
            if type(text) is str and text.lstrip()[:1] != "[":  # as most are; it holds no list
                for check in argument.checks:
                    if not check.holds(text):
                        problems.append(f"{argument.name}: {check.said}")  # noqa: PERF401 - a list for each argument costs more
                continue
            found = list(_leaves(values, argument.path))
            if argument.required and not found:
                problems.append(f"{argument.name}: it must be given")
            for check in argument.checks:
                for value, looked_into in found:
                    if looked_into and not check.looks_into:
                        continue
                    if (check.is_for_text and not isinstance(value, str)) or not check.holds(value):
                        problems.append(f"{argument.name}: {check.said}")
                        break
        return problems


def _leaves(value: object, path: Sequence[str], looked_into: bool = False) -> Iterator[tuple[object, bool]]:  # noqa: FBT002 - it calls itself
    """Yield the values that a path leads to, and whether each stands in the JSON of a text, which stands there, too."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{") and (path or value.lstrip()[:1] == "["):
        inner = _in_text(value)
        if inner is not value:
            yield from _leaves(inner, path, looked_into=True)
    if isinstance(value, list):
        for item in value:
            yield from _leaves(item, path, looked_into)
    elif not path:
        if value is not None:
            yield value, looked_into
    elif isinstance(value, dict) and path[0] in value:
        yield from _leaves(value[path[0]], path[1:], looked_into)


def _in_text(text: str) -> object:
    try:
        return read_json(text)
    except TwoMembers:
        raise
    except ValueError:
        return text


def _checks(name: str, limit: Limit) -> Iterator[_Check]:
    """Yield the conditions of a limit; raise ValueError for one that cannot be."""
    if _is_idle(limit):
        raise ValueError(f"the limit of {name} lets every value pass, or none: correct or remove it")
    if limit.allow is not None:
        allowed = {(isinstance(value, bool), value) for value in limit.allow}
        listed = ", ".join(json.dumps(value, ensure_ascii=False) for value in limit.allow)
        yield _Check(f"it must be one of {listed}", lambda value: _is_in(value, allowed), is_for_text=False)
    if limit.pattern is not None:
        matches = _compiled(name, limit.pattern)
        yield _Check(f"it must be a text that matches {limit.pattern} as a whole", matches)
    low, high = limit.min_length, limit.max_length
    if low is not None or high is not None:
        said = f"it must be a text of {_characters(low, high)}"
        shortest, longest = low or 0, math.inf if high is None else high
        yield _Check(said, lambda text: shortest <= len(text) <= longest, looks_into=False)
    least, most = limit.minimum, limit.maximum
    if least is not None or most is not None:
        said = f"it must be a number, {_between(least, most)}"
        yield _Check(said, lambda value: _is_between(value, least, most), is_for_text=False)
    if limit.under is not None:
        inside, said = _folder(name, limit.under)
        yield _Check(said, inside)
    if limit.hosts is not None:
        try:
            hosts = HostList(limit.hosts)
        except ValueError as error:
            raise ValueError(f"hosts of {name}: {error}") from None
        yield _Check(
            f"it must be a URL of an allowed host: {', '.join(hosts.entries)}", lambda text: _is_at(text, hosts)
        )


def _is_idle(limit: Limit) -> bool:
    """Whether a limit says nothing, or what no value can keep to."""
    ranges = ((limit.minimum, limit.maximum), (limit.min_length, limit.max_length))
    return (
        limit == Limit()
        or any(listed is not None and not listed for listed in (limit.allow, limit.hosts))
        or any(low is not None and high is not None and low > high for low, high in ranges)
        or any(length is not None and length < 0 for length in ranges[1])
    )


def _is_in(value: object, allowed: set[tuple[bool, str | int | float | bool]]) -> bool:
    return isinstance(value, str | int | float) and (isinstance(value, bool), value) in allowed


def _between(low: float | None, high: float | None) -> str:
    if low is None:
        return f"at most {high:g}"
    return f"at least {low:g}" if high is None else f"from {low:g} to {high:g}"


def _characters(low: int | None, high: int | None) -> str:
    if high is None:
        return f"at least {counted(low or 0, 'character')}"
    return f"from {low} to {counted(high, 'character')}" if low is not None else f"at most {counted(high, 'character')}"


def _is_between(value: object, low: float | None, high: float | None) -> bool:
    if isinstance(value, str) and _NUMBER.fullmatch(value):  # many servers take a number in a text
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return (low is None or value >= low) and (high is None or value <= high)


def _is_at(text: str, hosts: HostList) -> bool:
    try:
        return hosts.admits(read_url(text))
    except ValueError:
        return False


def _folder(name: str, under: str) -> tuple[Callable[[str], bool], str]:
    """Return whether a path stays in the folder `under`, by its text alone, and what to say if not."""
    root = _segments(under)
    if root is None or not under or (not under.startswith("/") and _SCHEME.match(under)):
        raise ValueError(f"under of {name}: {under!r} is no folder as in /data, docs or .")
    wanted: list[str] = root
    is_absolute = under.startswith("/")

    def inside(path: str) -> bool:
        if path.startswith("/") is not is_absolute or (not is_absolute and _SCHEME.match(path)):
            return False
        segments = _segments(path)
        return segments is not None and segments[: len(wanted)] == wanted

    kind = "an absolute path" if is_absolute else "a relative path"
    where = "" if under == "." else f" at or below {under},"
    return inside, f'it must be {kind}{where} without ".."'


def _segments(path: str) -> list[str] | None:
    """Return the segments of a path that count; None where it can lead elsewhere."""
    if _NOT_IN_PATHS.search(path):
        return None
    segments = [segment for segment in path.split("/") if segment not in ("", ".")]
    return None if ".." in segments else segments


def _compiled(name: str, pattern: str) -> Callable[[str], bool]:
    """Compile a pattern for RE2, which matches in a time that grows with the text alone. Raises ValueError."""
    try:
        import re2  # type: ignore[import-untyped] # it has no types
    except ImportError:
        raise ValueError(
            f"pattern of {name}: matching needs google-re2; install it by pip install 'portway[patterns]'"
        ) from None
    options = re2.Options()
    options.max_mem, options.log_errors, options.never_capture = _PATTERN_BYTES, False, True
    try:
        if len(pattern) > _LONGEST_PATTERN:
            raise ValueError(f"pattern of {name}: it is longer than {_LONGEST_PATTERN} characters")
        fullmatch = re2.compile(pattern, options).fullmatch
    except re2.error as error:
        said = error.args[0].decode(errors="replace") if isinstance(error.args[0], bytes) else error
        raise ValueError(f"pattern of {name}: {pattern!r} is no RE2 expression: {said}") from None

    quick = fullmatch
    with contextlib.suppress(re2.error):  # of a pattern that is nearly too large
        alone = re2.Set.FullMatchSet(options)
        alone.Add(pattern)
        alone.Compile()
        quick = alone.Match

    def matches(text: str) -> bool:
        try:
            encoded = text.encode()  # of bytes, RE2 does not find out which characters matched
        except UnicodeEncodeError:  # half a surrogate pair
            return False
        # A set of one pattern is quicker, for it says only whether there is a match; short of memory, it says no.
        return quick(encoded) is not None or fullmatch(encoded) is not None

    return matches
