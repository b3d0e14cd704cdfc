"""The host where people put it: odd paths, lost files, closed descriptors, low limits."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from portway.host.paths import PathError, claim, locate
from portway.protocol.errors import RpcError
from tests.conftest import RunCli
from tests.host.running_host import Host, build_environment, host
from tests.support import SCRIPTS, Started, clean_env, eventually

SERVER = """
from portway import Server
mcp = Server("placed")

@mcp.tool
def ping() -> str:
    return "pong"
"""


def app(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "server.py").write_text(SERVER)
    return folder


def refused(data: str | Path, *, cwd: Path, environment: dict[str, str] | None = None) -> str:
    """Run `portway up` on `data`; return the one line with which it refuses."""
    done = subprocess.run(
        [SCRIPTS / "portway", "up", "--data", data, "--port", "0"],
        env=clean_env(environment or {}),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    return line


def test_a_data_directory_whose_name_an_app_cannot_hold_is_refused(tmp_path: Path) -> None:
    for name in ("two\nlines", "a:b", b"\xff".decode(errors="surrogateescape")):
        assert "contains a colon or an unprintable character: give another --data" in refused(name, cwd=tmp_path)


def test_a_host_without_a_home_says_what_to_give(tmp_path: Path) -> None:
    told = "there is no home directory: give --data, or set PORTWAY_DATA or HOME"
    assert told in refused("~nobody-of-this-name/data", cwd=tmp_path)


def test_a_data_directory_that_cannot_hold_programs_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.statvfs(tmp_path)
    fields = [*real]
    fields[8] |= os.ST_NOEXEC
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result(fields))
    with pytest.raises(PathError, match="is on a file system mounted noexec, where no app can run: give another"):
        claim(tmp_path / "data")


@pytest.mark.parametrize("content", [b"", b"half a key"])
def test_a_key_that_is_not_whole_is_refused(tmp_path: Path, content: bytes) -> None:
    paths = claim(tmp_path / "data")
    paths.forget_run()
    paths.secret.write_bytes(content)
    told = refused(paths.data, cwd=tmp_path)
    assert "is not a complete key: restore it from a copy, or remove it, which ends every session" in told


@pytest.mark.parametrize("how", ["missing", "empty"])
def test_a_lost_database_beside_apps_is_refused(tmp_path: Path, how: str) -> None:
    paths = claim(tmp_path / "data")
    paths.forget_run()
    paths.app("weather").mkdir()
    if how == "empty":
        paths.database.touch()
    assert "is missing or empty, but " in refused(paths.data, cwd=tmp_path)


def test_the_socket_link_of_a_copied_directory_is_not_followed(tmp_path: Path) -> None:
    paths = claim(tmp_path / "data")
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "run").symlink_to((paths.data / "run").readlink())
    assert locate(tmp_path / "copy").run != paths.run
    paths.forget_run()


def test_the_socket_directories_of_killed_hosts_are_removed_at_a_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as base, contextlib.ExitStack() as held:
        monkeypatch.setenv("XDG_RUNTIME_DIR", base)
        runs = [Path(base) / "portway" / name for name in ("0000dead", "0000cafe", "0000beef", "0000abed", "0000-own")]
        dead, listening, reading, young, other = runs
        for run in runs:
            (run / "logs").mkdir(parents=True)
            with socket.socket(socket.AF_UNIX) as left:
                left.bind(str(run / "gate.sock"))
            os.mkfifo(run / "logs" / "bell")
        listener = held.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(listening / "control.sock"))
        listener.listen()
        held.callback(os.close, os.open(reading / "logs" / "bell", os.O_RDWR))
        for run in (dead, listening, reading, other):
            os.utime(run, (0, 0))
        claim(tmp_path / "data")
        assert [run for run in runs if run.exists()] == [listening, reading, young, other]


@pytest.mark.slow
def test_a_damaged_table_and_an_old_database_stop_neither_the_host_nor_a_deploy(tmp_path: Path) -> None:
    folder = app(tmp_path / "placed")
    with host(tmp_path / "data", [folder]) as first:
        paths = first.paths
    database = paths.database.read_bytes()
    with host(tmp_path / "data", [folder]) as second:
        assert second.status("placed").release == 2
    paths.database.write_bytes(database)
    for suffix in ("-wal", "-shm"):
        paths.database.with_name(paths.database.name + suffix).unlink(missing_ok=True)
    paths.routes.write_bytes(b"")
    with host(tmp_path / "data") as third:
        assert third.deploy(folder, "placed").release == 3


@pytest.mark.slow
def test_a_link_gives_an_app_its_own_name_and_a_folder_with_the_data_is_refused(tmp_path: Path) -> None:
    app(tmp_path / "releases" / "20261130")
    (tmp_path / "current").symlink_to("releases/20261130")
    with host(tmp_path / "whole" / "data", [tmp_path / "current"]) as running:
        assert list(running.ready["apps"]) == ["current"]
        (tmp_path / "whole" / "server.py").write_text(SERVER)
        told = running.portway("deploy", tmp_path / "whole")
        assert "holds the host's data directory: start `portway up` with a --data outside of it" in told.stderr
        deployed = running.portway("deploy", tmp_path / "current", "-o", "json")
        assert json.loads(deployed.stdout)["release"] == 2
        asked = running.portway("destroy", "current")
        assert asked.returncode == 1
        assert asked.stderr.endswith("\nError: there is no terminal to ask on: give --yes to delete it\n")


@pytest.mark.slow
@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)], ids=str)
def test_a_host_starts_with_standard_descriptors_closed_and_ends_with_none_of_them(
    tmp_path: Path, closed: tuple[int, ...]
) -> None:
    command = [SCRIPTS / "portway", "up", app(tmp_path / "placed"), "--data", tmp_path / "data", "--port", "0"]
    shut = " ".join(f"{number}>&-" for number in closed)
    environment = clean_env(build_environment() | {"XDG_RUNTIME_DIR": "/tmp"})
    with subprocess.Popen(["sh", "-c", f'exec "$@" {shut}', "sh", *command], env=environment) as process:
        try:
            eventually((tmp_path / "data" / "announced").exists)
            assert process.poll() is None
        finally:
            process.terminate()
        assert process.wait(120) == 0


def kill_children_and_wait(running: Host) -> None:
    for module in ("gate", "control", "logs"):
        killed = running.kill(module)
        eventually(lambda: running.process(module) != killed)  # noqa: B023


@pytest.mark.slow
def test_a_log_that_nobody_reads_ends_no_host(tmp_path: Path) -> None:
    with host(tmp_path / "data", [app(tmp_path / "placed")]) as running:
        stream = running.child.process.stdout
        assert stream is not None
        os.dup2(os.open(os.devnull, os.O_RDONLY), stream.fileno())  # closes the only reader of its output
        kill_children_and_wait(running)
        assert running.call("placed", "ping", running.ready["token"]) == {"result": "pong"}
        assert running.child.process.poll() is None


@pytest.mark.slow
def test_a_host_whose_standard_error_is_full_starts_and_serves(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, bytes(4096))
    os.set_blocking(writer, True)  # as every process of the host finds it
    with host(tmp_path / "data", [app(tmp_path / "placed")], stderr=writer) as running:
        kill_children_and_wait(running)
        assert running.call("placed", "ping", running.ready["token"]) == {"result": "pong"}
        os.close(reader)
    os.close(writer)


def test_a_low_limit_of_open_files_is_raised_and_told(run_cli: RunCli, tmp_path: Path) -> None:
    command = f"ulimit -Sn 300; ulimit -Hn 512; exec {SCRIPTS / 'portway'} up --port 0 --data {tmp_path / 'data'}"
    environment = clean_env({"XDG_RUNTIME_DIR": "/tmp"})
    with subprocess.Popen(["sh", "-c", command], env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        told = [process.stderr.readline() for _ in range(3)][1:]  # after the word on who reaches the host
        process.terminate()
        process.stderr.read()
    assert told == [
        "portway: the limit of open files is raised from 300 to 512\n",
        "portway: 512 open files are allowed, for about 256 connections: raise `ulimit -Hn`\n",
    ]


def ping(running: Host) -> object:
    return running.call("placed", "ping", running.ready["token"])


@pytest.mark.parametrize(
    "what", ["the run directory", "gate.sock", "control.sock", "an instance's", "routes.json", "tokens.jsonl"]
)
def test_what_is_removed_while_a_host_runs_is_made_again(placed: Host, what: str) -> None:
    paths, before = placed.paths, placed.instance("placed")
    assert before is not None
    removed = {
        "the run directory": paths.run,
        "gate.sock": paths.gate_socket,
        "control.sock": paths.control_socket,
        "an instance's": paths.instance_socket(before.id),
        "routes.json": paths.routes,
        "tokens.jsonl": paths.tokens,
    }[what]
    restarts = placed.status("placed").restarts
    if removed.is_dir():
        gone = removed.rename(f"{removed}-gone")  # in one step: the host makes again what it misses
        shutil.rmtree(gone)
    else:
        removed.unlink()
    assert ping(placed) == {"result": "pong"}
    eventually(lambda: paths.gate_socket.exists() and paths.control_socket.exists())
    if before.id in str(removed) or removed == paths.run:
        placed.child.wait_for("the socket of placed was removed: another instance takes its calls")
        eventually(lambda: placed.instance("placed") not in (before, None))
    assert placed.portway("token", "create", "placed", what).returncode == 0
    assert placed.portway("token", "revoke", "placed", what).returncode == 0
    assert ping(placed) == {"result": "pong"}
    assert placed.status("placed").restarts == restarts, "no instance had to end for it"
    assert paths.routes.exists()
    assert paths.tokens.exists()


@pytest.mark.parametrize("damage", [None, b"", b"{"])
def test_a_gate_that_is_killed_finds_its_tables_whole_again(placed: Host, damage: bytes | None) -> None:
    paths = placed.paths
    whole = {path: path.read_bytes() for path in (paths.routes, paths.tokens)}
    for path in whole:
        path.unlink() if damage is None else path.write_bytes(damage)
    placed.kill("gate")

    def answers() -> bool:
        try:
            return ping(placed) == {"result": "pong"}
        except RpcError as error:
            assert error.message == "The host is starting; try again soon."
            return False

    eventually(answers)
    assert all(path.stat().st_size for path in whole)


@pytest.fixture(scope="module")
def placed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    base = tmp_path_factory.mktemp("host")
    with host(base / "data", [app(base / "placed")]) as running:
        yield running


@pytest.mark.slow
def test_nothing_is_left_when_launcher_gate_control_and_log_writer_are_killed_together(tmp_path: Path) -> None:
    with host(tmp_path / "data", [app(tmp_path / "placed")]) as running:
        assert ping(running) == {"result": "pong"}
        for pid in (running.child.process.pid, *map(running.process, ("gate", "control", "logs"))):
            os.kill(pid, signal.SIGKILL)
        eventually(lambda: running.processes() == {})


@pytest.mark.slow
@pytest.mark.parametrize("module", ["gate", "control", "logs"])
def test_a_process_of_the_host_that_hangs_is_replaced(placed: Host, module: str) -> None:
    hung = placed.process(module)
    os.kill(hung, signal.SIGSTOP)
    if module == "control":
        told = placed.portway("ps")
        assert told.returncode == 1, told
        assert "does not answer: try again in half a minute, or look at `portway up`" in told.stderr
    eventually(lambda: placed.process(module) != hung)
    placed.child.wait_for(f"portway: {module} no longer answers")
    assert ping(placed) == {"result": "pong"}
    assert placed.portway("ps").returncode == 0


@pytest.mark.slow
def test_processes_of_the_host_that_hang_before_they_listen_are_replaced(placed: Host) -> None:
    modules = ("gate", "control", "logs")
    killed = {module: placed.kill(module) for module in modules}
    hung = {}
    for module in modules:
        hung[module] = eventually(lambda: (pid := placed.process(module)) != killed[module] and pid)  # noqa: B023
        os.kill(hung[module], signal.SIGSTOP)
    for module in modules:
        eventually(lambda: placed.process(module) != hung[module])  # noqa: B023
    assert ping(placed) == {"result": "pong"}
    assert placed.portway("ps").returncode == 0


INTERPRETER = """
import sys, subprocess
@mcp.tool
def places() -> list[str]:
    script = subprocess.run(["where"], capture_output=True, text=True, check=True).stdout.strip()
    return [sys.prefix, sys.executable, script, subprocess.run(["python", "-c", "print(1)"], text=True,
            capture_output=True, check=True).stdout.strip()]
