"""What apps and builds write, on a whole host, read with `portway logs`."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from portway.cli.control_client import ask_control
from portway.cli.terminal_text import coloured_line
from portway.host.logs.log_entry import LogPage
from portway.protocol.errors import RpcError
from tests.host.running_host import Host, host
from tests.support import SCRIPTS, Started, clean_env, eventually

SERVER = """
import os
from portway import Server

mcp = Server("writer")

@mcp.tool
def write(text: str, times: int = 1) -> None:
    data = text.encode() * times
    while data:
        data = data[os.write(1, data):]

@mcp.tool
def die(text: str) -> None:
    os.write(2, text.encode())
    os._exit(3)
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    base = tmp_path_factory.mktemp("host")
    with host(base / "data", [writer(base / "writer")]) as running:
        yield running


def writer(folder: Path, more: str = "") -> Path:
    folder.mkdir()
    (folder / "server.py").write_text(SERVER + more)
    return folder


def write(running: Host, text: str, times: int = 1) -> None:
    running.call("writer", "write", running.ready["token"], text=text, times=times)


def logs(running: Host, count: int = 100) -> list[str]:
    """Read the last lines of the app's log, as `portway logs -o json` prints them."""
    printed = running.portway("logs", "writer", "-n", str(count), "--kind", "app", "-o", "json").stdout
    return [json.loads(line)["text"] for line in printed.splitlines()]


@contextlib.contextmanager
def following(running: Host, *arguments: str) -> Iterator[Started]:
    """Run `portway logs` with the given arguments while the block lasts."""
    command = [SCRIPTS / "portway", "logs", *arguments, "--data", running.ready["data"]]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=clean_env(running.environment)) as process:
        try:
            yield Started(process)
        finally:
            process.terminate()


def log_bytes(running: Host, app: str) -> int:
    return sum(path.stat().st_size for path in running.paths.app(app).rglob("log/*"))


def joined(running: Host, app: str, *options: str) -> list[dict[str, Any]]:
    """Read what `portway logs` has of an app."""
    done = running.portway("logs", app, *options, "-o", "json")
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.slow
def test_builds_instances_and_calls_of_all_releases_are_joined_by_time_and_selected(
    running: Host, tmp_path: Path
) -> None:
    folder = writer(tmp_path / "app", "print('at work')\n")
    running.deploy(folder, "joined", build_command="echo built", access="public")
    first = running.instance("joined")
    running.call("joined", "write", "", text="of one\n")
    running.deploy(folder, "joined")
    second = running.instance("joined")
    with pytest.raises(RpcError):
        running.call("joined", "die", "", text="of two\n")
    assert first is not None
    assert second is not None
    everything = eventually(lambda: found if "cut" in str(found := joined(running, "joined")) else None)
    calls = [entry for entry in everything if entry["kind"] == "call"]
    told = [entry.get("text") or f"{entry['method']} {entry.get('name')} {entry['outcome']}" for entry in everything]
    wanted = ["built", "tools/call write ok", "built", "tools/call die cut"]
    assert [line for line in told if line in wanted] == wanted
    assert told.index("of one") < told.index("of two")
    assert [entry["time"] for entry in everything] == sorted(entry["time"] for entry in everything)
    died = next(entry for entry in calls if entry.get("name") == "die")
    assert {**died, "release": 2, "instance": second.id, "caller": "anonymous", "status": 502, "kind": "call"} == died

    def select(*options: str) -> list[dict[str, Any]]:
        return joined(running, "joined", *options)

    assert select("--tool", "die") == select("--failed") == [died]
    assert {entry["name"] for entry in select("--tool", "write")} == {"write"}
    assert {entry["release"] for entry in select("--release", "1")} == {1}
    assert {entry["kind"] for entry in select("--release", "1")} == {"build", "app", "call"}
    assert "of one" in [entry.get("text") for entry in select("--instance", first.id)]
    assert {entry.get("instance") for entry in select("--instance", first.id)} == {first.id}
    assert "built" in [entry["text"] for entry in select("--kind", "build")]
    assert select("--since", "10m") == select("-n", "1000")
    assert select("--since", died["time"], "--tool", "die") == [died]
    assert select("--since", "9999-01-01T00:00:00Z") == []
    assert select("--tool", "nobody") == []
    no_release = running.portway("logs", "joined", "--release", "7")
    assert (no_release.returncode, no_release.stderr) == (1, "Error: joined has no release 7 (there are: 1, 2)\n")
    no_time = running.portway("logs", "joined", "--since", "soon")
    assert no_time.returncode == 2
    for wanted, error in (
        ({"kind": "app", "tool": "die"}, "only calls have a tool and an outcome: leave out the kind, or the tool and"),
        ({"kind": "build", "failed": True}, "only calls have a tool"),
        ({"since": "10m"}, "1 argument is wrong for logs: since: "),
        ({"kind": "build", "instance": first.id}, "a build has no instance: leave out the kind, or the instance"),
    ):
        with pytest.raises(click.ClickException, match=error):
            ask_control(running.here, "logs", {"app": "joined", **wanted}, LogPage)
    assert "'soon' is no time: give 42m, 3h or 2d, or one as 2026-01-31T12:00:00Z" in no_time.stderr


