"""What apps and builds write, on a whole host, read with `portway logs`."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

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
    printed = running.portway("logs", "writer", "-n", str(count), "-o", "json").stdout
    return [json.loads(line)["line"] for line in printed.splitlines()]


def log_bytes(running: Host, app: str) -> int:
    return sum(path.stat().st_size for path in running.paths.app(app).rglob("log/*"))


def test_what_an_app_writes_at_once_is_bounded_on_disk(running: Host) -> None:
    write(running, "x" * 99 + "\n", 1_500_000)
    write(running, "last\n")
    eventually(lambda: logs(running, 1) == ["last"])
    assert log_bytes(running, "writer") <= 21 * 2**20


def test_what_a_build_writes_at_once_is_bounded_on_disk(running: Host, tmp_path: Path) -> None:
    folder = writer(tmp_path / "app", "if 'PORTWAY_INSTANCE' not in os.environ: write('x' * 99 + '\\n', 500_000)\n")
    running.deploy(folder, "loud")
    assert log_bytes(running, "loud") <= 21 * 2**20


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
    command = [SCRIPTS / "portway", "logs", "writer", "-f", "-n", "0", "--data", running.ready["data"]]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=clean_env(running.environment)) as process:
        follower = Started(process)

        def follows() -> bool:
            write(running, "before\n")
            return bool(follower.lines)

        eventually(follows)
        log = running.paths.release("writer", 1) / "log" / "instance.log"
        log.rename(log.with_suffix(".moved"))
        write(running, "after\n")
        follower.wait_for("^after$", within=10)
        process.terminate()


def test_an_app_goes_on_writing_while_control_and_the_log_writer_are_killed(running: Host) -> None:
    killed = running.kill("logs"), running.kill("control")
    write(running, "y" * 99 + "\n", 10_000)
    write(running, "written\n")
    eventually(lambda: (running.process("logs"), running.process("control")) != killed)
    eventually(lambda: logs(running, 1) == ["written"])