"""
PROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "where"
version = "1"
"""
BACKEND = """
import os, zipfile
def build_wheel(folder, config_settings=None, metadata_directory=None):
    with zipfile.ZipFile(os.path.join(folder, "where-1-py3-none-any.whl"), "w") as archive:
        archive.writestr("where.py", "import sys\\ndef main(): print(sys.prefix)\\n")
        archive.writestr("where-1.dist-info/METADATA", "Metadata-Version: 2.1\\nName: where\\nVersion: 1\\n")
        archive.writestr("where-1.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        archive.writestr("where-1.dist-info/entry_points.txt", "[console_scripts]\\nwhere = where:main\\n")
        archive.writestr("where-1.dist-info/RECORD", "")
    return "where-1-py3-none-any.whl"
"""


@pytest.mark.slow
def test_a_moved_and_a_copied_data_directory_are_whole_hosts_of_their_own(tmp_path: Path) -> None:
    folder = app(tmp_path / "placed")
    (folder / "server.py").write_text(SERVER + INTERPRETER)
    (folder / "requirements.txt").write_text("./where\n")
    (folder / "where").mkdir()
    (folder / "where" / "pyproject.toml").write_text(PROJECT)
    (folder / "where" / "backend.py").write_text(BACKEND)
    with host(tmp_path / "data", [folder]) as first:
        token = first.ready["token"]
    (tmp_path / "data").rename(tmp_path / "moved")
    shutil.copytree(tmp_path / "moved", tmp_path / "copy", symlinks=True)
    with host(tmp_path / "moved") as moved, host(tmp_path / "copy") as copy:
        for running in (moved, copy):
            eventually(lambda: running.status("placed").state == "up")  # noqa: B023
            venv = str(running.paths.release("placed", 1) / "venv")
            found = running.call("placed", "places", token)["result"]
            assert found == [venv, f"{venv}/bin/python", venv, "1"]
            assert running.deploy(folder, "placed").release == 2
        pid = moved.instance("placed")
        copy.child.process.terminate()
        assert copy.child.process.wait(120) == 0
        assert moved.instance("placed") == pid
        assert moved.call("placed", "ping", token) == {"result": "pong"}


@pytest.mark.slow
def test_a_host_waits_for_the_processes_of_a_launcher_that_was_killed(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with host(data, [app(tmp_path / "placed")]) as killed:
        port = killed.ready["url"].rpartition(":")[2]
        holder = killed.process("gate")
        os.kill(holder, signal.SIGSTOP)  # it ends late, and has the port until then
        killed.child.process.kill()
        killed.child.process.wait(120)
        command = [SCRIPTS / "portway", "up", "--data", data, "--port", port]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=clean_env(killed.environment)
        ) as process:
            child = Started(process)
            try:
                child.wait_for(f"portway: the `portway up` on {data} was killed: waiting until")
                with contextlib.suppress(ProcessLookupError):  # the host does not wait for long
                    os.kill(holder, signal.SIGCONT)
                child.wait_for("^ready ")
            finally:
                process.terminate()
