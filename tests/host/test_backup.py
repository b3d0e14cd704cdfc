"""Backups of a host, and hosts restored from them."""

from __future__ import annotations

import asyncio
import json
import shutil
import stat
import subprocess
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from portway.client import Client
from tests.host.backup_verbs import restore
from tests.host.git_client import git, run_git
from tests.host.git_upstream import Upstream
from tests.host.running_host import Host, host
from tests.host.test_git_push import add_user
from tests.host.test_links import link
from tests.support import WEATHER, eventually

SERVER = """
import os
from pathlib import Path
from portway import Server

server = Server("notes")
folder = Path(os.environ["PORTWAY_STORAGE"])


@server.tool
def add(text: str) -> list[str]:
    with (folder / "notes").open("a") as notes:
        notes.write(text + "\\n")
    return (folder / "notes").read_text().splitlines()


@server.tool
def greet() -> str:
    return "one " + os.environ.get("GREETING", "")
"""
AMOUNT = {"amount": 1, "from": "USD", "to": "EUR"}


@pytest.fixture
def app(tmp_path: Path) -> Path:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "server.py").write_text(SERVER)
    return tmp_path / "notes"


def push(running: Host, user: str, clone: Path) -> subprocess.CompletedProcess[str]:
    """Clone the app as a user, change it, and push it."""
    address = f"{running.ready['url']}/notes.git".replace("://", f"://any:{user}@")
    run_git(clone.parent, "clone", "--quiet", address, clone)
    (clone / "server.py").write_text(SERVER.replace("one ", "three "))
    git(clone, "commit", "--all", "--message", "three")
    return run_git(clone, "push", check=False)


@pytest.mark.slow
def test_a_host_is_backed_up_while_it_runs_and_restored_elsewhere_with_all_it_had(app: Path, tmp_path: Path) -> None:
    backup, key, data = tmp_path / "host.backup", tmp_path / "host.key", tmp_path / "elsewhere" / "data"
    with host(tmp_path / "data") as running:
        running.deploy(app, "notes", storage_gb=1, variables={"GREETING": "Hello"})
        (app / "server.py").write_text(SERVER.replace("one ", "two "))
        running.deploy(app, "notes")
        running.deploy(WEATHER.parent, "weather", access="public")
        shutil.rmtree(tmp_path / "data/apps/weather/git")  # as of a release that was made without git
        token = running.portway("token", "create", "notes", "ada").stdout.split()[0]
        user = running.portway("user", "add", "bob", "--role", "deployer").stdout.split()[0]
        assert running.call("notes", "add", token, text="first")["result"] == ["first"]
        told = running.portway("backup", backup)
        assert "is not in the backup, which is of no use without it" in told.stderr
        with ThreadPoolExecutor(4) as callers:
            calls = [callers.submit(running.call, "weather", "convert_currency", "", **AMOUNT) for _ in range(100)]
            made = running.portway("backup", backup, "--key-to", key, "-o", "json")
            assert len({str(call.result()) for call in calls}) == 1, "no call is lost"
        assert (made.returncode, json.loads(made.stdout)["apps"]) == (0, ["notes", "weather"]), made.stderr
        assert running.call("notes", "add", token, text="later")["result"] == ["first", "later"]
    assert stat.S_IMODE(backup.stat().st_mode) == stat.S_IMODE(key.stat().st_mode) == 0o600

    restored = running.portway("restore", backup, "--data", data, "--key-from", key)
    assert restored.returncode == 0, restored.stderr
    kept = data / "apps/weather/releases/1/source"
    kept.rename(tmp_path / "kept")
    with host(data) as running:
        assert any("turn that host off" in line for line in running.child.lines)
        eventually(lambda: running.status("notes").state == "up")
        assert running.call("notes", "greet", token)["result"] == "two Hello"
        assert running.call("notes", "add", token, text="second")["result"] == ["first", "second"]
        assert running.status("weather").reason == (
            "release 1 could not be built again: its source was not in the backup: deploy the app again"
        )
        assert running.status("weather").state == "failed"
        (tmp_path / "kept").rename(kept)
        assert running.portway("restart", "weather").returncode == 0, "it is built from the source in the backup"
        assert running.status("weather").state == "up"
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{running.ready['url']}/_portway/hooks/notes?key=none")
        assert refused.value.code == 503
        assert b"its operator says that it takes over by `portway restore --take-over`" in refused.value.read()
        assert "503" in push(running, user, tmp_path / "refused").stderr
        assert running.portway("restore", "--take-over").returncode == 0
        assert push(running, user, tmp_path / "taken").returncode == 0
        assert running.call("notes", "greet", token)["result"] == "three Hello"
        assert running.portway("rollback", "notes", "1").returncode == 0, "it is built for that"
        assert running.call("notes", "greet", token)["result"] == "one Hello"
        listed = json.loads(running.portway("releases", "notes", "-o", "json").stdout)["releases"]
        assert [(each["release"], each["cause"]) for each in listed] == [
            (4, "rollback"),
            (3, "push"),
            (2, "deploy"),
            (1, "deploy"),
        ]
        again = running.portway("restore", "--take-over")
        assert "has nothing to take over: it is not a restored host" in again.stderr


