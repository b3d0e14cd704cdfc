"""`portway inspect` and `portway call`: a file, a URL and a command; arguments read by the tool's schema."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from portway.cli.tool_arguments import ArgumentProblem, read_arguments, signature
from tests.conftest import RunCli
from tests.support import WEATHER, served

OFFICIAL = [sys.executable, str(Path(__file__).parent.parent / "client" / "official_server.py"), "stdio"]
TOKENS = {"PORTWAY_TOKENS": "ada:opensesame"}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with served(env=TOKENS) as address:
        yield address


def test_a_file_is_inspected(run_cli: RunCli) -> None:
    done = run_cli("inspect", WEATHER)
    assert done.returncode == 0
    for line in ("  get_weather(city: string)", "  config://app-settings", "  weather://forecast/{city}"):
        assert line in done.stdout
    assert "(protocol 2026-07-28, modern)" in done.stdout
    assert done.stderr == ""


def test_a_url_is_inspected_as_json_with_a_token(run_cli: RunCli, url: str) -> None:
    done = run_cli("inspect", url, "-o", "json", env={"PORTWAY_TOKEN": "opensesame"})
    offer = json.loads(done.stdout)
    assert offer["era"] == "modern"
    assert "get_weather" in [tool["name"] for tool in offer["tools"]]
    assert [template["uriTemplate"] for template in offer["resourceTemplates"]] == ["weather://forecast/{city}"]


def test_a_command_is_inspected(run_cli: RunCli) -> None:
    done = run_cli("inspect", "--", *OFFICIAL)
    assert "official 9" in done.stdout
    assert "  add(a: integer, b: integer = 2) -> integer" in done.stdout
    assert "  greet(name)" in done.stdout


def test_a_command_longer_than_any_path_is_a_command_and_a_file_must_be_there(run_cli: RunCli) -> None:
    done = run_cli("inspect", f"no-such-program {'x' * 5000}")
    assert (done.returncode, done.stderr.splitlines()[-1].startswith("Error: cannot start no-such-program")) == (
        1,
        True,
    )
    absent = run_cli("call", "absent.py", "x")
    told = "Error: there is no file absent.py; give a Python file that holds a portway.Server, as in server.py\n"
    assert (absent.returncode, absent.stderr) == (1, told)
    served = run_cli("run", "x" * 5000)
    assert (served.returncode, "there is no file xxx" in served.stderr) == (1, True)


@pytest.mark.parametrize(
    ("given", "told"), [(None, "asks for a token"), ("wrong", "refuses the token it was given; create one")]
)
def test_a_missing_or_wrong_token_is_told_apart(run_cli: RunCli, url: str, given: str | None, told: str) -> None:
    done = run_cli("inspect", url, *(["--token", given] if given else []))
    assert done.returncode == 1
    assert told in done.stderr


def test_a_call_prints_the_text_or_the_whole_result(run_cli: RunCli, url: str) -> None:
    words = ("call", url, "get_weather", "city=Paris", "--token", "opensesame")
    assert "Paris" in run_cli(*words).stdout
    whole = json.loads(run_cli(*words, "-o", "json").stdout)
    assert whole["structuredContent"]
    given = run_cli("call", url, "get_weather", "--json", '{"city": "Paris"}', "--token", "opensesame", "-o", "json")
    assert json.loads(given.stdout) == whole


FAILING = """
from portway import Server, ToolError
server = Server()

@server.tool
async def fail() -> str:
    raise ToolError("not today")
"""


def test_an_error_of_the_tool_goes_to_stderr_with_status_1(run_cli: RunCli, tmp_path: Path) -> None:
    (tmp_path / "failing.py").write_text(FAILING)
    done = run_cli("call", shlex.join([sys.executable, "-m", "portway", "run", "failing.py"]), "fail")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith("not today\n")


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (("no_such_tool", "a=1"), 1, "the server has no tool no_such_tool; it has: get_weather"),
        (("no_such_tool",), 1, "the server has no tool no_such_tool; it has: get_weather"),
        (("get_weather", "town=Paris"), 1, "the tool takes no argument town; it takes: city"),
        (("get_weather", "Paris"), 1, "'Paris' is not key=value"),
        (("get_weather", "--json", "{"), 2, "--json is not JSON"),
        (("get_weather", "--json", "[]"), 2, "--json must be an object"),
        (("get_weather", "city=x", "--json", "{}"), 2, "not both"),
    ],
)
def test_a_wrong_call_is_refused_with_the_mend(
    run_cli: RunCli, url: str, words: tuple[str, ...], status: int, told: str
) -> None:
    done = run_cli("call", url, *words, env={"PORTWAY_TOKEN": "opensesame"})
    assert (done.returncode, told in done.stderr) == (status, True), done.stderr


SCOPED = """
from portway import Server
server = Server()

@server.tool(scopes=["write"])
def delete(key: str) -> str:
    return key
"""


def test_a_tool_that_the_list_leaves_out_is_called_for_the_reason_of_the_server(
    run_cli: RunCli, tmp_path: Path
) -> None:
    (tmp_path / "scoped.py").write_text(SCOPED)
    with served(tmp_path / "scoped.py", env={"PORTWAY_TOKENS": "ada:opensesame"}) as address:
        done = run_cli("call", address, "delete", "key=2", "--token", "opensesame")
    assert (done.returncode, done.stderr) == (1, "Error: The token lacks a scope this needs: write.\n")
    done = run_cli("call", shlex.join(OFFICIAL), "no_such_tool", "a=1")
    assert "Error: the server has no tool no_such_tool; it has: add, " in done.stderr, "it answers with a result"


SCHEMA: dict[str, Any] = {
    "properties": {
        "s": {"type": "string"},
        "i": {"type": "integer"},
        "n": {"type": "number", "default": 1.5},
        "b": {"type": "boolean"},
        "maybe": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "many": {"type": "array", "items": {"type": "integer"}},
        "one": {"enum": ["c", "f"]},
        "point": {"$ref": "#/$defs/Point"},
        "any": {},
    },
    "required": ["s"],
    "additionalProperties": False,
    "$defs": {"Point": {"type": "object"}},
}


@pytest.mark.parametrize(
    ("pair", "value"),
    [
        ("s=5", "5"),
        ("s=a=b", "a=b"),
        ("s=", ""),
        ("i=5", 5),
        ("n=5", 5),
        ("n=0.5", 0.5),
        ("b=true", True),
        ("maybe=null", None),
        ("maybe=5", "5"),
        ("many=[1,2]", [1, 2]),
        ("one=c", "c"),
        ('point={"x":1}', {"x": 1}),
        ("any=5", 5),
        ("any=five", "five"),
    ],
)
def test_a_value_is_read_as_the_schema_types_it(pair: str, value: object) -> None:
    assert list(read_arguments([pair], SCHEMA).values()) == [value]


@pytest.mark.parametrize("pair", ["i=five", "i=5.5", "b=yes", "b=1", "many=1", "point=[]", "nope=1"])
def test_a_value_of_another_type_is_refused(pair: str) -> None:
    with pytest.raises(ArgumentProblem):
        read_arguments([pair], SCHEMA)


def test_a_signature_shows_types_defaults_and_what_is_optional() -> None:
    assert signature(SCHEMA) == (
        "s: string, i: integer?, n: number = 1.5, b: boolean?, maybe: string | null?, "
        'many: array of integer?, one: "c" | "f"?, point: object?, any: any?'
    )
