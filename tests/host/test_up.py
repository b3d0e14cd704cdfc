"""A whole host: launcher, gate, control and instances as processes, used as operators and callers use it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import click
import httpx2
import psutil
import pytest

from portway.client import ClientError
from portway.host.releases.prune import mark_destroyed
from portway.host.store import Store
from portway.protocol.errors import RpcError
from tests.host.running_host import Host, host
from tests.support import SCRIPTS, clean_env, eventually

SERVER = """
import asyncio
import os
from portway import Context, Server

mcp = Server("thing")

@mcp.tool
def version() -> str:
    return "VERSION"

@mcp.tool
def environment() -> dict[str, str]:
    return dict(os.environ)

@mcp.tool
def instance() -> str:
    return os.environ["PORTWAY_INSTANCE"]

@mcp.tool(scopes=["admin"])
def secret() -> str:
    return "for admins"

@mcp.tool
def caller(ctx: Context) -> str:
    return ctx.caller.subject

@mcp.tool
async def hold(until: str) -> str:
    until = os.path.expanduser("~/" + until)
    open(until + ".held", "w").close()
    while not os.path.exists(until):
        await asyncio.sleep(0.01)
    return "VERSION"

@mcp.tool
def die() -> None:
    print("dying as asked", flush=True)
    os._exit(3)
"""


BLOCK = """
import time
@mcp.tool
async def block(until: str) -> str:
    until = os.path.expanduser("~/" + until)
    open(until + ".held", "w").close()
    while not os.path.exists(until):
        time.sleep(0.01)
    return "VERSION"
