"""Diagnoses the list of tools: names and schemas that known clients refuse, and how much of a model's context it takes.

The rules are what clients and the models' providers have been seen to refuse; a request with one refused tool often
fails whole.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any, TypeGuard

import msgspec

from portway.client.results import Tool
from portway.counted import counted
from portway.diagnosis.report import Report

_BYTES_A_TOKEN = 4  # of English and JSON, roughly
_MANY_TOKENS = 20_000  # a tenth of a context of 200,000
_MOST_TOOLS = 128  # VS Code and OpenAI refuse more
_LONGEST_NAME = 50  # Cursor leaves out a tool whose name has over 60 characters with that of its server
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_KEY = re.compile(r"[a-zA-Z0-9_.-]{1,64}")
_CHOICES = ("anyOf", "oneOf", "allOf")
_NODES = 20_000  # parts of one schema that are looked at
_FOLLOWED = 5 * _NODES  # parts to which references lead, each counted once for each reference
_NAMED = 5  # tools that one finding names
Schema = Mapping[str, Any]


def look_at_tools(tools: list[Tool], list_bytes: int, report: Report) -> None:
    """Report the size of a list of tools, and what of it known clients refuse."""
    tokens = list_bytes // _BYTES_A_TOKEN
    size = f"{counted(len(tools), 'tool')}, about {tokens:,} tokens of a model's context"
    if tokens > _MANY_TOKENS:
        report.finding(
            "tools", f"{size}: as much as many conversations", "shorten descriptions and schemas, or offer fewer tools"
        )
    else:
        report.fact("tools", size)
    if len(tools) > _MOST_TOOLS:
        report.finding(
            "tools",
            f"{len(tools)} tools are more than VS Code and OpenAI take ({_MOST_TOOLS})",
            "offer fewer, or spread them over several servers",
        )
    found: dict[tuple[str, str], list[str]] = {}
    names = Counter(tool.name for tool in tools)
    for tool in tools:
        for problem in {*_problems(tool), *_repeated(tool.name, names)}:
            found.setdefault(problem, []).append(tool.name)
    for (text, mend), refused in sorted(found.items()):
        shown = list(dict.fromkeys(refused))
        more = f" and {len(shown) - _NAMED} more" if len(shown) > _NAMED else ""
        report.finding("tools", f"{', '.join(map(_shown, shown[:_NAMED]))}{more}: {text}", mend)


def _problems(tool: Tool) -> Iterator[tuple[str, str]]:
    """Yield what clients refuse of a tool, and the mend."""
    if not _NAME.fullmatch(tool.name):
        yield (
            "Claude and OpenAI refuse the name, which has other characters than letters, digits, _ and -, or over 64",
            "give it another name",
        )
    elif len(tool.name) > _LONGEST_NAME:
        yield "Cursor leaves it out, as its name is too long together with that of the server", "shorten the name"
    if tool.input_schema.get("type") != "object":
        yield 'the input schema is not of "type": "object", which the protocol asks for', "make it an object"
    if any(choice in tool.input_schema for choice in _CHOICES):
        yield (
            "Claude refuses anyOf, oneOf and allOf at the top of an input schema",
            "make all fields optional there, and check in the tool which are given",
        )
    properties = tool.input_schema.get("properties")
    if isinstance(properties, dict) and not all(map(_KEY.fullmatch, properties)):
        yield (
            "Claude refuses a parameter's name with other characters than letters, digits, _ . and -, or over 64",
            "give the parameter another name",
        )
    yield from _problems_within(tool.input_schema)
    if tool.output_schema is not None and tool.output_schema.get("type") != "object":
        yield (
            'clients on the TypeScript SDK 1 lose the whole list to an output schema that is not of "type": "object"',
            'wrap the result in an object, as in {"result": …}',
        )


def _problems_within(schema: Schema) -> Iterator[tuple[str, str]]:
    for part in _parts(schema):
        if part.get("type") == "array" and "items" not in part and "prefixItems" not in part:
            yield "VS Code, OpenAI and Gemini refuse an array without items", "say what the array holds: items"
        reference = part.get("$ref")
        if isinstance(reference, str) and not reference.startswith("#"):
            yield "no client fetches a $ref to another document", "copy what it names into $defs"
        elif isinstance(reference, str) and not _leads_somewhere(schema, reference):
            yield "a $ref leads nowhere in its schema: most clients drop the tool or the list", "mend the $ref"
    if _refers_to_itself(schema):
        yield "Gemini refuses a schema that refers to itself", "spell out as many levels as are needed"


def _parts(schema: Schema) -> Iterator[Schema]:
    """Yield a schema and the objects in it."""
    waiting: list[Any] = [schema]
    for _ in range(_NODES):
        if not waiting:
            return
        part = waiting.pop()
        if isinstance(part, dict):
            yield part
            waiting += [each for key, each in part.items() if key not in ("default", "examples", "enum", "const")]
        elif isinstance(part, list):
            waiting += part


def _target(schema: Schema, reference: str) -> object:
    """Return what a reference within a schema names (RFC 6901), None for nothing."""
    part: object = schema
    for step in reference.removeprefix("#").split("/")[1:]:
        key = step.replace("~1", "/").replace("~0", "~")
        part = part.get(key) if isinstance(part, dict) else None
    return part


def _is_pointer(reference: object) -> TypeGuard[str]:
    return isinstance(reference, str) and (reference == "#" or reference.startswith("#/"))


def _leads_somewhere(schema: Schema, reference: str) -> bool:
    return not _is_pointer(reference) or _target(schema, reference) is not None  # an anchor is taken as it is


def _refers_to_itself(schema: Schema) -> bool:
    """Return whether references lead from a definition back to it, as far as `_FOLLOWED` parts show."""
    reached: dict[str, list[str]] = {}
    waiting, left = [("", schema)], _FOLLOWED
    while waiting and left > 0:
        name, part = waiting.pop()
        shown = {key: value for key, value in part.items() if key not in ("$defs", "definitions")}
        parts = list(_parts(shown))
        left -= len(parts)
        reached[name] = [each for each in (one.get("$ref") for one in parts) if _is_pointer(each)]
        for reference in {*reached[name]} - reached.keys():
            if isinstance(target := _target(schema, reference), dict):
                reached[reference] = []
                waiting.append((reference, target))
    try:
        TopologicalSorter(reached).prepare()
    except CycleError:
        return True
    return False


def _repeated(name: str, names: Counter[str]) -> list[tuple[str, str]]:
    return (
        [("there are several tools of this name, and clients keep one", "give each its own")] if names[name] > 1 else []
    )


def _shown(name: str) -> str:
    return name[:64] if name.isprintable() else ascii(name)[:64]


def size_of(tools: list[Tool]) -> int:
    """Return the bytes of what a model reads of the tools."""
    return sum(len(msgspec.json.encode([tool.name, tool.description, tool.input_schema])) for tool in tools)
