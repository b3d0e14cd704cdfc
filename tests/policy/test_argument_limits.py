"""Limits on arguments: what each allows, and that no spelling of the JSON leads around one."""

from __future__ import annotations

import json
import posixpath
from typing import Any

import pytest
import re2  # type: ignore[import-untyped] # it has no types
from hypothesis import given
from hypothesis import strategies as st

from portway import Limit
from portway.exceptions import ArgumentError
from portway.policy.argument_limits import ArgumentLimits


def problems(limits: dict[str, Limit], arguments: object) -> list[str]:
    """Return what is said of a call with these arguments: JSON text, or what is written as JSON, in short or not."""
    if not isinstance(arguments, str):
        said = problems(limits, json.dumps(arguments))
        assert problems(limits, json.dumps(arguments, separators=(",", ":"))) == said
        return said
    try:
        ArgumentLimits(limits).check("t", arguments.encode(errors="surrogatepass"))
    except ArgumentError as error:
        return error.problems
    return []


def allows(limit: Limit, value: object) -> bool:
    return not problems({"a": limit}, {"a": value})


@pytest.mark.parametrize(
    ("limit", "good", "bad", "said"),
    [
        (
            Limit(allow=["test", 5]),
            ["test", 5, 5.0, None],
            ["Test", "5", True, ["x"], {}],
            'it must be one of "test", 5',
        ),
        (Limit(allow=[True]), [True], [1, "true"], "it must be one of true"),
        (
            Limit(pattern="[a-z]+"),
            ["abc"],
            ["", "ab1", "ab\n", 5, "a\ud800"],
            "it must be a text that matches [a-z]+ as a whole",
        ),
        (
            Limit(min_length=2, max_length=3),
            ["ab", "äöü"],
            ["a", "abcd", 12],
            "it must be a text of from 2 to 3 characters",
        ),
        (Limit(max_length=3), ["", "[1]"], ["abcd"], "it must be a text of at most 3 characters"),
        (
            Limit(minimum=0, maximum=10),
            [0, 10, 2.5, "10"],
            [-1, 11, 10.1, "11", "1e9", "0x5", " 5", True, "x"],
            "it must be a number, from 0 to 10",
        ),
        (Limit(minimum=3), [3, 10**400], [2], "it must be a number, at least 3"),
        (
            Limit(under="/data"),
            ["/data", "/data/a.b/c", "//data/./x", "/data/..x"],
            ["/database", "/data/../etc", "data/x", "/", "/data/a\\..\\b", "/data/\0", "~/x", 5],
            'it must be an absolute path at or below /data, without ".."',
        ),
        (
            Limit(under="."),
            ["a/b", ".", "..."],
            ["/a", "../a", "a/..", "..", "~root/x", "file:///etc/passwd", "C:x", "a\nb"],
            'it must be a relative path without ".."',
        ),
        (
            Limit(under="docs"),
            ["docs/a", "./docs"],
            ["doc/a", "a/docs", ""],
            'it must be a relative path at or below docs, without ".."',
        ),
        (
            Limit(hosts=["*.example.com"]),
            ["https://a.example.com/x"],
            ["https://example.com", "http://127.0.0.1", "x", 5],
            "it must be a URL of an allowed host: *.example.com",
        ),
    ],
)
def test_each_limit_allows_what_it_says_and_names_itself_but_no_value(
    limit: Limit, good: list[Any], bad: list[Any], said: str
) -> None:
    for value in good:
        assert allows(limit, value), value
    for value in bad:
        assert problems({"a": limit}, {"a": value}) == [f"a: {said}"], value


def test_lists_objects_and_json_in_a_text_are_looked_into() -> None:
    inside = {
        "files": Limit(under="/data"),
        "o.path": Limit(under="/data"),
        "n": Limit(maximum=5),
        "o.hosts": Limit(hosts=["a.b"]),
    }
    for good in (
        {"files": ["/data/a", "/data/b"]},
        {"files": []},
        {"o": {"path": "/data/x", "other": "/etc"}},
        {"o": [{"path": "/data/x"}]},
        {"o": "text"},
        {"n": [1, [2]]},
        {},
    ):
        assert problems(inside, good) == [], good
    for bad in (
        {"files": ["/data/a", "/etc/b"]},
        {"files": '["/etc/b"]'},
        {"files": ' ["\\u002fetc"]'},
        {"files": {"path": "/data"}},
        {"o": {"path": "/etc"}},
        {"o": '{"path": "/etc"}'},
        {"o": '[{"path": "/etc"}]'},
        {"o": ['{"path": ["/etc"]}']},
        {"n": [1, 6]},
        {"o": {"hosts": "https://c.d"}},
    ):
        assert problems(inside, bad) != [], bad
    assert allows(Limit(max_length=100, min_length=20), '["a", "bcdefghijklmnop"]')  # a text that is JSON is one