"""
DAEMON = """
import subprocess
print("left", subprocess.Popen(["env", "-i", "setsid", "sleep", "SECONDS"]).pid, flush=True)
"""


def thing(folder: Path, version: str = "one", *, more: str = "") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "server.py").write_text(SERVER.replace("VERSION", version) + more)
    return folder


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    base = tmp_path_factory.mktemp("host")
    with host(base / "data", [thing(base / "thing")]) as running:
        yield running


def test_the_ready_line_holds_all_a_first_call_needs(running: Host) -> None:
    assert set(running.ready) >= {"url", "token", "data"}
    assert running.ready["token"].startswith("pw_")
    assert running.call("thing", "version", running.ready["token"]) == {"result": "one"}


def test_an_instance_sees_its_own_environment_and_nothing_of_the_hosts(running: Host) -> None:
    seen = running.call("thing", "environment", running.ready["token"])
    renders = {name for name in seen if name.startswith("RENDER")} | {"IS_PULL_REQUEST", "WEB_CONCURRENCY"}
    assert set(seen) - {"LC_CTYPE", "PWD"} - renders == {
        *("PATH", "LANG", "HOME", "TMPDIR", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", "PORT"),
        *("PORTWAY_SOCKET", "PORTWAY_APP", "PORTWAY_RELEASE", "PORTWAY_INSTANCE", "PORTWAY_KEYS"),
        *("PORTWAY_ACCESS", "PORTWAY_ALLOWED_HOSTS", "PORTWAY_ALLOWED_ORIGINS", "FORWARDED_ALLOW_IPS"),
        *("VIRTUAL_ENV", "UV_OFFLINE", "UV_PROJECT_ENVIRONMENT", "UV_NO_SYNC"),
    }
    assert seen["HOME"].startswith(running.ready["data"])


@pytest.mark.slow
def test_a_new_release_takes_over_without_a_failed_call_and_the_old_one_ends_its_own(
    running: Host, tmp_path: Path
) -> None:
    first = running.deploy(thing(tmp_path / "app"), "successive")
    token = first.token
    assert token
    old = running.call("successive", "instance", token)["result"]
    home = running.home("successive")
    with ThreadPoolExecutor(2) as callers:
        held = callers.submit(running.call, "successive", "hold", token, until="go")
        eventually((home / "go.held").exists)
        over = threading.Event()
        constant = callers.submit(versions_until, over, running, token)
        command = ["deploy", thing(tmp_path / "app", "two"), "--name", "successive", "-o", "json"]
        deployed = running.portway(*command)
        second = json.loads(deployed.stdout)
        assert "  [cached]\n" in deployed.stderr
        assert "s  1 call of release 1 may go on there for 30 s\n" in deployed.stderr
        assert running.call("successive", "version", token) == {"result": "two"}
        over.set()
        seen = constant.result(120)
        assert seen == sorted(seen), "one, then two, and never one again"
        assert running.pids(old), "the old instance goes when its last call has ended"
        (home / "go").touch()
        assert held.result(120) == {"result": "one"}

    assert (first.release, second["release"], second["before"], second["tools"]) == (1, 2, 1, 7)
    assert "token" not in second, "an app's token is shown once"
    eventually(lambda: not running.pids(old))
    assert (
        "drain  1 call of release 1 ended, 0 cut"
        in running.paths.release("successive", 2).joinpath("log", "build.log").read_text()
    )


def versions_until(over: threading.Event, running: Host, token: str) -> list[str]:
    """Call `version` again and again, and return its answers."""
    seen = []
    while not over.is_set():
        seen.append(running.call("successive", "version", token)["result"])
    return seen


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("raise RuntimeError('no such day')", "RuntimeError: no such day"),
        ("if 'PORTWAY_SOCKET' in os.environ: print('half way'); os._exit(7)", "half way"),
    ],
    ids=["does not import", "does not start"],
)
def test_a_failed_deploy_says_why_and_the_old_release_goes_on(
    running: Host, tmp_path: Path, more: str, message: str
) -> None:
    before = running.instance("thing")
    failed = running.portway("deploy", thing(tmp_path / "app", "broken", more=more), "--name", "thing")
    assert failed.returncode == 1
    assert message in failed.stderr
    assert running.instance("thing") == before
    assert running.call("thing", "version", running.ready["token"]) == {"result": "one"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("requirements.txt", "./no-such-folder", r"could not .+:.+"),
        ("pyproject.toml", "[", r"pyproject\.toml is not TOML: .+"),
    ],
)
def test_a_folder_that_cannot_be_built_is_refused(
    running: Host, tmp_path: Path, name: str, content: str, message: str
) -> None:
    folder = thing(tmp_path / "app")
    (folder / name).write_text(content)
    refused = running.portway("deploy", folder, "--name", "unbuilt")
    assert refused.returncode == 1
    assert re.search(message, refused.stderr, re.DOTALL)
    assert "Traceback" not in refused.stderr


def post(
    running: Host, app: str, token: str | None, message: dict[str, object], session: str = ""
) -> tuple[int, str, Any]:
    """Post a legacy message; return the status, the session id and the JSON of the reply."""
    headers = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
    headers |= {"mcp-session-id": session} if session else {}
    headers |= {"authorization": f"Bearer {token}"} if token else {}
    body = json.dumps({"jsonrpc": "2.0", "id": 1} | message).encode()
    request = urllib.request.Request(f"{running.ready['url']}/{app}/mcp", body, headers)
    try:
        reply = urllib.request.urlopen(request, timeout=120)
    except urllib.error.HTTPError as refused:
        reply = refused
    with reply:
        return reply.status, reply.headers.get("mcp-session-id", ""), json.loads(reply.read())


@pytest.mark.slow
def test_a_session_outlives_a_deploy_a_crash_and_the_gate(running: Host, tmp_path: Path) -> None:
    token = running.deploy(thing(tmp_path / "app"), "lasting").token
    client = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "c", "version": "1"}}
    _, session, _ = post(running, "lasting", token, {"method": "initialize", "params": client})
    assert session

    def call(tool: str) -> tuple[int, str, Any]:
        message = {"method": "tools/call", "params": {"name": tool, "arguments": {}}}
        return post(running, "lasting", token, message, session)

    def version() -> object:
        return call("version")[2]["result"]["content"][0]["text"]

    assert version() == "one"
    headers = {"authorization": f"Bearer {token}", "mcp-session-id": session, "accept": "text/event-stream"}
    with urllib.request.urlopen(urllib.request.Request(f"{running.ready['url']}/lasting/mcp", None, headers)) as stream:
        running.deploy(thing(tmp_path / "app", "two"), "lasting")
        assert b"\nid: " in stream.read(), "a stream holds up no deploy, and is ended for its client to come again"
    assert version() == "two"
    before = running.instance("lasting")
    assert call("die")[0] == 502
    eventually(lambda: running.instance("lasting") not in (before, None))
    assert version() == "two"
    running.kill("gate")
    assert version() == "two"
    assert post(running, "thing", running.ready["token"], {"method": "ping"}, session)[0] == 404


@pytest.mark.slow
def test_anybody_may_call_a_public_app_until_it_is_private(running: Host, tmp_path: Path) -> None:
    folder = thing(tmp_path / "app")
    deploy = ("deploy", folder, "--name", "open", "-o", "json")
    first = json.loads(running.portway(*deploy, "--public").stdout)
    assert "token" not in first
    assert running.call("open", "caller", "") == {"result": "anonymous"}
    assert running.status("open").access == "public"
    token = json.loads(running.portway(*deploy, "--private").stdout)["token"]
    with pytest.raises(ClientError) as refused:
        running.call("open", "caller", "")
    assert refused.value.status == 401
    assert running.call("open", "caller", token) == {"result": "default"}


def test_the_log_of_a_first_deploy_that_failed_is_kept(running: Host, tmp_path: Path) -> None:
    folder = thing(tmp_path / "app", more="raise RuntimeError('no such day')")
    failed = running.portway("deploy", folder, "--name", "stillborn")
    assert failed.returncode == 1
    assert "stillborn has never served: deploy again, or run `portway destroy stillborn`" in failed.stderr
    lines = [line.partition(" | ")[2] for line in running.portway("logs", "stillborn").stdout.splitlines()]
    assert "RuntimeError: no such day" in lines
    assert any(line.startswith("-----> copy ") for line in lines), "the steps are there for those who did not see them"
    assert lines[-1] == "could not find its server"
    assert running.status("stillborn").state == "failed"


def test_tokens_are_made_with_scopes_listed_without_secrets_and_revoked_at_once(running: Host) -> None:
    made = running.portway("token", "create", "thing", "ci", "--scopes", "admin", "-o", "json")
    token = json.loads(made.stdout)["token"]
    assert running.call("thing", "secret", token) == {"result": "for admins"}
    assert running.call("thing", "caller", token) == {"result": "ci"}

    listed = running.portway("token", "list", "thing")
    assert "ci" in listed.stdout
    assert token not in listed.stdout
    assert running.portway("token", "create", "thing", "ci").returncode == 1

    revoked = running.portway("token", "revoke", "thing", "ci", "-o", "json")
    assert json.loads(revoked.stdout) == {"app": "thing", "name": "ci", "revoked": True}
    with pytest.raises(ClientError) as refused:
        running.call("thing", "secret", token)
    assert refused.value.status == 401


def test_a_crashed_instance_is_back_and_its_last_words_are_in_the_log(running: Host) -> None:
    token = running.ready["token"]
    before = running.instance("thing")
    with pytest.raises(RpcError, match="did not answer"):
        running.call("thing", "die", token)
    eventually(lambda: running.instance("thing") not in (before, None))
    assert running.call("thing", "version", token) == {"result": "one"}
    assert running.status("thing").restarts >= 1
    assert "dying as asked" in running.portway("logs", "thing", "-n", "20").stdout
    lines = running.portway("logs", "thing", "-n", "20", "-o", "json").stdout.splitlines()
    assert before is not None
    words = [entry for entry in map(json.loads, lines) if entry.get("text") == "dying as asked"]
    assert [(entry["kind"], entry["instance"]) for entry in words] == [("app", before.id)]


def test_a_killed_control_finds_its_instances_again(running: Host) -> None:
    token = running.ready["token"]
    instance = running.call("thing", "instance", token)
    killed = running.kill("control")
    assert running.call("thing", "instance", token) == instance, "the gate and the instances go on without control"
    eventually(lambda: killed != running.process("control"))
    assert running.portway("ps").returncode == 0, "a verb waits for it"
    assert running.call("thing", "instance", token) == instance
    assert running.status("thing").state == "up"


@pytest.mark.slow
def test_a_killed_control_ends_no_call_of_a_busy_instance_nor_of_one_that_drains(running: Host, tmp_path: Path) -> None:
    token = running.deploy(thing(tmp_path / "app"), "taken").token
    assert token
    old, first = running.call("taken", "instance", token)["result"], running.home("taken")
    with ThreadPoolExecutor(2) as callers:
        held = callers.submit(running.call, "taken", "hold", token, until="go")
        eventually((first / "go.held").exists)
        running.deploy(thing(tmp_path / "app", "two", more=BLOCK.replace("VERSION", "two")), "taken")
        second = running.home("taken", 2)
        blocked = callers.submit(running.call, "taken", "block", token, until="go")
        eventually((second / "go.held").exists)
        killed = running.kill("control")
        eventually(lambda: killed != running.process("control"))
        assert running.status("taken").state == "up"
        for home in (first, second):
            (home / "go").touch()
        assert (held.result(120), blocked.result(120)) == ({"result": "one"}, {"result": "two"})
    eventually(lambda: not running.pids(old))


def test_a_killed_gate_is_back_with_its_table_and_no_connection_is_refused(running: Host) -> None:
    token = running.ready["token"]
    running.kill("gate")
    assert running.call("thing", "version", token) == {"result": "one"}
    running.child.wait_for(r"gate ended \(.+\) and is started again")


def test_a_killed_control_remembers_how_often_an_app_was_restarted(running: Host) -> None:
    before = running.status("thing").restarts
    with pytest.raises(RpcError, match="did not answer"):
        running.call("thing", "die", running.ready["token"])
    eventually(lambda: running.status("thing").restarts == before + 1)
    killed = running.kill("control")
    eventually(lambda: killed != running.process("control"))
    assert running.status("thing").restarts == before + 1


def daemons(seconds: str) -> list[int]:
    """Return the processes that sleep for so long."""
    found = psutil.process_iter(["cmdline"])
    return [process.pid for process in found if process.info["cmdline"] == ["sleep", seconds]]


@pytest.mark.slow
def test_a_daemon_that_shed_its_environment_ends_with_its_build_and_with_its_app(running: Host, tmp_path: Path) -> None:
    seconds = f"1000.{secrets.randbelow(10**9)}"
    running.deploy(thing(tmp_path / "app", more=DAEMON.replace("SECONDS", seconds)), "haunted")
    running.kill("control")
    running.portway("ps")
    assert re.search(r"\.build \| left \d+$", running.portway("logs", "haunted").stdout, re.MULTILINE)
    assert len(daemons(seconds)) == 1, "the build was over when its command was"
    assert running.portway("destroy", "haunted", "--yes").returncode == 0
    eventually(lambda: not daemons(seconds))


def test_a_deploy_whose_asker_leaves_is_undone(running: Host, tmp_path: Path) -> None:
    folder = thing(tmp_path / "app", more="import time; time.sleep(60)")
    command = [SCRIPTS / "portway", "deploy", folder, "--name", "left", "--data", running.ready["data"]]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=clean_env(running.environment)) as asker:
        eventually(lambda: [line for line in running.processes().values() if "cli.find_server" in line])
        asker.terminate()
    eventually(lambda: running.status("left").state == "failed")
    assert not [line for line in running.processes().values() if "cli.find_server" in line]


def test_a_verb_does_not_import_what_only_control_needs() -> None:
    code = """
