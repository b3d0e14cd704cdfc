"""The history of an app: what is in it, the ways back, and whose turn it is."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from portway.cli.control_client import ask_control
from portway.cli.main import cli
from portway.host.management.management_types import ReleaseInfo, ReleaseList
from portway.host.processes import local_user
from tests.host.running_host import Host, host
from tests.support import SCRIPTS, clean_env, eventually

SERVER = """
import asyncio
import os
from portway import Server

server = Server("history")

@server.tool
async def seen(seconds: float = 0) -> dict[str, str]:
    await asyncio.sleep(seconds)
    return {"version": "VERSION", "key": os.environ.get("KEY", "")}
"""
HELD = "for _ in $(seq 600); do [ -e go ] && exit 0; sleep 0.1; done; exit 1"

GROUPED = f"""
services:
  - type: web
    name: late
    runtime: python
    buildCommand: {HELD}
    envVars: [{{fromGroup: shared}}]
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with host(tmp_path_factory.mktemp("history") / "data", options=["--trust-all-apps"]) as running:
        yield running


def version(folder: Path, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "server.py").write_text(SERVER.replace("VERSION", text))
    return folder


def portway(running: Host, *words: str | Path) -> Result:
    return CliRunner().invoke(cli, [*map(str, words), "--data", running.ready["data"]])


def releases(running: Host, app: str) -> list[ReleaseInfo]:
    return ask_control(running.here, "list_releases", {"app": app}, ReleaseList).releases


def history(running: Host, app: str) -> list[tuple[int, str, str, str]]:
    return [(each.release, each.status, each.cause, each.detail) for each in releases(running, app)]


def git(folder: Path, *words: str) -> str:
    named = ["-c", "user.name=a", "-c", "user.email=a@example.com"]
    done = subprocess.run(["git", *named, *words], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.slow
def test_every_change_is_a_release_and_a_rollback_brings_back_code_and_variables(running: Host, tmp_path: Path) -> None:
    folder = version(tmp_path / "app", "one")
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "one")
    commit = git(folder, "rev-parse", "HEAD")
    assert portway(running, "env", "set", "history", "KEY=old").exit_code == 0
    token = running.deploy(folder, "history").token
    assert token
    running.deploy(version(folder, "two"), "history", access="public")
    assert portway(running, "env", "set", "history", "KEY=new").exit_code == 0
    (folder / "server.py").write_text("raise SystemExit(3)")
    assert portway(running, "deploy", folder, "--name", "history").exit_code == 1
    assert running.call("history", "seen", token) == {"version": "two", "key": "new"}

    went = portway(running, "rollback", "history", "1")
    assert went.exit_code == 0, went.output
    assert "note  KEY as in release 1; the next deploy or change by `portway env` brings what is set now" in went.stderr
    assert went.stderr.count("that of release 1") == 1, went.stderr
    assert running.call("history", "seen", token) == {"version": "one", "key": "old"}
    assert running.status("history").access == "gate", "its configuration is back, too"
    assert portway(running, "restart", "history").exit_code == 0
    assert running.call("history", "seen", token) == {"version": "one", "key": "old"}
    back = portway(running, "rollback", "history", "-o", "json")
    assert json.loads(back.stdout)["release"] == 7
    assert running.call("history", "seen", token) == {"version": "two", "key": "new"}, "before the restarted rollback"

    assert history(running, "history") == [
        (7, "live", "rollback", "3"),
        (6, "ready", "restart", "5"),
        (5, "ready", "rollback", "1"),
        (4, "failed", "deploy", ""),
        (3, "ready", "env", "KEY"),
        (2, "ready", "deploy", ""),
        (1, "ready", "deploy", ""),
    ]
    found = releases(running, "history")
    assert {each.asked_by for each in found} == {local_user()}
    assert {each.commit for each in found} == {commit}
    shown = portway(running, "releases", "history")
    rows = shown.stdout.splitlines()
    assert rows[0].split() == ["RELEASE", "STATUS", "WHAT", "BY", "COMMIT", "CREATED", "SIZE"]
    assert rows[1].startswith("7        live    rollback to 3")
    assert rows[4].startswith(f"4        failed  deploy {folder}")
    assert commit[:7] in rows[1]
    assert shown.stderr.endswith(" MB in all\n")

    assert portway(running, "env", "set", "history", "OTHER=1").exit_code == 0
    portway(running, "rollback", "history", "1")
    running.deploy(version(folder, "three"), "history")
    assert running.call("history", "seen", token) == {"version": "three", "key": "new"}, "a deploy has what is set"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["rollback", "choosy", "2"], "release 2 of choosy never served: it can go back to 1"),
        (["rollback", "choosy", "3"], "release 3 of choosy is live: `portway restart choosy` starts it anew"),
        (["rollback", "choosy", "9"], "choosy keeps no release 9: it can go back to 1"),
        (["rollback", "single"], "single has no earlier release that it can go back to"),
        (["rollback", "broken"], "broken has no live release: deploy it"),
        (["restart", "broken"], "broken has no live release: deploy it"),
        (["releases", "nobody"], "there is no app 'nobody' on this host"),
    ],
)
def test_a_release_that_cannot_be_gone_back_to_is_refused_with_those_that_can(
    running: Host, tmp_path: Path, words: list[str], error: str
) -> None:
    if "choosy" not in portway(running, "ps").stdout:
        good, bad = version(tmp_path / "good", "one"), version(tmp_path / "bad", "bad")
        (bad / "server.py").write_text("raise SystemExit(3)")
        for app, folder in (("choosy", good), ("choosy", bad), ("choosy", good), ("single", good), ("broken", bad)):
            portway(running, "deploy", folder, "--name", app)
    refused = portway(running, *words)
    assert refused.exit_code == 1
    assert refused.stderr.startswith(f"Error: {error}")


