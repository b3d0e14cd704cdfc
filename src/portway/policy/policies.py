"""Finds what the rules of an app say together of one tool, prompt or resource: the scopes it needs, its limits, whether
it is switched off.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from portway.policy.name_patterns import Pattern, folded, name_pattern
from portway.policy.rules import PolicyRule, ToolHints
from portway.policy.uri_patterns import uri_fault, uri_forms, uri_patterns

if TYPE_CHECKING:
    from portway.policy.tool_limits import ToolLimits

Kind = Literal["tool", "prompt", "resource"]

_LONGEST = 4096  # characters of a name that is compared; every rule, and every switch, is for a longer one
_KNOWN, _LONGEST_KNOWN = 256, 256  # prompts and resources whose policy is remembered, and characters of their names


@dataclass(frozen=True, slots=True)
class Policy:
    """What all `rules` that are for one thing say together: a caller needs the `scopes` of each of them.

    A call of a tool keeps to each of the `limits`. They count it for its caller and for `counted_as`, the tool: "" for
    all tools together that the contract has not, so that no caller has a new count for each name it thinks of.
    """

    rules: tuple[PolicyRule, ...] = ()
    scopes: frozenset[str] = frozenset()
    is_off: bool = False
    limits: tuple[ToolLimits, ...] = ()
    counted_as: str = ""


NO_POLICY = Policy()


@dataclass(frozen=True, slots=True)
class _Compiled:
    rule: PolicyRule
    patterns: tuple[Pattern, ...]
    limits: ToolLimits | None = None

    def is_for(self, forms: Iterable[str], hints: ToolHints | None) -> bool:
        """Whether it is for what has one of these names, and, if that is a tool of the contract, these annotations."""
        rule = self.rule
        if hints is not None and (
            rule.read_only not in (None, hints.read_only) or rule.destructive not in (None, hints.destructive)
        ):
            return False
        return any(pattern.matches(form) for pattern in self.patterns for form in forms)


class Policies:
    """Finds the policy of a tool, prompt or resource. It is made anew when the rules, the contract or `off` change.

    `tools` are those of the contract, by name. Any other tool counts as having whatever annotations a rule looks for.
    `off` are the tools that are switched off. The counts of calls under rules that were in force `before` go on.
    """

    def __init__(
        self,
        rules: Iterable[PolicyRule] = (),
        tools: Mapping[str, ToolHints] | None = None,
        off: Iterable[str] = (),
        before: Policies | None = None,
    ) -> None:
        self.rules = tuple(rules)
        self._tools = tools or {}
        self._folded_tools = frozenset(map(folded, self._tools))
        self._off = frozenset(folded(name) for name in off)
        self._compiled: dict[Kind, list[_Compiled]] = {"tool": [], "prompt": [], "resource": []}
        for rule in self.rules:
            if rule.prompt:
                self._compiled["prompt"].append(_Compiled(rule, (name_pattern(rule.prompt),)))
            elif rule.resource:
                self._compiled["resource"].append(_Compiled(rule, uri_patterns(rule.resource)))
            else:
                limits = _limits_of(rule, before) if rule.limits_calls else None
                self._compiled["tool"].append(_Compiled(rule, (name_pattern(rule.tool or "*"),), limits))
        self.scopes: dict[Kind, frozenset[str]] = {
            kind: frozenset(scope for each in compiled for scope in each.rule.scopes)
            for kind, compiled in self._compiled.items()
        }
        """All that the rules for a kind ask for."""
        self._known_tools: dict[str, Policy] = {}
        self._known_others: dict[tuple[Kind, str], Policy] = {}

    def __bool__(self) -> bool:
        return bool(self.rules or self._off)

    def hide_nothing(self, scopes: frozenset[str]) -> bool:
        """Whether everything is open to a caller with these scopes."""
        return not self._off and all(needed <= scopes for needed in self.scopes.values())

    def fault(self, uri: str) -> str:
        """Return why no rule can be found for a URI, so that it is refused; "" for most, and if there are no rules."""
        return uri_fault(uri) if self._compiled["resource"] else ""

    def of(self, kind: Kind, name: str) -> Policy:
        """Return the policy of what is of a kind and a name: of a resource the URI, of a template its text."""
        if kind != "tool":
            return self._of_other(kind, name)
        return self._known_tools.get(name) or self.of_tool(name)

    def of_tool(self, name: str) -> Policy:
        """Return the policy of a tool."""
        policy = self._known_tools.get(name)
        if policy is None:
            policy = self._policy("tool", name, self._tools.get(name))
            if name in self._tools:
                self._known_tools[name] = policy
        return policy

    def unused(self, names: Mapping[Kind, Collection[str]]) -> list[PolicyRule]:
        """Return the rules that are for nothing among these names."""
        used = {id(rule) for kind, listed in names.items() for name in listed for rule in self.of(kind, name).rules}
        return [rule for rule in self.rules if id(rule) not in used]

    def _of_other(self, kind: Kind, name: str) -> Policy:
        if not self._compiled[kind]:
            return NO_POLICY
        policy = self._known_others.get((kind, name))
        if policy is None:
            policy = self._policy(kind, name)
            if len(self._known_others) < _KNOWN and len(name) <= _LONGEST_KNOWN:
                self._known_others[kind, name] = policy
        return policy

    def _policy(self, kind: Kind, name: str, hints: ToolHints | None = None) -> Policy:
        # A server may leave out what cannot be seen, or stop at it.
        hides = kind != "resource" and not name.isprintable() and name not in self._tools
        every, forms = hides or len(name) > _LONGEST, set[str]()
        if not every:
            forms = uri_forms(name) if kind == "resource" else {folded(name)}
        found = [each for each in self._compiled[kind] if every or each.is_for(forms, hints)]
        rules = tuple(each.rule for each in found)
        is_off = kind == "tool" and (bool(self._off) if every else not self._off.isdisjoint(forms))
        if not rules and not is_off:
            return NO_POLICY
        scopes = frozenset(scope for rule in rules for scope in rule.scopes)
        limits = tuple(dict.fromkeys(each.limits for each in found if each.limits is not None))
        counted_as = next((form for form in forms if form in self._folded_tools), "") if limits else ""
        return Policy(rules, scopes, is_off, limits, counted_as)


def _limits_of(rule: PolicyRule, before: Policies | None) -> ToolLimits:
    """Return the compiled limits of a rule: those of the same rule before, if there was one."""
    from portway.policy.tool_limits import ToolLimits

    for each in () if before is None else before._compiled["tool"]:
        if each.rule == rule and each.limits is not None:
            return each.limits
    return ToolLimits.of(rule)