import sys
from portway.cli import control_client
from portway.cli import deploy, destroy, logs, ps, token, up
from portway.host.management import management_types
from portway.host import launcher
print(sorted({"sqlalchemy", "alembic", "asyncio", "msgspec", "uvicorn"} & set(sys.modules)))
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.slow
def test_a_destroyed_app_is_gone_with_its_files_and_tokens(running: Host, tmp_path: Path) -> None:
    token = running.deploy(thing(tmp_path / "app"), "doomed").token
    assert token
    assert running.portway("destroy", "doomed", stdin="something else\n").returncode == 1
    destroyed = running.portway("destroy", "doomed", "-o", "json", "--yes")
    assert json.loads(destroyed.stdout) == {"app": "doomed", "destroyed": True}
    assert not running.paths.app("doomed").exists()
    assert "doomed" not in running.portway("ps").stdout
    with pytest.raises(ClientError) as refused:
        running.call("doomed", "version", token)
    assert refused.value.status == 401


@pytest.mark.slow
def test_a_control_killed_while_it_destroys_an_app_has_a_successor_that_goes_on_with_that(
    running: Host, tmp_path: Path
) -> None:
    token = running.deploy(thing(tmp_path / "app"), "marked").token
    assert token
    other = running.deploy(thing(tmp_path / "app"), "remade").token
    assert other
    with contextlib.closing(Store(running.paths.database)) as store:
        marked = store.app("marked")
    assert marked
    mark_destroyed(running.paths, marked)
    running.paths.destroying("remade").write_text("1")  # of an app that had the name before
    running.kill("control")
    eventually(lambda: not running.paths.app("marked").exists())
    shown = eventually(lambda: running.portway("ps").stdout)
    assert "APP" in shown
    assert "marked" not in shown
    assert running.call("remade", "version", other)
    assert not running.paths.destroying("remade").exists()
    with pytest.raises(ClientError) as refused:
        running.call("marked", "version", token)
    assert refused.value.status == 401


