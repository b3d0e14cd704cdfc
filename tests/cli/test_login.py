"""`portway login`, `logout` and `hosts`, and which host a verb acts on."""

from __future__ import annotations

import json
import stat
import sys
from pathlib import Path

import pytest

from tests.conftest import RunCli

TOKEN = "pwu_" + "a" * 43


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """The environment of a user who has no host on this machine."""
    runs = tmp_path / "runs"
    runs.mkdir()
    return {
        "HOME": str(tmp_path),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "XDG_DATA_HOME": str(tmp_path / "data"),
        "XDG_RUNTIME_DIR": str(runs),
    }


def remember(home: dict[str, str], **hosts: dict[str, object]) -> Path:
    """Write the file of logins, and return its path."""
    path = Path(home["XDG_CONFIG_HOME"]) / "portway" / "hosts.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"hosts": hosts}))
    path.chmod(0o600)
    return path


@pytest.mark.parametrize(
    ("arguments", "stdin", "told"),
    [
        (["ftp://example.com"], TOKEN, "ftp://example.com is no address of a host: give it alone, as in https://mcp"),
        (["https://example.com?x=1"], TOKEN, "is no address of a host: give it alone"),
        (["https://ada:secret@example.com"], TOKEN, "Error: that is no address of a host"),
        (["https://[::1"], TOKEN, "is no address of a host"),
        (["http://example.com"], TOKEN, "http://example.com would get the token in clear text: give it as https://"),
        (["localhost:1", "--name", "-x"], TOKEN, "--name takes letters, digits and any of . : _ -"),
        (["http://localhost:1"], "", "there is no terminal to ask on: give the token by --token-file, PORTWAY_TOKEN"),
        (["http://localhost:1"], "pw_of_a_caller", "that is no token of a user of a host, which begins with pwu_:"),
        (["http://localhost:1", "--token-file", sys.executable], "", "that is no token of a user of a host"),
        (["http://127.0.0.1:1"], TOKEN, "http://127.0.0.1:1 is not reached (cannot connect to 127.0.0.1:1: Connection"),
    ],
)
def test_a_login_that_cannot_be_is_refused_and_nothing_is_kept(
    arguments: list[str], stdin: str, told: str, home: dict[str, str], run_cli: RunCli
) -> None:
    refused = run_cli("login", *arguments, env=home, stdin=stdin)
    assert refused.returncode in (1, 2)
    assert told in refused.stderr
    assert "secret" not in refused.stderr
    assert not Path(home["XDG_CONFIG_HOME"]).exists()


def test_hosts_are_listed_without_their_tokens_and_forgotten(home: dict[str, str], run_cli: RunCli) -> None:
    path = remember(
        home, prod={"url": "https://a.example", "token": TOKEN}, test={"url": "https://b.example", "token": TOKEN}
    )
    assert run_cli("hosts", env=home).stdout.split() == [
        "NAME",
        "URL",
        "USED",
        "prod",
        "https://a.example",
        "test",
        "https://b.example",
    ]
    chosen = run_cli("hosts", "-o", "json", env=home | {"PORTWAY_HOST": "test"})
    assert [host["used"] for host in json.loads(chosen.stdout)["hosts"]] == [False, True]
    assert TOKEN not in chosen.stdout
    assert run_cli("logout", "prod", env=home).stderr == "logged out of prod\n"
    assert "*" in run_cli("hosts", env=home).stdout, "it is the only one"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert run_cli("logout", "https://B.example/", env=home).stderr == "logged out of https://B.example/\n"
    assert '"hosts": {}' in path.read_text()
    again = run_cli("logout", "prod", env=home)
    assert (again.returncode, again.stderr) == (1, "Error: you are not logged in to 'prod': see `portway hosts`\n")