@pytest.mark.slow
def test_a_group_that_changes_during_a_first_deploy_reaches_the_app(running: Host, tmp_path: Path) -> None:
    folder = version(tmp_path / "late", "first")
    (folder / "render.yaml").write_text(GROUPED)
    assert portway(running, "env", "set", "--group", "shared", "KEY=old").exit_code == 0
    with ThreadPoolExecutor(1) as asker:
        deploy = asker.submit(running.deploy, folder, "late")
        source = running.paths.release("late", 1) / "src"
        eventually(source.is_dir)
        changed = portway(running, "env", "set", "--group", "shared", "KEY=new")
        (source / "go").touch()
        assert changed.exit_code == 0, changed.output
        token = deploy.result(40).token
    assert token
    assert running.call("late", "seen", token) == {"version": "first", "key": "new"}
    assert history(running, "late")[0] == (2, "live", "env", "KEY")


@pytest.mark.slow
def test_a_change_waits_its_turn_and_of_waiting_deploys_the_newest_is_done(running: Host, tmp_path: Path) -> None:
    folder = version(tmp_path / "app", "first")
    token = running.deploy(folder, "queued").token
    assert token

    def steps_of(*words: str | Path) -> subprocess.Popen[str]:
        command = [str(SCRIPTS / "portway"), *map(str, words)]
        environment = clean_env(running.environment | {"PORTWAY_DATA": running.ready["data"]})
        return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def waiting(process: subprocess.Popen[str]) -> subprocess.Popen[str]:
        assert process.stderr
        line = next(line for line in process.stderr if line.startswith(("----->", "Error")))
        assert line == "-----> waiting  for another deploy or change of queued\n"
        return process

    held = steps_of("deploy", folder, "--name", "queued", "--build", HELD)
    assert held.stderr
    assert "copy" in held.stderr.readline()
    skipped = waiting(steps_of("deploy", version(folder, "skipped"), "--name", "queued", "--build", ""))
    gone = waiting(steps_of("rollback", "queued"))
    changed = waiting(steps_of("env", "set", "queued", "KEY=changed"))
    newest = waiting(steps_of("deploy", version(folder, "newest"), "--name", "queued", "--build", ""))
    refused = portway(running, "destroy", "queued", "--yes")
    assert "queued is being deployed or changed: wait for that to end" in refused.stderr

    output, error = skipped.communicate()
    assert (skipped.returncode, output) == (3, "")
    assert error == "Error: superseded by a newer deploy of queued, before its turn came\n"
    gone.terminate()
    gone.communicate()
    (running.paths.release("queued", 2) / "src" / "go").touch()
    for process in (held, changed, newest):
        process.communicate()
    assert [held.returncode, changed.returncode, newest.returncode] == [0, 0, 0]
    assert running.call("queued", "seen", token) == {"version": "newest", "key": "changed"}
    assert history(running, "queued") == [
        (4, "live", "deploy", ""),
        (3, "ready", "env", "KEY"),
        (2, "ready", "deploy", ""),
        (1, "ready", "deploy", ""),
    ], "a skipped one, and one whose asker has left, leave nothing"