def test_another_host_on_the_same_data_or_port_is_refused_in_one_line(running: Host, tmp_path: Path) -> None:
    same_data = running.portway("up", "--port", "0")
    port = running.ready["url"].rpartition(":")[2]
    same_port = running.portway("up", "--port", port, "--data", tmp_path / "data")
    assert (same_data.returncode, same_port.returncode) == (1, 1)
    assert "another `portway up` uses" in same_data.stderr
    assert f"Port {port}" in same_port.stderr
    assert {len(result.stderr.splitlines()) for result in (same_data, same_port)} == {1}
    running.child.wait_for("portway: only this machine reaches the host; --domain NAME serves others, by HTTPS", 1)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (
            ["deploy", "git@github.com"],
            2,
            "there is no folder 'git@github.com': give one, template:NAME, or a repository",
        ),
        (["logs", "nobody"], 1, "there is no app 'nobody' on this host: see `portway ps`"),
        (["token", "create", "thing", ""], 1, "give the token a name of 1 to 100 printable characters"),
        (["token", "revoke", "thing", "nobody"], 1, "thing has no token named 'nobody'"),
        (["destroy", "nobody", "--yes"], 1, "there is no app 'nobody'"),
        (["destroy", "thing"], 1, "that is not thing: nothing was deleted"),
        (["up", "--domain", "http://example.com"], 2, "is not a domain; give a name without scheme or port"),
        pytest.param(["ps", "--data", "elsewhere"], 1, "start one with `portway up`", marks=pytest.mark.slow),
    ],
)
def test_what_cannot_be_done_is_one_sentence(running: Host, arguments: list[str], code: int, message: str) -> None:
    refused = running.portway(*arguments, stdin="other\n")
    assert refused.returncode == code
    assert message in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.slow
