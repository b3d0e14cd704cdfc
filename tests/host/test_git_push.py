"""Real git against a real host: a push is a deploy, and a clone is what is live."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from portway.cli.control_client import HostUnreachable, ask_control
from portway.host import routing_table
from portway.host.management.management_types import NewUser, ReleaseList
from portway.http.http_client import HttpClient
from tests.host.git_client import commit_all, git, git_process, run_git
from tests.host.running_host import Host, host
from tests.support import eventually

SERVER = """
import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SEEN = {"version": "VERSION", "commit": os.environ.get("RENDER_GIT_COMMIT", "")}
RESULTS = {
    "initialize": {
        "protocolVersion": "2025-11-25",
        "capabilities": {"tools": {}},
        "serverInfo": {"name": "plain", "version": "1"},
    },
    "tools/list": {"tools": [{"name": "seen", "inputSchema": {"type": "object"}}]},
    "tools/call": {"content": [], "structuredContent": SEEN},
}


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        call = json.loads(self.rfile.read(int(self.headers["content-length"])))
        result = RESULTS.get(call["method"])
        answer = {"jsonrpc": "2.0", "id": call.get("id")}
        answer |= {"result": result} if result else {"error": {"code": -32601, "message": "no such method"}}
        self.send_response(200 if "id" in call else 202)
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode() if "id" in call else b"")


ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""
SERVICE = """
  - type: web
    name: {name}
    runtime: python
    buildCommand: "{build}"
    startCommand: python main.py
"""
HELD = "for _ in $(seq 600); do [ -e go ] && exit 0; sleep 0.1; done; exit 1"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with host(tmp_path_factory.mktemp("git") / "data", options=["--trust-all-apps"]) as running:
        yield running


@pytest.fixture(scope="module")
def token(running: Host) -> str:
    """The token of a deployer who may use every app."""
    return add_user(running, "dora", "deployer")


def add_user(running: Host, name: str, role: str, *apps: str) -> str:
    arguments = {"name": name, "role": role, "apps": list(apps)}
    return ask_control(running.here, "add_user", arguments, NewUser).token


def address(running: Host, app: str, token: str) -> str:
    return f"{running.ready['url'].replace('://', f'://any:{token}@')}/{app}.git"


def write(folder: Path, version: str, *services: str, build: str = "true") -> Path:
    """Write a small server, and a blueprint with these services."""
    folder.mkdir(exist_ok=True)
    (folder / "main.py").write_text(SERVER.replace("VERSION", version))
    described = "".join(SERVICE.format(name=name, build=build) for name in services or ("service",))
    (folder / "render.yaml").write_text(f"services:{described}")
    return folder


def push(folder: Path, remote: str, *words: str) -> subprocess.CompletedProcess[str]:
    return run_git(folder, "push", *(words[:-1]), remote, *(words[-1:] or ["HEAD:main"]), check=False)


def told(done: subprocess.CompletedProcess[str]) -> str:
    """Return what a push was told by the host."""
    lines = re.findall(r"^remote: ?(.*)$", done.stderr, re.MULTILINE)
    return "\n".join(line.rstrip() for line in lines)


def seen(running: Host, app: str, token: str) -> dict[str, str]:
    found: dict[str, str] = running.call(app, "seen", token)
    return found


def head(running: Host, app: str, token: str) -> str:
    return run_git(Path("/"), "ls-remote", address(running, app, token), "HEAD").stdout.partition("\t")[0]


def statuses(running: Host, app: str) -> list[str]:
    found = ask_control(running.here, "list_releases", {"app": app}, ReleaseList)
    return [each.status for each in found.releases]


def listed(running: Host, app: str) -> list[str]:
    """Return the statuses of an app's releases; none while control starts."""
    try:
        return statuses(running, app)
    except HostUnreachable:
        return []


def git_processes(running: Host) -> dict[int, str]:
    """Return the command lines of git and of its hooks that this host runs, by process."""
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if b"PORTWAY_BUILD=" + running.ready["data"].encode() in Path(f"/proc/{pid}/environ").read_bytes():
                found[int(pid)] = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
        except OSError:
            continue
    return found


def held_build(running: Host, app: str, release: int) -> Path:
    """Return the file that lets a held build go on, once it waits for it."""
    source = running.paths.release(app, release) / "src"
    eventually(source.exists)
    return source / "go"