@pytest.mark.slow
def test_a_follower_sees_what_comes_through_a_deploy(running: Host, tmp_path: Path) -> None:
    folder = writer(tmp_path / "app")
    running.deploy(folder, "watched", access="public")
    with following(running, "watched", "-t") as follower:
        follower.wait_for(r"\| portway: writer on ")
        running.call("watched", "write", "", text="still one\n")
        follower.wait_for(r" watched\.[0-9a-f]{8} \| still one$")
        follower.wait_for(r"\| tools/call write ok 200 \d+ms anonymous [0-9a-f]{8}$")
        running.deploy(folder, "watched")
        running.call("watched", "write", "", text="two\n")
        follower.wait_for(r"\| two$")
    assert len([line for line in follower.lines if line.endswith("| still one\n")]) == 1


def test_secrets_are_hidden_and_names_that_clients_choose_are_escaped(running: Host, tmp_path: Path) -> None:
    secret, lines = "planted-in-a-variable", "first-line-of-it\nsecond-line-of-it"
    told = running.portway("env", "set", "hush", f"KEY={secret}", f"LONG={lines}", "--no-restart")
    assert told.returncode == 0, told.stderr
    folder = writer(tmp_path / "app", f"print('have', os.environ['KEY'], {lines!r}, os.environ.get('PORTWAY_KEYS'))\n")
    running.deploy(folder, "hush", access="public")
    with pytest.raises(RpcError):
        running.call("hush", "\x1b]0;taken\x07", "")
    shown = running.portway("logs", "hush")
    printed = [line.partition(" | ")[2] for line in shown.stdout.splitlines()]
    assert {"have [KEY] [LONG]", "[LONG] [PORTWAY_KEYS]"} < set(printed)
    assert not [line for line in printed if secret in line or "line-of-it" in line]
    assert r"| tools/call \x1b]0;taken\x07 error" in shown.stdout
    assert "\x1b" not in shown.stdout
    running.call("hush", "write", "", text="\x1b]52;c;AAAA\x07a\x1b[31mred\tb\x08\x9b2J\u202ec\u3000\r\n")
    shown = running.portway("logs", "hush", "--kind", "app")
    assert shown.stdout.endswith("| \\x1b]52;c;AAAA\\x07ared\tb\\x08\\x9b2J\\u202ec\u3000\n")
    assert coloured_line("a\x1b[1;31mred\x1b[2J") == "a\x1b[1;31mred\\x1b[2J\x1b[0m", "colours are for a terminal"


def test_what_an_app_writes_at_once_is_bounded_on_disk(running: Host) -> None:
    write(running, "x" * 99 + "\n", 1_500_000)
    write(running, "last\n")
    eventually(lambda: logs(running, 1) == ["last"])
    assert log_bytes(running, "writer") <= 21 * 2**20


def test_what_a_build_writes_at_once_is_bounded_on_disk(running: Host, tmp_path: Path) -> None:
    folder = writer(tmp_path / "app", "if 'PORTWAY_INSTANCE' not in os.environ: write('x' * 99 + '\\n', 500_000)\n")
    running.deploy(folder, "loud")
    assert log_bytes(running, "loud") <= 21 * 2**20


@pytest.mark.slow
def test_as_many_lines_as_are_asked_for_are_shown(running: Host) -> None:
    write(running, "".join(f"{number}\n" for number in range(60_000)))
    eventually(lambda: logs(running, 50_000) == [str(number) for number in range(10_000, 60_000)])


def test_only_a_newline_ends_a_line(running: Host) -> None:
    write(running, "one\u2028line\x0cof\rtext\n")
    eventually(lambda: logs(running, 1) == ["one\u2028line\x0cof\rtext"])


def test_the_last_line_of_a_crashed_app_is_kept_without_its_newline(running: Host) -> None:
    before = running.instance("writer")
    with pytest.raises(RpcError, match="did not answer"):
        running.call("writer", "die", running.ready["token"], text="half a li")
    eventually(lambda: running.instance("writer") not in (before, None))
    assert "half a li" in logs(running)


def test_a_log_that_is_renamed_is_followed(running: Host) -> None:
    with following(running, "writer", "-f", "-n", "0", "--kind", "app") as follower:

        def follows() -> bool:
            write(running, "before\n")
            return bool(follower.lines)

        eventually(follows)
        log = running.paths.release("writer", 1) / "log" / "instance.log"
        log.rename(log.with_suffix(".moved"))
        write(running, "after\n")
        follower.wait_for(r"\| after$")


def test_an_app_goes_on_writing_while_control_and_the_log_writer_are_killed(running: Host) -> None:
    killed = running.kill("logs"), running.kill("control")
    write(running, "y" * 99 + "\n", 10_000)
    write(running, "written\n")
    eventually(lambda: (running.process("logs"), running.process("control")) != killed)
    eventually(lambda: logs(running, 1) == ["written"])
