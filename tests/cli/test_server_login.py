"""`portway login URL` at an MCP server, and the verbs that use the login."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.client.protected_server import SECRET, Protected, protected
from tests.conftest import RunCli
from tests.support import ROOT, SCRIPTS, clean_env

BROWSER = f"{sys.executable} {ROOT / 'tests' / 'oauth' / 'browse.py'} %s"


@pytest.fixture
def server() -> Iterator[Protected]:
    """A protected server in a thread of its own."""
    started: list[Protected] = []
    is_ready, loop = threading.Event(), asyncio.new_event_loop()
    end = asyncio.Event()

    async def serve() -> None:
        async with protected() as server:
            started.append(server)
            is_ready.set()
            await end.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    assert is_ready.wait(120)
    yield started[0]
    loop.call_soon_threadsafe(end.set)
    thread.join()
    loop.close()


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    return {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "config"), "XDG_RUNTIME_DIR": str(tmp_path)}


@pytest.mark.slow
def test_a_login_by_the_browser_is_used_by_call_inspect_and_check_and_taken_back(
    server: Protected, home: dict[str, str], run_cli: RunCli
) -> None:
    refused = run_cli("inspect", server.url, env=home)
    assert f"{server.url} asks for a login: run `portway login {server.url}`, or pass a token" in refused.stderr
    assert f"or log in by `portway login {server.url}`" in run_cli("check", server.url, "--idle", "0", env=home).stdout
    told = run_cli("login", server.url, "--scope", "read", env=home | {"BROWSER": BROWSER})
    assert told.returncode == 0, told.stderr
    assert told.stderr.endswith(f"logged in at {server.url} by {server.origin}, with read\n")
    assert json.loads(run_cli("inspect", server.url, "-o", "json", env=home).stdout)["tools"] == []
    assert "ok     login" in run_cli("check", server.url, "--idle", "0", env=home).stdout
    again = run_cli("login", server.url, "--scope", "write", "-o", "json", env=home | {"BROWSER": BROWSER})
    assert json.loads(again.stdout)["scopes"] == ["read", "write"]
    assert "access-" not in told.stderr + told.stdout + again.stderr + again.stdout
    assert run_cli("logout", server.url, env=home).stderr == f"logged out of {server.url}\n"
    assert server.count("/revoke", token=f"refresh-{server.given}") == 1
    assert f"you are not logged in at {server.url}" in run_cli("logout", server.url, env=home).stderr
    assert "asks for a login" in run_cli("inspect", server.url, env=home).stderr


def test_a_client_that_is_registered_with_the_provider_logs_in_with_its_secret(
    server: Protected, home: dict[str, str], tmp_path: Path, run_cli: RunCli
) -> None:
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    known = ["--client-id", "mine", "--client-secret-file", str(tmp_path / "secret"), "--issuer", server.origin]
    told = run_cli("login", server.url, *known, env=home | {"BROWSER": BROWSER})
    assert told.returncode == 0, told.stderr
    sent = [each.headers.get("authorization") for each in server.requests if each.target == "/token"]
    assert sent == ["Basic bWluZTphLXBsYW50ZWQtc2VjcmV0"]
    assert SECRET not in told.stderr


def test_logins_are_listed_without_their_tokens(
    server: Protected, home: dict[str, str], tmp_path: Path, run_cli: RunCli
) -> None:
    assert run_cli("login", "--list", env=home).stdout.split() == ["URL", "KIND", "NAME", "BY", "SCOPES", "ENDS"]
    known = ["--client-id", "mine", "--issuer", server.origin, "--scope", "read"]
    assert run_cli("login", server.url, *known, env=home | {"BROWSER": BROWSER}).returncode == 0
    folder = tmp_path / "config" / "portway"
    (folder / "hosts.json").write_text('{"hosts": {"prod": {"url": "https://a.example", "token": "a-planted-token"}}}')
    (folder / "hosts.json").chmod(0o600)
    listed = run_cli("login", "--list", env=home)
    heads, *lines = listed.stdout.splitlines()
    at_server, at_host = [line.split() for line in lines]
    assert lines[1].index("prod") == heads.index("NAME")
    assert at_server == [server.url, "server", server.origin, "read", "is", "renewed"]
    assert at_host == ["https://a.example", "host", "prod"]
    as_json = run_cli("login", "--list", "-o", "json", env=home)
    (login,), hosts = (json.loads(as_json.stdout)[name] for name in ("servers", "hosts"))
    assert login.pop("expires_in") > 0
    assert login == {"url": server.url, "issuer": server.origin, "scopes": ["read"], "renewed": True}
    assert hosts == [{"url": "https://a.example", "name": "prod"}]
    for secret in (f"access-{server.given}", f"refresh-{server.given}", "a-planted-token"):
        assert secret not in listed.stdout + as_json.stdout
    (kept,) = (folder / "logins").glob("*.json")
    kept.chmod(0o644)
    assert f"{kept} holds tokens and others may read it: run `chmod 600" in run_cli("login", "--list", env=home).stderr
    assert "you are not logged in at http://other.example/mcp: see `portway login --list`" in (
        run_cli("logout", "http://other.example/mcp", env=home).stderr
    )


def test_the_address_at_which_a_browser_elsewhere_ends_is_pasted_into_the_terminal(
    server: Protected, home: dict[str, str]
) -> None:
    ours, terminal = pty.openpty()
    command = [SCRIPTS / "portway", "login", server.url, "--no-browser"]
    with subprocess.Popen(
        command, stdin=terminal, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=clean_env(home)
    ) as login:
        os.close(terminal)
        assert login.stderr
        page = next(line.strip() for line in login.stderr if "/authorize?" in line)
        os.write(ours, f"what?\n{asyncio.run(server.visit(page))}\n".encode())
        told = login.stderr.read()
        assert f"logged in at {server.url}" in told
        assert told.count("That is not the address the browser ends at, which has `state=` in it: paste the") == 1
        assert f"run `portway logout {server.url}`, and log in again." in told
    os.close(ours)
    assert login.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ["URL"],
            "a login needs a browser or a terminal, and there is neither: run it where one is, or pass a token by",
        ),
        (
            ["URL", "--name", "x"],
            "--name, --token-file and --insecure are for a host: give its address, without a path",
        ),
        (["ORIGIN", "--scope", "x"], "that option is for an MCP server: give its URL with its path, or --server"),
        (["ORIGIN"], "there is no Portway host at ORIGIN: for an MCP server give its path, too, as in `portway login"),
        ([], "give the URL of a server or a host, or --list alone"),
        (["URL", "--list"], "give the URL of a server or a host, or --list alone"),
        (["URL", "--client-metadata-url", "x"], "client_metadata_url must be an https URL with a path"),
    ],
)
def test_a_login_that_cannot_be_is_refused_at_once(
    arguments: list[str], told: str, server: Protected, home: dict[str, str], run_cli: RunCli
) -> None:
    browser = {"BROWSER": BROWSER} if len(arguments) > 1 else {}
    given = [each.replace("URL", server.url).replace("ORIGIN", server.origin) for each in arguments]
    refused = run_cli("login", *given, env=home | browser)
    assert refused.returncode in (1, 2)
    assert told.replace("ORIGIN", server.origin) in refused.stderr
    assert not server.count("/register")