def test_a_push_makes_an_app_and_the_next_one_is_its_next_release(running: Host, token: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "app", "one")
    commit = commit_all(folder)
    remote = address(running, "first", token)
    done = push(folder, remote)
    assert done.returncode == 0, done.stderr
    lines = told(done).splitlines()
    assert lines[0].startswith("-----> copy ")
    assert [line.split()[1] for line in lines if line.startswith("----->")][-1] == "switch"
    url = re.escape(f"{running.ready['url']}/first/mcp")
    assert re.fullmatch(rf"=====> {url}   release 1, 1 tool, \d+\.\ds", lines[-2])
    shown = re.fullmatch(r" +token (pw_\S+)   \(shown once; more with `portway token create first NAME`\)", lines[-1])
    assert shown, lines
    assert seen(running, "first", shown[1]) == {"version": "one", "commit": commit}

    git(tmp_path, "clone", "--quiet", remote, "clone")
    assert git(tmp_path / "clone", "rev-parse", "HEAD") == commit
    second = commit_all(write(tmp_path / "clone", "two"))
    done = push(tmp_path / "clone", remote)
    assert done.returncode == 0, done.stderr
    assert "token" not in told(done)
    assert seen(running, "first", shown[1]) == {"version": "two", "commit": second}
    assert head(running, "first", token) == second
    history = ask_control(running.here, "list_releases", {"app": "first"}, ReleaseList).releases
    assert [(each.cause, each.asked_by, each.commit) for each in history] == [
        ("push", "dora", second),
        ("push", "dora", commit),
    ]


@pytest.mark.slow
def test_a_folder_that_was_deployed_is_cloned_edited_and_pushed_and_a_rollback_moves_the_branch(
    running: Host, token: str, tmp_path: Path
) -> None:
    folder = write(tmp_path / "app", "one")
    caller = running.deploy(folder, "second").token
    assert caller
    remote = address(running, "second", token)
    git(tmp_path, "clone", "--quiet", remote, "clone")
    first = git(tmp_path / "clone", "rev-parse", "HEAD")
    assert (tmp_path / "clone" / "main.py").read_text() == (folder / "main.py").read_text()
    assert git(tmp_path / "clone", "log", "--format=%an: %s") == "Portway: Deploy app"
    second = commit_all(write(tmp_path / "clone", "two"))
    assert push(tmp_path / "clone", remote).returncode == 0
    assert seen(running, "second", caller)["version"] == "two"

    assert running.portway("rollback", "second", "1").returncode == 0
    assert seen(running, "second", caller)["version"] == "one"
    assert head(running, "second", token) == first
    third = commit_all(write(tmp_path / "clone", "three"))
    assert push(tmp_path / "clone", remote).returncode == 0, "its history holds what is live"
    assert (head(running, "second", token), seen(running, "second", caller)["version"]) == (third, "three")
    assert running.portway("rollback", "second", "2").returncode == 0
    assert head(running, "second", token) == second

    running.deploy(folder, "second")
    git(tmp_path, "clone", "--quiet", remote, "again")
    assert git(tmp_path / "again", "log", "--format=%s") == "Deploy app\nA change\nDeploy app"
    behind = push(tmp_path / "clone", remote)
    assert behind.returncode
    assert "fetch first" in behind.stderr, "git's own words for what is refused before it is sent"


def test_a_push_whose_deploy_fails_is_refused_and_leaves_nothing(running: Host, token: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "app", "one")
    commit, remote = commit_all(folder), address(running, "third", token)
    assert push(folder, remote).returncode == 0
    repository = running.paths.repository("third")
    before = git(repository, "count-objects", "-v")
    (folder / "main.py").write_text("raise SystemExit('it cannot start')")
    commit_all(folder)
    done = push(folder, remote)
    assert done.returncode == 1
    assert "[remote rejected] HEAD -> main" in done.stderr
    assert "portway: the server ended (exit code 1) before it answered:" in told(done)
    assert "it cannot start" in told(done)
    assert told(done).endswith("nothing has changed: third goes on with release 1")
    first = told(push(folder, address(running, "unborn", token)))
    assert first.endswith("unborn has never served: deploy again, or run `portway destroy unborn`")
    assert running.ready["data"] not in done.stderr
    assert head(running, "third", token) == commit
    assert git(repository, "count-objects", "-v") == before
    assert git_processes(running) == {}


