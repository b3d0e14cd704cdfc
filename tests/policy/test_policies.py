"""Which rules are for which tool, prompt or resource."""

from __future__ import annotations

import itertools

import pytest

from portway.policy import policies
from portway.policy.name_patterns import Pattern
from portway.policy.policies import Kind, Policies
from portway.policy.rules import PolicyRule, ToolHints

TOOLS = {
    "get_order": ToolHints(read_only=True, destructive=False),
    "add_note": ToolHints(destructive=False),
    "delete_order": ToolHints(),
}


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("a", "a", True),
        ("a", "ab", False),
        ("*", "", True),
        ("a*", "a", True),
        ("a*a", "a", False),
        ("*b*b*", "ab", False),
        ("*b*b*", "abxb", True),
        ("a*b*c", "abc", True),
        ("a*bc*c", "abc", False),
        ("a**b", "ab", True),
        ("[ab]?", "a", False),
    ],
)
def test_a_star_stands_for_any_text_and_nothing_else_is_special(pattern: str, text: str, expected: bool) -> None:
    assert Pattern(pattern).matches(text) is expected


def test_a_pattern_agrees_with_the_plain_definition_of_a_star() -> None:
    def slowly(pattern: str, text: str) -> bool:
        if not pattern.startswith("*"):
            return (
                pattern == text if not pattern or not text else pattern[0] == text[0] and slowly(pattern[1:], text[1:])
            )
        return any(slowly(pattern[1:], text[at:]) for at in range(len(text) + 1))

    patterns = ["".join(each) for size in range(6) for each in itertools.product("ab*", repeat=size)]
    texts = ["".join(each) for size in range(5) for each in itertools.product("ab", repeat=size)]
    for pattern in patterns:
        compiled = Pattern(pattern)
        assert [compiled.matches(text) for text in texts] == [slowly(pattern, text) for text in texts], pattern


def test_all_rules_that_are_for_a_tool_count_together() -> None:
    policies = Policies(
        [
            PolicyRule(tool="*_order", scopes=["orders"]),
            PolicyRule(destructive=True, scopes=["write", "orders"]),
            PolicyRule(read_only=False, scopes=["change"]),
            PolicyRule(tool="get_*", read_only=False, scopes=["never"]),
        ],
        TOOLS,
    )
    assert policies.of_tool("get_order").scopes == {"orders"}
    assert policies.of_tool("add_note").scopes == {"change"}
    assert policies.of_tool("delete_order").scopes == {"orders", "write", "change"}


def test_a_tool_that_the_contract_does_not_know_counts_as_having_every_annotation_that_a_rule_looks_for() -> None:
    rules = [
        PolicyRule(tool="get_*", scopes=["get"]),
        PolicyRule(destructive=True, scopes=["write"]),
        PolicyRule(read_only=True, scopes=["read"]),
    ]
    assert Policies(rules, TOOLS).of_tool("other").scopes == {"write", "read"}
    assert not Policies(rules[:1], TOOLS).of_tool("other").scopes


@pytest.mark.parametrize(
    "name",
    [
        *("DELETE_ORDER", " delete_order", "delete_order\n", "delete_order\0x", "delete\u200b_order"),
        "ｄelete_order",  # noqa: RUF001 - the point
    ],
)
def test_another_spelling_of_a_name_does_not_escape_its_rule_or_its_switch(name: str) -> None:
    policies = Policies([PolicyRule(tool="delete_order", scopes=["write"])], TOOLS, off=["delete_order"])
    assert policies.of_tool(name).scopes == {"write"}
    assert policies.of_tool(name).is_off


def test_a_rule_that_is_given_twice_counts_a_call_once_also_when_the_rules_change() -> None:
    rules = [PolicyRule(tool="get_order", rate="2/hour")] * 2
    before = Policies(rules, TOOLS)
    (limits,) = Policies(rules, TOOLS, before=before).of_tool("get_order").limits
    assert limits in before.of_tool("get_order").limits


def test_a_name_that_is_too_long_needs_what_every_rule_needs_and_no_form_of_it_is_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[str] = []
    for name in ("folded", "uri_forms"):
        form = getattr(policies, name)
        monkeypatch.setattr(policies, name, lambda text, form=form: made.append(text) or form(text))
    rules = [PolicyRule(tool="a", scopes=["a"]), PolicyRule(tool="b", scopes=["b"]), PolicyRule(resource="r", rate="")]
    found = Policies(rules, TOOLS, off=["a"])
    assert found.of_tool("a" + " " * 5000).scopes == {"a", "b"}
    assert found.of_tool("c" * 5000).is_off
    assert found.of("resource", "c" * 5000).rules == (rules[2],)
    assert max(map(len, made)) < 100


@pytest.mark.parametrize(
    "uri",
    [
        "files://team/secret",
        "FILES://Team/secret/",
        "files://team/%73ecret",
        "files://team/%2573ecret",
        "files://team/./x/../secret",
        "files://other/../team/secret",
        "files://team/../secret",
        "files://team//secret",
        "files://team\\secret",
        "files://team/secret?version=1",
        "files://team/secret#part",
    ],
)
def test_another_spelling_of_a_uri_does_not_escape_its_rule(uri: str) -> None:
    assert Policies([PolicyRule(resource="files://team/secret", scopes=["read"])]).of("resource", uri).scopes


@pytest.mark.parametrize("uri", ["files://team/public", "files://team/secrets", "files://team/secret/more", "x:y", "/"])
def test_a_rule_for_a_uri_leaves_others_open(uri: str) -> None:
    assert not Policies([PolicyRule(resource="files://team/secret", scopes=["read"])]).of("resource", uri).scopes


@pytest.mark.parametrize(
    "uri", ["orders://{id}/items", "orders://{ID}/items", "orders://7/items", "orders://a%2Fb/items"]
)
def test_a_rule_for_a_template_is_for_the_template_and_each_uri_of_it(uri: str) -> None:
    policies = Policies([PolicyRule(resource="orders://{id}/items", scopes=["read"])])
    assert policies.of("resource", uri).scopes == {"read"}
    assert not policies.of("resource", "orders://7").scopes


def test_a_rule_that_is_for_nothing_is_found() -> None:
    rules = [
        PolicyRule(tool="get_order", scopes=["a"]),
        PolicyRule(tool="get_ordr", scopes=["a"]),
        PolicyRule(prompt="greet*", scopes=["a"]),
        PolicyRule(resource="orders://*", scopes=["a"]),
    ]
    names: dict[Kind, list[str]] = {"tool": list(TOOLS), "prompt": ["greeting"], "resource": ["config://app"]}
    assert Policies(rules, TOOLS).unused(names) == [rules[1], rules[3]]
