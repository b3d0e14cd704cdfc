"""Finds policies that are for nothing: a misspelt name or argument, a tool that is gone."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import msgspec

from portway.host.contracts.read_contract import CLOSED, LISTS
from portway.host.contracts.tool_hints import tool_hints
from portway.policy.confirmation import Confirmation
from portway.policy.name_patterns import Pattern, folded
from portway.policy.policies import Kind, Policies
from portway.policy.rules import PolicyRule
from portway.policy.uri_patterns import uri_patterns

_KINDS: dict[str, Kind] = {
    "tools": "tool",
    "prompts": "prompt",
    "resources": "resource",
    "resourceTemplates": "resource",
}
_MOST_WARNINGS, _MOST_COMPARED = 20, 1000  # of arguments, and their names
_NOT_PLAIN = frozenset(("$ref", "allOf", "anyOf", "oneOf", "if", "patternProperties", "dependentSchemas"))
"""Members of a schema by which it may have other properties than those in `properties`."""


@dataclass(frozen=True, slots=True)
class UnusedPolicies:
    """What is for nothing in the rules of a release, a sentence each.

    `faults` are arguments of a tool that the rule names in full, whose schema has no such argument: a limit that limits
    nothing, or a question that cannot name what it is about. All else are `warnings`: a tool may be listed later, or
    to other callers.
    """

    warnings: list[str]
    faults: list[str]


class UnknownArguments(Exception):
    """Policies name arguments that their tools do not have; the message has a sentence for each."""


def unused_policies(contract: bytes, rules: Sequence[PolicyRule]) -> UnusedPolicies:
    """Return what is for nothing in a contract: rules, and arguments in them.

    There is nothing if the server shows nothing.
    """
    if not rules or contract == CLOSED:
        return UnusedPolicies([], [])
    names: dict[Kind, list[str]] = {"tool": [], "prompt": [], "resource": []}
    templates: list[Pattern] = []
    schemas: dict[str, list[object]] = {}
    for era in msgspec.json.decode(contract, type=dict[str, dict[str, object]]).values():
        for member, kind in _KINDS.items():
            listed = msgspec.convert(era.get(member, []), list[dict[str, object]])
            found = [str(entry[LISTS[member][1]]) for entry in listed]
            names[kind] += found
            for entry in listed if kind == "tool" else ():
                schemas.setdefault(str(entry["name"]), []).append(entry.get("inputSchema"))
            if member == "resourceTemplates":
                templates += [pattern for template in found for pattern in uri_patterns(template)]
    policies = Policies(rules, tool_hints(contract.decode()))
    warnings = [
        _warning(rule, names)
        for rule in policies.unused(names)
        if not (rule.resource and any(template.matches(folded(rule.resource)) for template in templates))
    ]
    faults: list[str] = []
    for rule, text in islice(_unused_arguments(policies, schemas), _MOST_WARNINGS):
        (faults if _is_of_one(rule) else warnings).append(text)
    return UnusedPolicies(warnings, faults)


def _warning(rule: PolicyRule, names: dict[Kind, list[str]]) -> str:
    given: dict[Kind, str] = {"tool": rule.tool, "prompt": rule.prompt, "resource": rule.resource}
    kind, name = next(((kind, name) for kind, name in given.items() if name), ("tool", ""))
    near = difflib.get_close_matches(name, names[kind], 1)
    mend = f"; did you mean {near[0]!r}?" if near and "*" not in name else ""
    return f"the policy for {_what(kind, name)} is for nothing that this release lists{mend}"


def _is_of_one(rule: PolicyRule) -> bool:
    return bool(rule.tool) and "*" not in rule.tool


def _what(kind: Kind, name: str) -> str:
    return f"the {kind} {name!r}" if name else "tools by their annotations"


def _unused_arguments(policies: Policies, schemas: Mapping[str, Sequence[object]]) -> Iterator[tuple[PolicyRule, str]]:
    """Yield each rule with a sentence for each argument that it names and that none of its tools has.

    Rules of one tool come first. `schemas` are the input schemas of each tool, one of each era.
    """
    tools: dict[int, list[object]] = {}
    for name, listed in schemas.items():
        for rule in policies.of_tool(name).rules:
            tools.setdefault(id(rule), []).extend(listed)
    for rule in sorted(policies.rules, key=_is_of_one, reverse=True):
        asked = Confirmation(rule.confirm).names if isinstance(rule.confirm, str) else ()
        listed = tools.get(id(rule), [])
        for name in dict.fromkeys([*rule.arguments, *asked]) if listed else ():
            path = name.split(".")
            if not any(_may_have(schema, path) for schema in listed):
                known = {known for each in listed for known in _properties(each)}
                near = difflib.get_close_matches(path[0], sorted(known)[:_MOST_COMPARED], 1)
                is_near = near and near[0] != path[0]
                mend = f"; did you mean {'.'.join([*near, *path[1:]])!r}?" if is_near else ": correct or remove it"
                what = f"the policy for {_what('tool', rule.tool)}"
                yield rule, f"{what} names the argument {name!r}, which this release does not list{mend}"


def _may_have(schema: object, path: Sequence[str]) -> bool:
    """Return whether an input schema allows an argument. Only what it says plainly is judged."""
    if not path or not isinstance(schema, dict) or schema.keys() & _NOT_PLAIN:
        return True
    properties = _properties(schema)
    if path[0] not in properties:
        return schema.get("additionalProperties", "properties" not in schema) is not False
    return _may_have(properties[path[0]], path[1:])


def _properties(schema: object) -> dict[str, object]:
    found = schema.get("properties") if isinstance(schema, dict) else None
    return found if isinstance(found, dict) else {}
