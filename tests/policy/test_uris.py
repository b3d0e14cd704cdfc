"""A rule for URIs is also for each spelling that an SDK would normalise to one of them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import AnyUrl

from portway.policy.policies import Policies
from portway.policy.rules import PolicyRule

RULES = {
    "orders://{n}": "orders://1",
    "http://example.com/secret/{x}": "http://example.com/secret/1",
    "http://example.com?id={x}": "http://example.com?id=1",
    "https://example.com:8443/{x}": "https://example.com:8443/1",
    "file:///data/{x}": "file:///data/1",
    "file://localhost/etc/{x}": "file:///etc/1",
    "file:///c:/{x}": "file:///c:/1",
    "http://127.0.0.1/{x}": "http://127.0.0.1/1",
    "http://[::1]/{x}": "http://[::1]/1",
    "ws://user@example.com/{x}": "ws://example.com/1",
}
POLICIES = [Policies([PolicyRule(resource=rule, scopes=["read"])]) for rule in RULES]
PIECES = st.sampled_from(
    [
        ":",
        "/",
        "//",
        "\\",
        "@",
        "u:p@",
        "localhost",
        ".",
        "..",
        "127.1",
        "0x7f.1",
        "2130706433",
        "[0:0::1]",
        "c|",
        "?a=1",
        "#f",
        ":80",
        ":443",
        ":08443",
        "%2e",
        "%2F",
        "%C2%AD",
        "|",
        *"\xad\t\n\x01 \u200b\uff25\u3002\ufb01\x85\u3000",
    ]
)


@st.composite
def spellings(draw: st.DrawFn) -> str:
    """One of the URIs with a few pieces put in, or in the place of some characters."""
    uri = draw(st.sampled_from(list(RULES.values())))
    for _ in range(draw(st.integers(1, 4))):
        at, cut = draw(st.integers(0, len(uri))), draw(st.integers(0, 2))
        uri = uri[:at] + draw(PIECES | st.just("") | st.characters(codec="utf-8")) + uri[at + cut :]
    return uri


@settings(max_examples=500, deadline=None)
@given(spellings())
def test_what_whatwg_url_makes_of_a_uri_needs_nothing_that_the_uri_does_not_need(uri: str) -> None:
    try:
        normalised = str(AnyUrl(uri))
    except ValueError:
        return
    for policies in POLICIES:
        needed = policies.of("resource", normalised).scopes
        assert policies.fault(uri) or needed <= policies.of("resource", uri).scopes, (policies.rules, normalised)


@pytest.mark.parametrize("uri", ["http://example.com/public", "http://other.example/secret/1", "file:///other", "a:b"])
def test_a_rule_leaves_other_uris_open(uri: str) -> None:
    assert not any(policies.fault(uri) or policies.of("resource", uri).scopes for policies in POLICIES)


@pytest.mark.parametrize("uri", ["orders://é", "orders://a b", "http://{host:3}/x", "http://example.com/ü", "bücher:1"])
def test_a_uri_that_all_servers_take_for_the_same_is_not_malformed(uri: str) -> None:
    assert not any(policies.fault(uri) for policies in POLICIES)


def test_without_rules_for_resources_no_uri_is_malformed() -> None:
    assert not Policies([PolicyRule(tool="a", scopes=["read"])]).fault("or\tders://1")