def test_a_started_host_stops_whole_and_comes_back_with_its_apps(tmp_path: Path) -> None:
    folder = thing(tmp_path / "thing")
    with host(tmp_path / "data", [folder]) as first:
        instance = first.call("thing", "instance", first.ready["token"])["result"]
        first.child.process.send_signal(signal.SIGINT)
        assert first.child.process.wait(120) == 0
        assert first.processes() == {}
        assert not first.pids(instance)
        assert not first.paths.run.exists()
    with host(tmp_path / "data", [folder]) as second:
        assert second.ready["token"] != first.ready["token"]
        assert second.call("thing", "version", second.ready["token"]) == {"result": "one"}
        assert second.call("thing", "version", first.ready["token"]) == {"result": "one"}
        second.child.process.kill()
        eventually(lambda: second.processes() == {})


@pytest.mark.slow
def test_a_control_killed_before_all_is_ready_has_a_successor_that_makes_it_so(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as killer:
        marker = tmp_path / "data" / "apps" / "thing" / "releases" / "1" / "home" / "importing"
        slow = f"if '/releases/1/' in __file__:\n    open({str(marker)!r}, 'w').close()\n"
        slow += "    import time\n    time.sleep(60)\n"
        killer.submit(kill_when, marker, str(tmp_path / "data"))
        with host(tmp_path / "data", [thing(tmp_path / "thing", more=slow)]) as up:
            assert up.call("thing", "version", up.ready["token"]) == {"result": "one"}


def kill_when(marker: Path, data: str) -> None:
    """Kill the control process of the host on `data` once `marker` is there."""
    eventually(marker.exists)
    for process in psutil.process_iter(["cmdline"]):
        if {"portway.host.control", data} <= {*(process.info["cmdline"] or ())}:
            process.kill()


@pytest.mark.slow
def test_a_host_that_is_asked_twice_to_stop_waits_for_no_call_and_leaves_nothing(tmp_path: Path) -> None:
    seconds = f"1000.{secrets.randbelow(10**9)}"
    folder = thing(tmp_path / "thing", more=DAEMON.replace("SECONDS", seconds))
    with host(tmp_path / "data", [folder]) as up, ThreadPoolExecutor(1) as callers:
        assert daemons(seconds)
        call = callers.submit(up.call, "thing", "hold", up.ready["token"], until="never")
        eventually((up.home("thing") / "never.held").exists)
        launcher = up.child.process
        launcher.send_signal(signal.SIGINT)
        eventually(lambda: signalled_to_its_end(launcher))
        assert launcher.returncode == 0
        assert up.processes() == {}
        assert call.exception() is not None
        assert not daemons(seconds), "a daemon without a trace of its origin is ended too"


def signalled_to_its_end(launcher: subprocess.Popen[str]) -> bool:
    launcher.send_signal(signal.SIGINT)
    return launcher.poll() is not None


@pytest.mark.slow
def test_signals_to_all_processes_at_once_are_one_stop_in_which_calls_end(tmp_path: Path) -> None:
    with host(tmp_path / "data", [thing(tmp_path / "thing")]) as up, ThreadPoolExecutor(1) as callers:
        call = callers.submit(up.call, "thing", "hold", up.ready["token"], until="go")
        eventually((up.home("thing") / "go.held").exists)
        instance = next(pid for pid, command in up.processes().items() if "/venv/bin/" in command)
        gate = up.process("gate")
        for pid in (up.child.process.pid, gate, up.process("control"), up.process("logs"), instance):
            os.kill(pid, signal.SIGTERM)
        eventually(lambda: not listens(up))
        (up.home("thing") / "go").touch()
        assert call.result(120) == {"result": "one"}
        assert up.child.process.wait(120) == 0
        assert up.processes() == {}


def listens(up: Host) -> bool:
    """Return whether the gate takes connections. The launcher holds the socket, so ask the gate's own."""
    with socket.socket() as probe:
        probe.settimeout(0.2)
        try:
            probe.connect(("127.0.0.1", int(up.ready["url"].rpartition(":")[2])))
            probe.sendall(b"GET /_portway/health HTTP/1.1\r\nhost: localhost\r\n\r\n")
            return bool(probe.recv(1))
        except OSError:
            return False


def test_up_with_a_folder_that_cannot_be_deployed_ends_with_its_reason(tmp_path: Path, running: Host) -> None:
    (tmp_path / "No Name").mkdir()
    refused = running.portway("up", tmp_path / "No Name", "--data", tmp_path / "data", "--port", "0")
    assert refused.returncode == 1
    assert re.search(r"portway: .+/No Name could not be deployed: there is no server\.py", refused.stderr)
    assert "ready" not in refused.stdout


@pytest.mark.slow
def test_a_deploy_names_the_pages_that_may_call_the_app(running: Host, tmp_path: Path) -> None:
    folder, page, other = thing(tmp_path / "app"), "https://app.example.com", "http://localhost:6274"

    def asked(origin: str, method: str = "OPTIONS") -> httpx2.Response:
        headers = {
            "Origin": origin,
            "Access-Control-Request-Method": "POST",
            "Accept": "application/json, text/event-stream",
        }
        ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
        return httpx2.request(method, f"{running.ready['url']}/paged/mcp", headers=headers, json=ping)

    refused = running.portway("deploy", folder, "--name", "paged", "--allow-origin", "app.example.com")
    assert "Invalid value for '--allow-origin': 'app.example.com' is not an origin; write scheme" in refused.stderr
    assert refused.returncode == 2
    with pytest.raises(click.ClickException, match="'app' is not an origin"):
        running.deploy(folder, "paged", origins=["app"])
    done = running.portway("deploy", folder, "--name", "paged", "--public", "--allow-origin", page)
    assert done.returncode == 0, done.stderr
    preflight = asked(page)
    assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (204, page)
    answered = asked(page, "POST")
    assert answered.status_code == 200, answered.text
    assert answered.headers["access-control-expose-headers"].startswith("Mcp-Session-Id")
    for method in ("OPTIONS", "POST"):
        assert asked(other, method).status_code == 403, "a public app is closed to local pages that are not named"
    assert running.portway("deploy", folder, "--name", "paged", "--private").returncode == 0
    assert asked(page).status_code == 204, "a later deploy leaves them as they are"
    unauthorized = asked(page, "POST")
    assert (unauthorized.status_code, unauthorized.headers["access-control-allow-origin"]) == (401, page)
    assert running.portway("deploy", folder, "--name", "paged", "--allow-origin", "").returncode == 0
    assert asked(page).status_code == 403


def test_a_client_that_looks_for_a_login_is_told_how_to_call_an_app(running: Host) -> None:
    for path in ("/register", "/.well-known/oauth-protected-resource/thing/mcp"):
        reply = httpx2.get(running.ready["url"] + path)
        assert reply.status_code == 404
        assert "an app takes a bearer token in the Authorization header, which `portway token create`" in reply.text