def test_a_first_push_that_is_refused_leaves_no_repository(running: Host, token: str, tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    commit_all(tmp_path / "app")
    done = push(tmp_path / "app", address(running, "empty", token))
    assert done.returncode == 1
    assert "there is no server.py, main.py or app.py here" in told(done)
    done = push(tmp_path / "app", address(running, "never", token), "HEAD:other")
    assert done.returncode == 1
    eventually(lambda: not running.paths.repository("never").exists())
    told_by_git = run_git(tmp_path, "clone", address(running, "never", token), check=False)
    assert "remote: There is no app never on this host: push to this address to make it." in told_by_git.stderr


@pytest.mark.slow
def test_a_refused_push_does_not_take_its_repository_from_the_first_deploy_of_a_folder(
    running: Host, token: str, tmp_path: Path
) -> None:
    folder, remote = write(tmp_path / "app", "one"), address(running, "contested", token)
    (folder / "large").write_bytes(os.urandom(32 * 1024 * 1024))
    commit_all(write(tmp_path / "other", "two"))
    with ThreadPoolExecutor(1) as pool:
        deploying = pool.submit(running.deploy, folder, "contested")
        eventually(lambda: list(running.paths.drafts.glob("*.objects")))
        assert push(tmp_path / "other", remote, "HEAD:other").returncode == 1
        assert deploying.result().release == 1
    git(tmp_path, "clone", "--quiet", remote, "clone")
    assert (tmp_path / "clone" / "main.py").read_text() == (folder / "main.py").read_text()


def test_a_push_with_a_secret_is_refused_and_says_how_a_push_allows_it(
    running: Host, token: str, tmp_path: Path
) -> None:
    folder, remote = write(tmp_path / "app", "one"), address(running, "keyed", token)
    (folder / "id_rsa").write_text("for tests")
    (folder / ".env").write_text("A=b")
    commit_all(folder)
    refused = push(folder, remote)
    found = "(.env is a file of variables, id_rsa is a private key)"
    mend = "set them by `portway env set` and remove them here, or push with -o allow-file=.env -o allow-file=id_rsa"
    assert f"the source holds secrets {found}: {mend}" in told(refused)
    assert push(folder, remote, "-o", "allow-file=.env", "-o", "allow-file=id_*", "HEAD:main").returncode == 0


@pytest.mark.slow
def test_a_first_push_of_master_is_deployed_from_then_on(running: Host, token: str, tmp_path: Path) -> None:
    folder, remote = write(tmp_path / "app", "one"), address(running, "old-name", token)
    commit = commit_all(folder)
    assert push(folder, remote, "HEAD:master").returncode == 0
    git(tmp_path, "clone", "--quiet", remote, "clone")
    assert git(tmp_path / "clone", "branch", "--show-current") == "master"
    assert git(tmp_path / "clone", "rev-parse", "HEAD") == commit
    commit_all(folder)
    assert "only the branch master is deployed" in told(push(folder, remote))


@pytest.fixture(scope="module")
def shared(running: Host, token: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of the app `shared`, which is live with its second commit."""
    folder = write(tmp_path_factory.mktemp("shared") / "app", "one")
    commit_all(folder)
    (folder / "notes").write_text("two")
    commit_all(folder)
    assert push(folder, address(running, "shared", token)).returncode == 0
    return folder


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["HEAD:refs/heads/other"],
            "this push has refs/heads/other: push it as `git push REMOTE HEAD:main`",
        ),
        (["HEAD:refs/heads/--upload-pack=x"], "this push has refs/heads/--upload-pack=x"),
        (["HEAD:refs/heads/master"], "only the branch main is deployed"),
        (["HEAD:refs/tags/v1"], "this push has refs/tags/v1"),
        (["--all"], "this push has refs/heads/other"),
        ([":main"], "the branch main is not deleted: `portway destroy` removes the app"),
        (
            ["-o", "quick", "HEAD:main"],
            "there is no push option 'quick': the options are force, skip, deploy, access",
        ),
        (
            ["--force", "HEAD~2:main"],
            "the push drops {live}, which is deployed: merge it, or replace it by `git push --force -o force`",
        ),
    ],
)
def test_a_push_that_is_not_one_commit_on_the_branch_is_refused(
    running: Host, token: str, shared: Path, tmp_path: Path, words: list[str], sentence: str
) -> None:
    live = head(running, "shared", token)
    git(tmp_path, "clone", "--quiet", shared, "clone")
    folder = tmp_path / "clone"
    commit_all(folder, "Three")
    git(folder, "branch", "other")
    done = push(folder, address(running, "shared", token), *words)
    assert done.returncode == 1, done.stderr
    assert sentence.format(live=live[:7]) in told(done)
    assert head(running, "shared", token) == live
    assert statuses(running, "shared") == ["live"]


@pytest.mark.slow
def test_a_push_of_very_many_branches_is_told_why_it_is_refused(
    running: Host, token: str, shared: Path, tmp_path: Path
) -> None:
    git(tmp_path, "clone", "--quiet", shared, "clone")
    commit = git(tmp_path / "clone", "rev-parse", "HEAD")
    packed = "".join(f"{commit} refs/heads/b{number:05}\n" for number in range(3000))
    (tmp_path / "clone" / ".git" / "packed-refs").write_text("# pack-refs with: sorted\n" + packed)
    done = push(tmp_path / "clone", address(running, "shared", token), "--all")
    assert "only the branch main is deployed, alone, and this push has refs/heads/b00000: push it as" in told(done)


def test_what_a_source_may_not_hold_is_refused_with_its_name(
    running: Host, token: str, shared: Path, tmp_path: Path
) -> None:
    git(tmp_path, "clone", "--quiet", shared, "clone")
    folder = tmp_path / "clone"
    (folder / "model.bin").write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 9\n")
    commit_all(folder)
    done = push(folder, address(running, "shared", token))
    assert done.returncode == 1
    assert "portway: model.bin is in Git LFS, and only its pointer is in the commit" in told(done)
    (folder / "model.bin").unlink()
    git(folder, "update-index", "--add", "--cacheinfo", f"160000,{git(folder, 'rev-parse', 'HEAD')},vendor")
    git(folder, "commit", "--quiet", "--message", "Submodule")
    git(folder, "rm", "--quiet", "--cached", "model.bin")
    git(folder, "commit", "--quiet", "--message", "Without the model")
    done = push(folder, address(running, "shared", token))
    assert done.returncode == 1
    assert "portway: vendor is a submodule, which is not fetched" in told(done)


@pytest.mark.slow
def test_a_history_is_replaced_only_when_that_is_meant(running: Host, token: str, tmp_path: Path) -> None:
    folder, remote = write(tmp_path / "app", "one"), address(running, "replaced", token)
    first = commit_all(folder)
    assert push(folder, remote).returncode == 0
    other = write(tmp_path / "other", "two")
    second = commit_all(other)
    assert "[rejected]" in push(other, remote).stderr
    assert push(other, remote, "--force", "HEAD:main").returncode == 1
    assert push(other, remote, "--force", "-o", "force", "HEAD:main").returncode == 0
    assert head(running, "replaced", token) == second
    assert running.portway("rollback", "replaced").returncode == 0
    assert head(running, "replaced", token) == first

    git(other, "fetch", "--quiet", remote, second)  # of a release that is kept
    git(running.paths.repository("replaced"), "update-ref", "-d", "refs/releases/2")  # as when it is deleted
    git(tmp_path, "clone", "--quiet", remote, "clone")
    refused = run_git(tmp_path / "clone", "fetch", remote, second, check=False)
    assert f"not our ref {second}" in refused.stderr


@pytest.mark.slow
def test_a_change_of_the_contract_is_accepted_by_a_push_option(running: Host, token: str, tmp_path: Path) -> None:
    folder, remote = write(tmp_path / "app", "one"), address(running, "contract", token)
    with (folder / "render.yaml").open("a") as blueprint:
        blueprint.write("    x-portway: {contract: locked}\n")
    commit_all(folder)
    assert push(folder, remote).returncode == 0
    server = (folder / "main.py").read_text()
    (folder / "main.py").write_text(server.replace('{"name": "seen"', '{"name": "seen", "description": "What it saw"'))
    commit = commit_all(folder)
    stopped = push(folder, remote)
    assert stopped.returncode == 1
    option = re.search(r"git push (-o accept=\S+),", told(stopped))
    assert option, stopped.stderr
    assert push(folder, remote, *option[1].split(), "HEAD:main").returncode == 0
    assert head(running, "contract", token) == commit
    commit_all(folder)
    assert push(folder, remote, "-o", "access=public", "-o", "accept=none", "HEAD:main").returncode == 0
    assert seen(running, "contract", "")["version"] == "one", "who may call is an option, too"


def test_each_role_does_what_it_may_and_is_told_what_it_may_not(
    running: Host, token: str, shared: Path, tmp_path: Path
) -> None:
    viewer = add_user(running, "vera", "viewer")
    bound = add_user(running, "bert", "deployer", "shared")
    git(tmp_path, "clone", "--quiet", address(running, "shared", viewer), "clone")
    commit_all(tmp_path / "clone")

    def refused(app: str, token: str, status: str) -> str:
        done = push(tmp_path / "clone", address(running, app, token))
        assert done.returncode == 128
        assert status in done.stderr
        return told(done)

    assert refused("shared", viewer, "403") == (
        "vera is a viewer, and may not deploy: ask for a user with the role deployer."
    )
    assert refused("another", bound, "403") == "bert may not use the app another, only shared."
    assert "403" in run_git(tmp_path, "ls-remote", address(running, "first", bound), check=False).stderr
    unknown = "Give the token of a user of this host as the password; `portway user add` makes one."
    for wrong in ("wrong", "pwu_" + "x" * 43, "%C3%A9"):
        assert refused("shared", wrong, "Authentication failed") == unknown
    anonymous = run_git(tmp_path, "ls-remote", f"{running.ready['url']}/shared.git", check=False)
    assert "could not read Username" in anonymous.stderr

    write(tmp_path / "clone", "x", "shared", "another")
    commit_all(tmp_path / "clone")
    done = push(tmp_path / "clone", address(running, "shared", bound))
    assert "portway: bert may not use the app another, only shared" in told(done), "the blueprint has two apps"
    write(tmp_path / "clone", "x", "one", "another")
    commit_all(tmp_path / "clone")
    done = push(tmp_path / "clone", address(running, "shared", token))
    assert "portway: the source has the apps one, another: push it to one of them, not to shared" in told(done)

    assert running.portway("user", "revoke", "bert").returncode == 0
    assert refused("shared", bound, "Authentication failed") == unknown
    assert "users" in running.portway("user", "list", "-o", "json").stdout


@pytest.mark.slow
def test_a_bound_user_gets_no_variables_of_other_apps_and_changes_none(
    running: Host, token: str, tmp_path: Path
) -> None:
    bound = add_user(running, "bob", "deployer", "bobs")

    def pushed(app: str, token: str, variable: str, groups: str = "") -> str:
        folder = write(tmp_path / app, "one")
        with (folder / "render.yaml").open("a") as blueprint:
            blueprint.write(f"    envVars: [{variable}]\n{groups}")
        commit_all(folder)
        done = push(folder, address(running, app, token))
        assert (done.returncode == 0) == ("portway: " not in told(done)), done.stderr
        return told(done)

    def group(name: str, value: str) -> str:
        return f"envVarGroups: [{{name: {name}, envVars: [{{key: MODE, value: {value}}}, {{key: KEY, sync: false}}]}}]"

    assert running.portway("env", "set", "--group", "unused", "PASSWORD=swordfish").returncode == 0
    assert running.portway("env", "set", "--group", "common", "KEY=swordfish").returncode == 0
    pushed("anns", token, "{fromGroup: common}", group("common", "fast"))
    from_service = "{key: TAKEN, fromService: {name: anns, type: web, ITS}}"
    refused = "portway: bob may not use the app anns, only bobs"
    assert refused in pushed("bobs", bound, from_service.replace("ITS", "envVarKey: KEY"))
    for name in ("unused", "common"):
        refused = f"portway: bob may not use the group {name}, which is of other apps: ask an admin to deploy this once"
        assert refused in pushed("bobs", bound, f"{{fromGroup: {name}}}")
    assert refused in pushed("bobs", bound, "{key: A, value: b}", group("common", "slow"))
    pushed("bobs", bound, from_service.replace("ITS", "property: host"))

    lacking = "portway: the group bobs lacks variables: run `portway env set --group bobs KEY=…`"
    assert lacking in pushed("bobs", bound, "{fromGroup: bobs}", group("bobs", "fast"))
    assert running.portway("env", "set", "--group", "bobs", "KEY=swordfish").returncode == 0
    running.deploy(tmp_path / "bobs", "bobs")
    running_with = running.paths.repository("bobs")
    assert head(running, "bobs", bound) == git(running_with, "rev-parse", "HEAD")
    git(tmp_path / "bobs", "pull", "--quiet", "--rebase", address(running, "bobs", bound), "main")
    pushed("bobs", bound, "{fromGroup: bobs}", group("bobs", "slow"))


@pytest.mark.slow
def test_a_push_that_waits_is_refused_when_its_user_is_revoked(running: Host, token: str, tmp_path: Path) -> None:
    remote = address(running, "revoked", token)
    folder = write(tmp_path / "app", "one", build=HELD)
    commit_all(folder)
    with git_process(folder, "push", remote, "HEAD:main") as first:
        go = held_build(running, "revoked", 1)
        leaver = address(running, "revoked", add_user(running, "leo", "deployer"))
        commit_all(write(folder, "two"))
        with git_process(folder, "push", leaver, "HEAD:main") as next_:
            assert next_.stderr
            next(line for line in next_.stderr if "waiting " in line)
            assert running.portway("user", "revoke", "leo").returncode == 0
            go.touch()
            assert first.wait(120) == 0
            refused = next_.stderr.read()
            assert next_.wait(120) == 1
    assert "portway: leo has been revoked, or given other rights, since this deploy was asked for" in refused


@pytest.mark.slow
def test_a_push_does_not_go_live_when_its_user_is_revoked_while_it_builds(running: Host, tmp_path: Path) -> None:
    leaver = address(running, "never-live", add_user(running, "lea", "deployer"))
    folder = write(tmp_path / "app", "one", build=HELD)
    commit_all(folder)
    with git_process(folder, "push", leaver, "HEAD:main") as pushing:
        assert pushing.stderr
        go = held_build(running, "never-live", 1)
        assert running.portway("user", "revoke", "lea").returncode == 0
        go.touch()
        refused = pushing.stderr.read()
        assert pushing.wait(120) == 1
    assert "portway: lea has been revoked, or given other rights, since this deploy was asked for" in refused
    assert "never-live" not in routing_table.load(running.paths.routes).apps


@pytest.mark.slow
def test_the_apps_of_one_source_share_its_commits(running: Host, token: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "app", "one", "left", "right")
    commit_all(folder, "Before")
    commit = commit_all(folder)
    done = push(folder, address(running, "left", token))
    assert done.returncode == 0, done.stderr
    git(tmp_path, "clone", "--quiet", address(running, "right", token), "clone")
    assert git(tmp_path / "clone", "rev-parse", "HEAD") == commit
    assert git(tmp_path / "clone", "log", "--format=%s") == "A change\nBefore"


@pytest.mark.slow
def test_pushes_wait_for_their_turn_and_one_that_lacks_what_went_live_is_refused(
    running: Host, token: str, tmp_path: Path
) -> None:
    remote = address(running, "queue", token)
    folder = write(tmp_path / "app", "one")
    commit_all(folder)
    assert push(folder, remote).returncode == 0
    git(tmp_path, "clone", "--quiet", remote, "fork")
    write(folder, "two", build=HELD)
    commit_all(folder)
    with git_process(folder, "push", remote, "HEAD:main") as first:
        go = held_build(running, "queue", 2)
        last = commit_all(write(folder, "three"))
        with git_process(folder, "push", remote, "HEAD:main") as next_:
            assert next_.stderr
            next(line for line in next_.stderr if "waiting  for another deploy or change of queue" in line)
            go.touch()
            assert first.wait(120) == 0
            assert next_.wait(120) == 0, "its history holds the first"
    assert head(running, "queue", token) == last

    write(folder, "four", build=HELD)
    live = commit_all(folder)
    with git_process(folder, "push", remote, "HEAD:main") as first:
        go = held_build(running, "queue", 4)
        git(tmp_path / "fork", "pull", "--quiet", remote, "main")
        forked = commit_all(write(tmp_path / "fork", "five"))
        with git_process(tmp_path / "fork", "push", remote, "HEAD:main") as next_:
            assert next_.stderr
            next(line for line in next_.stderr if "waiting " in line)
            go.touch()
            assert first.wait(120) == 0
            refused = next_.stderr.read()
            assert next_.wait(120) == 1
    sentence = f"{live[:7]} is live and not in the history of {forked[:7]}: pull it, or replace it by"
    assert sentence in refused
    assert head(running, "queue", token) == live


@pytest.mark.slow
def test_a_push_whose_client_leaves_during_the_deploy_changes_nothing(
    running: Host, token: str, tmp_path: Path
) -> None:
    remote = address(running, "left-alone", token)
    folder = write(tmp_path / "app", "one")
    commit = commit_all(folder)
    assert push(folder, remote).returncode == 0
    commit_all(write(folder, "two", build=HELD))
    with git_process(folder, "push", remote, "HEAD:main") as client:
        held_build(running, "left-alone", 2)
        os.killpg(client.pid, signal.SIGKILL)
    eventually(lambda: statuses(running, "left-alone") == ["failed", "live"])
    eventually(lambda: git_processes(running) == {})
    assert head(running, "left-alone", token) == commit
    eventually(lambda: not list(running.paths.repository("left-alone").glob("objects/*incoming*")))
    assert push(folder, remote, "HEAD~1:main").returncode == 0


def begin_push(running: Host, token: str, old: str) -> socket.socket:
    """Send the beginning of a push to the app `shared`."""
    password = base64.b64encode(f"any:{token}".encode()).decode()
    request = (
        f"POST /shared.git/git-receive-pack HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Basic {password}\r\n"
        "content-type: application/x-git-receive-pack-request\r\ncontent-length: 1000000\r\n\r\n"
        f"00a8{old} {'1' * 40} refs/heads/main\0 report-status side-band-64k agent=git/2.39.5"
    )
    client = socket.create_connection(("127.0.0.1", int(running.ready["url"].rpartition(":")[2])))
    client.sendall(request.encode())
    return client


def test_pushes_that_are_cut_in_their_middle_leave_nothing_and_three_of_a_user_and_four_of_all_run_at_once(
    running: Host, token: str, shared: Path
) -> None:
    before = head(running, "shared", token)
    other = add_user(running, "otto", "deployer")
    with contextlib.ExitStack() as clients:
        for number, pusher in enumerate((token, token, token, other), 1):
            clients.enter_context(begin_push(running, pusher, before))
            eventually(
                lambda: sum("git receive-pack" in line for line in git_processes(running).values()) == number  # noqa: B023
            )
            if number >= 3:  # the third is the last of one user, the fourth of all
                with begin_push(running, pusher, before) as refused:
                    answer = refused.recv(65536).decode()
                assert answer.startswith("HTTP/1.1 503 ")
                assert "The host serves as many requests of git as it can: try again in a moment." in answer
        for process in git_processes(running):
            assert resource.prlimit(process, resource.RLIMIT_CPU)[1] == 300
            assert resource.prlimit(process, resource.RLIMIT_DATA)[1] == 1024**3, "a small pack may be a large object"
    eventually(lambda: git_processes(running) == {})
    assert head(running, "shared", token) == before
    eventually(lambda: not list(running.paths.repository("shared").glob("objects/*incoming*")))


def test_git_is_served_at_its_paths_only(running: Host, token: str, shared: Path) -> None:
    authorization = (b"authorization", b"Basic " + base64.b64encode(f"any:{token}".encode()))

    def ask(target: str, method: str = "GET", host: str | None = None, address: str = "") -> tuple[int, str]:
        async def request() -> tuple[int, str]:
            async with HttpClient(address or running.ready["url"], host) as client:
                response = await client.request(method, target, [authorization])
                body = await response.read(65536)
            return response.status, body.decode(errors="replace").strip()

        return asyncio.run(request())

    refs = "/shared.git/info/refs?service=git-upload-pack"
    assert ask(refs)[0] == 200
    for service in ("", "?service=git-upload-archive", "?service=--help", "?service=git-upload-pack&x=1"):
        told = (403, "This host speaks git's smart protocol only: upgrade git.")
        assert ask(f"/shared.git/info/refs{service}") == told
    for target in ("/shared.git", "/shared.git/HEAD", "/shared.git/objects/info/packs"):
        assert "There is nothing at this path" in ask(target)[1]
    for name in ("SHARED", "my_app", "..", "-x", "1"):
        status, told = ask(f"/{name}.git/info/refs?service=git-upload-pack")
        assert (status, told.startswith(f"'{name}' cannot name an app: ")) == (404, True)
    assert ask(refs, "POST") == (405, "This path takes GET.")
    assert ask(refs, "HEAD") == (405, "")
    assert ask("/shared.git/git-receive-pack") == (405, "This path takes POST.")
    assert ask(refs, host="shared.localhost")[0] == 401, "a path of the app itself, with a token of its own"
    assert ask(refs, host="other.example")[0] == 421
    control = f"unix:{running.paths.git_socket}"
    assert ask("/shared.git/config", address=control) == (
        *(404, "There is nothing at this path; the repository of an app is at /APP.git."),
    )


@pytest.mark.slow
def test_an_app_that_was_deployed_without_git_says_so_until_the_host_has_started_again(
    running: Host, token: str, tmp_path: Path
) -> None:
    running.deploy(write(tmp_path / "app", "one"), "older")
    shutil.rmtree(running.paths.repository("older"))
    cloned = run_git(tmp_path, "clone", address(running, "older", token), check=False)
    sentence = (
        "remote: Nothing of older is in git: its live release was made without it. Deploy it again, or push to it."
    )
    assert sentence in cloned.stderr
    source = running.paths.release("older", 1) / "src"
    source.chmod(0o700)
    (source / ".env").write_text("SECRET=1")  # as a build may leave it
    running.kill("control")
    eventually(lambda: listed(running, "older"))
    clone = ("clone", "--quiet", address(running, "older", token), "clone")
    eventually(lambda: run_git(tmp_path, *clone, check=False).returncode == 0)
    assert sorted(git(tmp_path / "clone", "ls-files").split()) == ["main.py", "render.yaml"]
    commit = commit_all(tmp_path / "clone")
    assert push(tmp_path / "clone", address(running, "older", token)).returncode == 0
    assert head(running, "older", token) == commit


def test_no_token_is_left_behind_by_a_push(running: Host, token: str, shared: Path) -> None:
    data = Path(running.ready["data"])
    assert token not in "".join(running.child.lines)
    for path in (path for path in data.rglob("*") if path.is_file() and not path.is_symlink()):
        assert token.encode() not in path.read_bytes(), path


@pytest.mark.slow
def test_a_killed_control_leaves_the_old_release_and_its_commit(tmp_path: Path) -> None:
    with host(tmp_path / "data") as running:
        token = add_user(running, "dora", "deployer")
        remote = address(running, "app", token)
        folder = write(tmp_path / "app", "one")
        commit = commit_all(folder)
        done = push(folder, remote)
        caller = re.search(r"token (pw_\S+)", told(done))
        assert caller, done.stderr
        commit_all(write(folder, "two", build=HELD))
        with git_process(folder, "push", remote, "HEAD:main") as client:
            held_build(running, "app", 2)
            running.kill("control")
            assert client.wait(120) != 0
        eventually(lambda: git_processes(running) == {})
        eventually(lambda: "failed" in listed(running, "app"))
        assert head(running, "app", token) == commit
        assert seen(running, "app", caller[1])["version"] == "one"
        assert push(folder, remote, "HEAD~1:main").returncode == 0


@pytest.mark.slow
def test_a_host_without_git_says_how_to_install_it(tmp_path: Path) -> None:
    with host(tmp_path / "data", walls=False) as running:
        sentence = "git is not installed on this host: install it, as by `apt-get install git`"
        assert f"portway: {sentence}\n" in running.child.lines
        token = add_user(running, "dora", "deployer")
        assert running.deploy(write(tmp_path / "app", "one"), "plain").release == 1
        commit_all(tmp_path / "app")
        done = push(tmp_path / "app", address(running, "plain", token))
        assert done.returncode == 128
        assert told(done) == sentence


@pytest.mark.slow
def test_an_object_of_300_mb_is_refused_with_the_limit(running: Host, token: str, shared: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "--quiet", shared, "clone")
    folder = tmp_path / "clone"
    for setting in ("core.compression=0", "core.bigFileThreshold=1m"):
        git(folder, "config", *setting.split("="))
    with (folder / "model.bin").open("wb") as file:
        for _ in range(300):
            file.write(os.urandom(1024 * 1024))
    commit_all(folder)
    before = head(running, "shared", token)
    done = push(folder, address(running, "shared", token))
    assert done.returncode == 1
    assert "pack exceeds maximum allowed size (256.00 MiB)" in done.stderr
    assert head(running, "shared", token) == before
    eventually(lambda: git_processes(running) == {})