@pytest.mark.slow
def test_a_host_must_be_chosen_when_there_are_several(home: dict[str, str], run_cli: RunCli) -> None:
    assert "or log in to one elsewhere by `portway login URL`" in run_cli("ps", env=home).stderr
    unknown = run_cli("ps", "--on", "nowhere", env=home)
    assert unknown.stderr == "Error: you are not logged in to 'nowhere': `portway login URL` does that\n"
    remember(home, ht={"url": "http://127.0.0.1:1", "token": TOKEN}, test={"url": "http://127.0.0.1:2", "token": TOKEN})
    many = run_cli("ps", env=home)
    assert many.stderr == "Error: there are several hosts (ht, test): name one by --on or PORTWAY_HOST\n"
    named = run_cli("ps", "--on", "test", env=home | {"PORTWAY_HOST": "ht"})
    assert named.stderr.startswith("Error: test (http://127.0.0.1:2) is not reached")
    assert run_cli("ps", env=home | {"PORTWAY_HOST": "ht"}).stderr.startswith("Error: ht (http://127.0.0.1:1) is")
    unknown = run_cli("ps", "--on", "nowhere", env=home)
    assert unknown.stderr == (
        "Error: you are not logged in to 'nowhere': `portway login URL` does that; there are: ht, test\n"
    )
    both = run_cli("ps", "--on", "ht", "--data", "x", env=home)
    assert "--on names a host elsewhere and --data one of this machine: give one of them" in both.stderr
    here = run_cli("ps", env=home | {"PORTWAY_DATA": "x"})
    assert here.stderr.startswith("Error: no host is running on")


def test_a_host_given_by_its_address_takes_its_token_from_the_environment(
    home: dict[str, str], run_cli: RunCli
) -> None:
    lacking = run_cli("ps", "--on", "https://a.example/", env=home)
    assert lacking.stderr == (
        "Error: there is no token for https://a.example: `portway login https://a.example`, or set PORTWAY_TOKEN\n"
    )
    clear = run_cli("ps", env=home | {"PORTWAY_HOST": "http://a.example", "PORTWAY_TOKEN": TOKEN})
    assert "http://a.example would get the token in clear text" in clear.stderr
    reached = run_cli("ps", env=home | {"PORTWAY_HOST": "http://127.0.0.1:1", "PORTWAY_TOKEN": TOKEN})
    assert reached.stderr.startswith("Error: http://127.0.0.1:1 is not reached")
    broken = run_cli("ps", env=home | {"PORTWAY_HOST": "http://127.0.0.1:1", "PORTWAY_TOKEN": "pwu_a b"})
    assert "Error: that is no token of a user of a host" in broken.stderr


def test_an_address_that_several_logins_have_chooses_none_of_their_users(home: dict[str, str], run_cli: RunCli) -> None:
    login = {"url": "http://127.0.0.1:1", "token": TOKEN}
    remember(home, admin=login, viewer=login)
    many = run_cli("ps", "--on", "http://127.0.0.1:1", env=home)
    assert many.stderr == "Error: there are several hosts (admin, viewer): name one by --on or PORTWAY_HOST\n"
    given = run_cli("ps", "--on", "http://127.0.0.1:1", env=home | {"PORTWAY_TOKEN": TOKEN})
    assert "is not reached" in given.stderr


def test_a_file_of_logins_that_others_can_read_or_that_is_damaged_is_refused(
    home: dict[str, str], run_cli: RunCli
) -> None:
    path = remember(home, prod={"url": "https://a.example", "token": TOKEN})
    path.chmod(0o640)
    assert run_cli("hosts", env=home).stderr == (
        f"Error: {path} holds tokens and others may read it: run `chmod 600 {path}`\n"
    )
    path.chmod(0o600)
    path.write_text('{"hosts": []}')
    assert f"{path} is damaged: remove it, and log in again by `portway login URL`" in run_cli("hosts", env=home).stderr
    path.unlink()
    path.mkdir()
    assert f"{path} cannot be read: Is a directory" in run_cli("hosts", env=home).stderr
    path.rmdir()
    path.parent.rmdir()
    path.parent.touch()
    assert run_cli("hosts", env=home).returncode == 1
