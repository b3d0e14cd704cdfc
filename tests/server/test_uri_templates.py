"""URI templates: what they match, what they refuse, and that matching undoes expansion (RFC 6570)."""

from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcp.shared.uri_template import UriTemplate

from portway.exceptions import RegistrationError
from portway.server.uri_templates import UriPattern

MATCHES = [
    ("a://{x}", "a://one", {"x": "one"}),
    ("a://{x}", "a://S%C3%A3o%20Paulo", {"x": "São Paulo"}),
    ("a://{x}", "a://São Paulo", {"x": "São Paulo"}),
    ("a://{x}/data", "a://7/data", {"x": "7"}),
    ("a://{name}.{ext}", "a://archive.tar.gz", {"name": "archive", "ext": "tar.gz"}),
    ("a://{name}.json", "a://a.json.json", {"name": "a.json"}),
    ("a://{lat,lon}/{z}", "a://1,2/3", {"lat": "1", "lon": "2", "z": "3"}),
    ("a://{+path}", "a://b/c.md", {"path": "b/c.md"}),
    ("a://{+path}", "a://b%2Fc", {"path": "b/c"}),
    ("a://x/{+path}/{name}.{ext}", "a://x/b/c/d.e", {"path": "b/c", "name": "d", "ext": "e"}),
    ("a://x{/path*}", "a://x/b/c%20d", {"path": ["b", "c d"]}),
    ("a://x{/path*}", "a://x", {"path": []}),
    ("a://{x}{/path*}", "a://x", {"x": "x", "path": []}),
    ("a://{x}{/path*}.{ext}", "a://x/b.c/d.e", {"x": "x", "path": ["b.c", "d"], "ext": "e"}),
    ("a://x{/y,z}", "a://x/1/2", {"y": "1", "z": "2"}),
    ("a://{x*}/end", "a://1,2,3/end", {"x": ["1", "2", "3"]}),
    ("a://x{?q,limit}", "a://x", {}),
    ("a://x{?q,limit}", "a://x?limit=3&q=a%26b/c", {"limit": "3", "q": "a&b/c"}),
    ("a://x{?q}", "a://x?q=", {"q": ""}),
    ("a://x{?q,tags*}{&page}", "a://x?tags=a&page=2&tags=b", {"tags": ["a", "b"], "page": "2"}),
    ("a://x{?tags*}", "a://x", {"tags": []}),
    ("a://{x}?fixed=1{&q}", "a://y?q=2&fixed=1", {"x": "y", "q": "2"}),
    ("a://x?q={q}", "a://x?q=1", {"q": "1"}),
]
UNMATCHED = [
    ("a://{x}", ["a://", "a://b/c", "a://b?c", "a://b#c", "b://c", "a://b%2Fc", "a://..", "a://%2e%2e", "a://."]),
    ("a://{x}", ["a://b%5Cc", "a://b\\c", "a://%00", "a://%0a", "a://%7F", "a://%FF", "a://\ud800"]),
    ("a://{+path}", ["a://../b", "a://b/%2e%2e/c", "a://b%2F..%2Fc", "a:///etc", "a://%2Fetc", "a://b?c", "a://b/./c"]),
    ("a://x{/path*}", ["a://xb", "a://x/", "a://x//b", "a://x/../b", "a://x/b%2Fc", "a://x/b/%2e%2e"]),
    ("a://{x}/data", ["a:///data", "a://7/data/", "a://7/8/data", "a://7"]),
    ("a://{x}-{y}", ["a://-", "a://b-", "a://-c", "a://bc"]),
    ("a://{+path}/{x}", ["a://b", "a:///b", "a://b/"]),
    ("a://x{?q}", ["a://x?", "a://x?q", "a://x?q=1&q=2", "a://x?other=1", "a://x?q=1&", "a://x?q=..", "a://x?q=1#f"]),
    ("a://x?fixed=1{&q}", ["a://x", "a://x?q=1", "a://x?fixed=2", "a://x?fixed=1&fixed=1"]),
]
REFUSED = [
    ("a://{}", "has the expression {}; use {name} for one path segment"),
    ("a://{x:3}", "and the :length modifier"),
    ("a://x{.ext}", "without {.name}, {;name}, {#name} and the :length modifier"),
    ("a://x{;v}", "has the expression {;v}"),
    ("a://x{#part}", "has the expression {#part}"),
    ("a://{a-b}", "has the expression {a-b}"),
    ("a://{+a,b}", "has the expression {+a,b}"),
    ("a://{+a*}", "has the expression {+a*}"),
    ("a://{x", "has a brace without its partner"),
    ("a://x}", "has a brace without its partner"),
    ("a://{x}/{x}", "has the variable x twice"),
    ("a://{x}{?x}", "has the variable x twice"),
    ("a://{x}{y}", "leaves open where x ends; put text between it and y"),
    ("a://{/path*}{y}", "leaves open where path ends"),
    ("a://{+x}/{+y}", "leaves open where x and y end"),
    ("a://{+x}{/y*}", "leaves open where x and y end"),
    ("a://{?q}/more", "must end with its only query"),
    ("a://{?q}{x}", "must end with its only query"),
    ("a://{?q}{?r}", "must end with its only query"),
    ("a://x?y=1{?q}", "must end with its only query"),
    ("a://x{&q}", "must end with its only query"),
    ("a://x?y={y}{&q}", "must end with its only query"),
    ("{x}", "needs a scheme"),
    ("a://x y", "needs a scheme"),
]
# Between two variables stands what no value holds unencoded, so that expansion loses nothing. The second member names
# the variables of a query, which may hold slashes.
EXACT = [
    ("a://{x}/{y}", ""),
    ("a://{x,y}", ""),
    ("a://{x}:{y}/end", ""),
    ("a://{x}{?y}", "y"),
    ("a://x{?x,y}", "xy"),
    ("a://x?f=1{&x,y}", "xy"),
]
LISTS = [  # template, before the list, before each of its items, after it
    ("a://{x}{/y*}", "a://{x}", "/", ""),
    ("a://x{/y*}/in/{x}", "a://x", "/", "/in/{x}"),
]
DRAWN = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
TRICKY = st.one_of(
    DRAWN, st.sampled_from(["..", ".", "a/..", "/a", "%2e%2e", "a%2Fb", "\\", "a,b", "a;b=c", "a&b=c", "?#"])
)
fuzz = settings(max_examples=150, deadline=None)