def test_a_point_in_a_name_is_no_way_around_a_limit() -> None:
    limits = {"to.env": Limit(allow=["test"])}
    assert problems(limits, {"to": {"env": "live"}, "to.env": "test"}) == ['to.env: it must be one of "test"']
    assert problems(limits, {"to": {"env": "test"}, "to.env": "live"}) == []


@given(
    st.text("ab \n\0é\ud800", max_size=6),
    st.sampled_from(["a*b?", "(a|ab)(b|bab)*", "[^a]+", "a.b|\\x00", "(?i)A{2,4}|b$", "\\ba", ".*", "(?s).+\\z"]),
)
def test_a_pattern_is_matched_as_re2_does(text: str, pattern: str) -> None:
    matched = "\ud800" not in text and re2.fullmatch(pattern, text) is not None
    assert allows(Limit(pattern=pattern), text) is matched


def test_a_pattern_of_nearly_the_largest_size_is_matched_too() -> None:
    limit = Limit(pattern="\\pL{1,55}x")
    assert allows(limit, "é" * 55 + "x")
    assert not allows(limit, "é" * 56 + "x")


def test_an_object_with_a_member_twice_is_refused_whichever_counts() -> None:
    limits = {"a": Limit(maximum=5)}
    for twice in (
        '{"a": 1, "a": 9}',
        '{"a": 9, "a": 1}',
        '{"a":9,"a":1}',
        '{"b":1,"a":[{"c":1,"c":1}]}',
        '{"b": {"c": 1, "c": 2}}',
        '{"a": "[{\\"x\\":1,\\"x\\":2}]"}',
    ):
        assert problems(limits, twice) == ["an object in them has two members of one name"]
    for unreadable in ("{", "[" * 100_000, '{"a": ' + '{"a":' * 100_000):
        assert problems(limits, unreadable) == ["they cannot be read as JSON"]


def test_a_required_argument_must_be_there_and_others_may_be_absent_or_null() -> None:
    limits = {"env": Limit(allow=["test"], required=True), "n": Limit(maximum=5)}
    for arguments in ({}, {"env": None}, {"n": None}, "null"):
        assert problems(limits, arguments) == ["env: it must be given"]
    assert problems(limits, {"env": "test", "n": None}) == []
    ArgumentLimits({"n": Limit(maximum=5)}).check("t", None)


def test_many_problems_are_told_in_short() -> None:
    limits = {f"a{number}": Limit(maximum=5) for number in range(15)}
    found = problems(limits, {f"a{number}": 6 for number in range(15)})
    assert (len(found), found[-1]) == (11, "and 5 more")


def test_a_pattern_takes_a_time_that_grows_with_the_text_alone() -> None:
    limit = Limit(pattern="(a+)+b")  # a backtracking engine would try 2**200000 ways
    assert not allows(limit, "a" * 200_000)
    assert allows(limit, "a" * 200_000 + "b")


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        (Limit(pattern=r"(a)\1"), r"pattern of a: '(a)\\\\1' is no RE2 expression: invalid escape sequence: \\1"),
        (Limit(pattern="a" * 1001), "pattern of a: it is longer than 1000 characters"),
        (Limit(under="../x"), "under of a: '../x' is no folder as in /data, docs or ."),
        *(
            (limit, "the limit of a lets every value pass, or none: correct or remove it")
            for limit in (
                *(Limit(), Limit(allow=[]), Limit(hosts=[]), Limit(minimum=5, maximum=1)),
                *(Limit(min_length=-1), Limit(min_length=5, max_length=1)),
            )
        ),
        (Limit(under=""), "under of a: '' is no folder as in /data, docs or ."),
        (
            Limit(hosts=["https://x"]),
            "hosts of a: 'https://x' is no host as in example.com, *.example.com or example.com:8443",
        ),
    ],
)
def test_a_limit_that_cannot_be_checked_is_refused_when_it_is_made(limit: Limit, said: str) -> None:
    with pytest.raises(ValueError) as raised:
        ArgumentLimits({"a": limit})
    assert str(raised.value) == said.replace("\\\\", "\\")


@given(st.text(st.sampled_from("./~a:\\%\0d t"), max_size=12), st.sampled_from(["/d", ".", "d/a"]))
def test_a_path_that_is_allowed_stays_below_its_folder(path: str, root: str) -> None:
    if allows(Limit(under=root), path):
        resolved = posixpath.normpath(posixpath.join("/cwd", path)).replace("//", "/")
        above = posixpath.normpath(posixpath.join("/cwd", root))
        assert resolved == above or resolved.startswith(above + "/")


@given(
    st.recursive(
        st.text(max_size=3) | st.integers() | st.none(), lambda inner: st.lists(inner, max_size=3), max_leaves=6
    )
)
def test_no_item_however_deep_escapes_a_limit(value: object) -> None:
    def leaves(inner: object) -> list[object]:
        return [leaf for item in inner for leaf in leaves(item)] if isinstance(inner, list) else [inner]

    allowed = all(leaf is None or leaf == "x" for leaf in leaves(value))
    assert allows(Limit(allow=["x"]), value) is allowed
