"""The root command: verbs listed without importing them."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys

import click
import pytest

from portway.cli.main import VERBS
from tests.conftest import RunCli
from tests.support import clean_env

PROBE = """
import json, sys
from portway.cli.main import main
try:
    main()
finally:
    print(json.dumps(sorted(sys.modules)), file=sys.stderr)
"""


@pytest.mark.parametrize("flag", ["--help", "--version"])
def test_help_and_version_import_no_loop_no_codec_no_server_and_no_verb(flag: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROBE, flag], capture_output=True, text=True, env=clean_env(), timeout=120, check=True
    )
    modules = json.loads(done.stderr)
    assert not {"asyncio", "msgspec", "uvicorn", "sqlalchemy", "logging"} & set(modules)
    assert [name for name in modules if name.startswith("portway")] == ["portway", "portway.cli", "portway.cli.main"]
    assert len(modules) < 250


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_a_verb_imports_no_loop_no_codec_and_no_server(verb: str) -> None:
    command = (sys.executable, "-c", PROBE, verb, "--help")
    done = subprocess.run(command, capture_output=True, text=True, env=clean_env(), timeout=120, check=True)
    assert not {"asyncio", "msgspec", "uvicorn", "sqlalchemy", "portway.server"} & set(json.loads(done.stderr))


def test_help_lists_every_verb_with_its_line(run_cli: RunCli) -> None:
    listed = run_cli("--help").stdout
    for name, verb in VERBS.items():
        assert f"{name} " in listed
        assert verb.help[:40] in listed


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_is_a_command_in_its_own_module(name: str) -> None:
    assert isinstance(importlib.import_module(VERBS[name].module).command, click.Command)


def test_an_unknown_verb_is_a_usage_error(run_cli: RunCli) -> None:
    done = run_cli("launch")
    assert done.returncode == 2
    assert "No such command 'launch'" in done.stderr


@pytest.mark.parametrize(("verb", "create"), [("token", "create"), ("user", "add")])
def test_help_says_how_long_a_new_and_a_rotated_token_live(run_cli: RunCli, verb: str, create: str) -> None:
    made, rotated = (" ".join(run_cli(verb, each, "--help").stdout.split()) for each in (create, "rotate"))
    assert "24h, 90d. Default: for ever." in made
    assert "24h, 90d. Default: as long as the one before." in rotated