def is_safe(value: str, *, slashes: bool = False) -> bool:
    segments = value.split("/")
    plain = not any(c < " " or c in "\\\x7f" for c in value) and not {"..", "."} & set(segments)
    return plain and (len(segments) == 1 or (slashes and bool(segments[0])))


@pytest.mark.parametrize(("template", "uri", "values"), MATCHES)
def test_a_match_gives_the_decoded_variables(template, uri, values):
    assert UriPattern(template).match(uri) == values


@pytest.mark.parametrize(("template", "uri"), [(template, uri) for template, uris in UNMATCHED for uri in uris])
def test_what_no_safe_values_expand_to_does_not_match(template, uri):
    assert UriPattern(template).match(uri) is None


@pytest.mark.parametrize(("template", "why"), REFUSED)
def test_a_template_that_could_be_read_two_ways_is_refused_at_registration(template, why):
    with pytest.raises(RegistrationError) as caught:
        UriPattern(template)
    assert why in str(caught.value)


def test_a_pattern_tells_its_names_its_lists_and_what_a_uri_may_leave_out():
    pattern = UriPattern("a://{x}{/path*}{?q,tags*}")
    assert pattern.names == ["x", "path", "q", "tags"]
    assert pattern.lists == {"path", "tags"}
    assert pattern.optional == {"q"}


@fuzz
@given(st.sampled_from(EXACT), TRICKY, TRICKY)
def test_matching_undoes_expansion_or_refuses_unsafe_values(case, x, y):
    template, query = case
    safe = is_safe(x, slashes="x" in query) and is_safe(y, slashes="y" in query)
    values = UriPattern(template).match(UriTemplate.parse(template).expand({"x": x, "y": y}))
    assert values == ({"x": x, "y": y} if safe else None)


@fuzz
@given(st.sampled_from(LISTS), TRICKY, st.lists(TRICKY, max_size=4))
def test_matching_undoes_the_expansion_of_lists(case, x, y):
    template, before, lead, after = case
    expanded = before + "".join(lead + quote(item, safe="") for item in y) + after
    values = UriPattern(template).match(expanded.replace("{x}", quote(x, safe="")))
    assert values == ({"x": x, "y": y} if all(map(is_safe, [x, *y])) else None)


@fuzz
@given(
    st.sampled_from([template for template, *_ in MATCHES]),
    st.text(st.sampled_from("a:/x.,;=?&#%2Fe1-y\\"), max_size=30),
)
def test_any_uri_matches_or_not_and_never_raises(template, rest):
    for uri in (rest, "a://" + rest, "a://x" + rest):
        values = UriPattern(template).match(uri)
        assert values is None or set(values) >= set(UriPattern(template).names) - UriPattern(template).optional


@pytest.mark.parametrize(
    "template", ["a://{a}-{b}-{c}-{d}!", "a://{+p}-{b}-{c}-{d}", "a://x{/p*}-{b}/{c}!", "a://{p*}-{b}!"]
)
def test_a_long_uri_of_separators_is_read_in_linear_time(template):
    pattern = UriPattern(template)
    for filler in ("-", "/", ",", "/-"):
        assert pattern.match("a://x" + filler * 200_000) is None or filler != "/"  # quadratic, this would take minutes
