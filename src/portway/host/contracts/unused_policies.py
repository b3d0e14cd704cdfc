"""Policies that are for nothing which a release lists: a misspelt name, or a tool that is gone."""

import difflib
from collections.abc import Sequence

import msgspec

from portway.host.contracts.read_contract import CLOSED, LISTS
from portway.host.contracts.tool_hints import tool_hints
from portway.policy.patterns import Pattern, folded
from portway.policy.policies import Kind, Policies
from portway.policy.rules import PolicyRule
from portway.policy.uris import uri_patterns

_KINDS: dict[str, Kind] = {
    "tools": "tool",
    "prompts": "prompt",
    "resources": "resource",
    "resourceTemplates": "resource",
}


def unused_policies(contract: bytes, rules: Sequence[PolicyRule]) -> list[str]:
    """Return a warning for each rule that is for nothing in a contract; none if the server shows nothing."""
    if not rules or contract == CLOSED:
        return []
    names: dict[Kind, list[str]] = {"tool": [], "prompt": [], "resource": []}
    templates: list[Pattern] = []
    for era in msgspec.json.decode(contract, type=dict[str, dict[str, object]]).values():
        for member, kind in _KINDS.items():
            listed = msgspec.convert(era.get(member, []), list[dict[str, object]])
            found = [str(entry[LISTS[member][1]]) for entry in listed]
            names[kind] += found
            if member == "resourceTemplates":
                templates += [pattern for template in found for pattern in uri_patterns(template)]
    unused = Policies(rules, tool_hints(contract.decode())).unused(names)
    return [
        _warning(rule, names)
        for rule in unused
        if not (rule.resource and any(template.matches(folded(rule.resource)) for template in templates))
    ]


def _warning(rule: PolicyRule, names: dict[Kind, list[str]]) -> str:
    given: dict[Kind, str] = {"tool": rule.tool, "prompt": rule.prompt, "resource": rule.resource}
    kind, name = next(((kind, name) for kind, name in given.items() if name), ("tool", ""))
    what = f"the {kind} {name!r}" if name else "tools by their annotations"
    near = difflib.get_close_matches(name, names[kind], 1)
    mend = f"; did you mean {near[0]!r}?" if near and "*" not in name else ""
    return f"the policy for {what} is for nothing that this release lists{mend}"
