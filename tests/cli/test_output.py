"""`-o json` on every verb."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from portway.cli.main import cli
from portway.host.builds.wheel import running_wheel
from tests.conftest import RunCli
from tests.host.git_upstream import Upstream, upstream
from tests.host.running_host import Host, host
from tests.support import SCRIPTS, WEATHER, Started, clean_env


def verbs(group: click.Group, *before: str) -> Iterator[tuple[str, click.Command]]:
    """Yield each command below `group` that runs, with its words."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from verbs(command, *before, name)
        else:
            yield " ".join([*before, name]), command


VERBS = dict(verbs(cli))
OPTIONS = ["--trust-all-apps", "--allow-private-sources", "--auth-issuer", "https://login.example.com"]
# How each verb is run on a host that has the app `weather` with two releases: its arguments, in an order that works.
SERVE = {"run", "up"}  # they print JSON when they serve, and go on
AFAR = {"login", "logout"}  # of a laptop: tests/cli/test_login.py
RUNS = {
    "init": ["FOLDER/made", "--template", "portway"],
    "check": [str(WEATHER.parent)],
    "inspect": [str(WEATHER)],
    "call": [str(WEATHER), "convert_currency", "amount=1", "to=EUR"],
    "deploy": [str(WEATHER.parent), "--public", "--name", "weather"],
    "ps": [],
    "releases": ["weather"],
    "rollback": ["weather", "1"],
    "restart": ["weather"],
    "config": ["weather"],
    "logs": ["weather"],
    "metrics": [],
    "token create": ["weather", "ada"],
    "token list": ["weather"],
    "token rotate": ["weather", "ada"],
    "token revoke": ["weather", "ada"],
    "user add": ["bob", "--role", "viewer"],
    "user list": [],
    "user rotate": ["bob"],
    "user map": ["ops", "--role", "viewer"],
    "user unmap": ["ops"],
    "user revoke": ["bob"],
    "env set": ["weather", "UNIT=kelvin", "--no-restart"],
    "env list": ["weather"],
    "env unset": ["weather", "UNIT", "--no-restart"],
    "env import": ["weather", "-", "--no-restart"],
    "env rekey": [],
    "tool disable": ["weather", "get_weather"],
    "tool list": ["weather"],
    "tool enable": ["weather", "get_weather"],
    "domain add": ["weather", "tools.example.com"],
    "domain list": ["weather"],
    "domain remove": ["weather", "tools.example.com"],
    "link": ["linked", "UPSTREAM"],
    "unlink": ["linked"],
    "backup": ["FOLDER/host.backup", "--key-to", "FOLDER/host.key"],
    "restore": ["FOLDER/host.backup", "--key-from", "FOLDER/host.key", "--data", "FOLDER/restored"],
    "destroy": ["weather", "--yes"],
    "upgrade": ["--wheel", "WHEEL"],
    "hosts": [],
}


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_the_option(verb: str) -> None:
    assert [parameter.opts for parameter in VERBS[verb].params if parameter.name == "output"] == [["-o", "--output"]]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with host(tmp_path_factory.mktemp("host") / "data", [WEATHER.parent], options=OPTIONS) as running:
        yield running


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Upstream]:
    with upstream(tmp_path / "elsewhere") as serving:
        yield serving


@pytest.mark.slow
def test_every_verb_prints_only_json_when_it_is_asked_to(running: Host, elsewhere: Upstream, tmp_path: Path) -> None:
    elsewhere.commit("linked", {"server.py": WEATHER.read_text()})
    assert {*RUNS} | SERVE | AFAR == {*VERBS}, "say above how a new verb is run"
    address = elsewhere.address("linked")
    named = {"FOLDER": str(tmp_path), "UPSTREAM": address, "WHEEL": str(running_wheel(tmp_path))}
    for verb, arguments in RUNS.items():
        given = [re.sub("|".join(named), lambda found: named[found[0]], argument) for argument in arguments]
        done = running.portway(*verb.split(), *given, "-o", "json", stdin="A=b")
        assert done.returncode == 0, (verb, done.stderr)
        lines = done.stdout.splitlines()
        assert len(lines) == 1 or verb == "logs", verb
        assert all(isinstance(json.loads(line), dict) for line in lines), verb


@pytest.mark.parametrize(("verb", "more"), [("run", []), ("up", ["--data", "data"])])
def test_what_serves_prints_its_address_as_json(verb: str, more: list[str], tmp_path: Path) -> None:
    command = [SCRIPTS / "portway", verb, *([WEATHER] if verb == "run" else []), "--port", "0", *more, "-o", "json"]
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=clean_env({"XDG_RUNTIME_DIR": str(tmp_path)}),
    ) as process:
        child = Started(process)
        found = child.wait_for(r"^\{.*\}$")
        process.terminate()
    assert json.loads(found[0])["url"].startswith("http://127.0.0.1:")
    assert child.lines == [f"{found[0]}\n"]


@pytest.mark.slow
def test_an_error_is_one_object_with_the_exit_code_of_its_kind_and_one_line_of_stderr(
    running: Host, tmp_path: Path
) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "server.py").write_text(
        "from portway import Server\nserver = Server('x')\nraise SystemExit('\\x1b[2J it cannot start')\n"
    )
    for arguments, code, text in (
        (["deploy", tmp_path / "app"], 1, "it cannot start"),
        (["deploy", tmp_path / "none"], 2, "there is no folder"),
        (["deploy", WEATHER], 2, "server.py' is a file: give its folder '"),
        (["up", WEATHER], 2, f"or serve the file alone by `portway run {WEATHER}`"),
        (["up", "nowhere"], 2, "there is no folder 'nowhere': give one with a server in it, or none"),
        (["token", "list", "nobody"], 1, "there is no app 'nobody'"),
        (
            ["token", "rotate", "nobody", "x", "--overlap", "soon"],
            2,
            "'soon' is no length of time: give 30m, 24h or 90d",
        ),
    ):
        done = running.portway(*arguments, "-o", "json")
        (line,) = done.stdout.splitlines()
        assert (list(json.loads(line)), done.returncode) == (["error"], code)
        assert text in json.loads(line)["error"]
        told = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
        assert told == [f"Error: {json.loads(line)['error'].splitlines()[0]}"]
        assert "\x1b" not in done.stderr + json.loads(line)["error"]


def test_the_environment_chooses_the_output_and_a_wrong_one_is_a_usage_error(run_cli: RunCli) -> None:
    done = run_cli("check", WEATHER.parent, env={"PORTWAY_OUTPUT": "json"})
    assert isinstance(json.loads(done.stdout), dict)
    wrong = run_cli("check", WEATHER.parent, env={"PORTWAY_OUTPUT": "xml"})
    assert (wrong.returncode, wrong.stdout) == (2, "")