@pytest.mark.slow
def test_a_restored_host_follows_the_links_of_the_first_once_it_takes_over(elsewhere: Upstream, tmp_path: Path) -> None:
    backup, data, options = tmp_path / "host.backup", tmp_path / "restored", ["--allow-private-sources"]
    with host(tmp_path / "data", options=options) as running:
        linked = link(running, elsewhere, "linked")
        assert running.portway("backup", backup, "--key-to", tmp_path / "host.key").returncode == 0
    assert restore(backup).exit_code == 0
    linked.commit("two")
    with host(data, options=options) as running:
        linked = replace(linked, running=running)
        eventually(lambda: running.status("linked").state == "up")
        hook = linked.made["deploy_hook"].partition("/_portway/")[2]
        address = f"{running.ready['url']}/_portway/{hook}"
        assert linked.send({}, b"", address)[0] == 503
        assert linked.seen()["version"] == "one"
        assert running.portway("restore", "--take-over").returncode == 0
        assert linked.send({}, b"", address)[0] == 200, "the secret of the link is the same"
        linked.becomes_live("two")


@pytest.mark.slow
def test_an_admin_elsewhere_has_the_host_back_itself_up(app: Path, tmp_path: Path) -> None:
    key = tmp_path / "host.key"
    with host(tmp_path / "data", options=["--key-file", str(key)]) as running:
        assert running.portway("deploy", app, "--storage", "1").returncode == 0
        assert running.portway("env", "set", "notes", "GREETING=secret words").returncode == 0
        token = add_user(running, "ann", "admin")

        async def back_up(client: Client) -> dict[str, Any]:
            done = await client.call_tool("backup", {})
            assert not done.is_error, done.text
            assert done.structured is not None
            return dict(done.structured)

        async def use() -> list[dict[str, Any]]:
            async with Client(f"{running.ready['url']}/_portway/mcp", token=token, timeout=120) as client:
                made = [await back_up(client) for _ in range(3)]
                both = await asyncio.gather(*(client.call_tool("backup", {}) for _ in range(2)))
                refused = [done.text for done in both if done.is_error]
                assert refused == ["another backup of this host is being made: wait for its end"]
                return made

        made = asyncio.run(use())
        folder = running.paths.backups
        kept = sorted(folder.iterdir())
        assert [file.name for file in kept[:2]] == [Path(each["file"]).name for each in made[1:]]
        assert len(kept) == 3
        assert (made[-1]["file"], made[-1]["size"]) == (f"/backups/{kept[1].name}", kept[1].stat().st_size)
        assert (made[-1]["apps"], stat.S_IMODE(kept[1].stat().st_mode)) == (["notes"], 0o600)
    assert b"secret words" not in kept[-1].read_bytes()
    assert restore(kept[-1], data=tmp_path / "restored", key=key).exit_code == 0
