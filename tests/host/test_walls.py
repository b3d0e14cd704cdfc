"""The promises of docs/trust.md, each tried by an app; skipped where the machine has no such wall."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from portway.host.paths import Paths
from tests.conftest import RunCli
from tests.host.required_walls import required_walls
from tests.host.running_host import Host, host
from tests.support import ROOT, SCRIPTS, clean_env, eventually

SERVER = """
import subprocess
from portway import Server

server = Server("shell")


@server.tool
def run(command: str) -> str:
    done = subprocess.run(command, shell=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.stdout
"""
Shell = Callable[[str], str]


def shell_app(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "server.py").write_text(SERVER)
    return folder


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    base = tmp_path_factory.mktemp("walls")
    required_walls(Paths(base / "none", base / "none"), "files")
    with host(base / "data", [shell_app(base / "victim"), shell_app(base / "spy")]) as running:
        yield running


@pytest.fixture(scope="module")
def spy(running: Host) -> Shell:
    """Return what runs a command in the app `spy` and returns its output."""
    token = running.ready["apps"]["spy"]["token"]
    return lambda command: running.call("spy", "run", token, command=command)["result"]


def test_an_app_finds_no_file_of_the_host_or_of_another_app(running: Host, spy: Shell) -> None:
    paths = running.paths
    victim = running.instance("victim")
    assert victim is not None
    hidden = [paths.database, paths.secret, paths.tokens, paths.routes, paths.calls, paths.control_socket]
    hidden += [paths.gate_socket, paths.log_pipes, paths.app("victim"), Path(victim.address.removeprefix("unix:"))]
    hidden += [paths.release("spy", 1) / "log", Path("/root/.bashrc"), Path("/home"), Path("/var"), Path("/etc/shadow")]
    tried = " ".join(map(str, hidden))
    assert spy(f"for path in {tried}; do test -e $path && echo $path; done") == ""
    assert spy("cat server.py") == SERVER, "its own files are there"


def test_an_app_can_write_to_its_home_and_its_own_tmp_and_nowhere_else(running: Host, spy: Shell) -> None:
    nowhere = ["/", "/usr", "/etc", "/dev", "/run", ".", str(running.paths.release("spy", 1) / "venv")]
    assert spy(f"for folder in {' '.join(nowhere)}; do touch $folder/x 2>/dev/null && echo $folder; done") == ""
    assert spy("echo mine > ~/kept && echo mine > /tmp/kept && cat ~/kept /tmp/kept") == "mine\nmine\n"
    assert not Path("/tmp/kept").exists()
    assert (running.home("spy") / "kept").read_text() == "mine\n"


def test_an_app_sees_no_process_but_its_own_and_has_no_rights_of_root(spy: Shell) -> None:
    processes = spy("for each in /proc/[0-9]*; do tr '\\0' ' ' < $each/cmdline; echo; done")
    assert "portway.host" not in processes
    assert "victim" not in processes
    capabilities = {line.split()[1] for line in spy("grep ^Cap /proc/self/status").splitlines()}
    assert capabilities == {"0000000000000000"}


def test_an_app_can_write_to_no_setting_of_the_kernel(spy: Shell) -> None:
    assert spy("find /proc/sys /proc/sysrq-trigger -type f -writable 2>/dev/null") == ""
    assert spy("test -r /proc/sys/kernel/osrelease && echo there") == "there\n"


def test_a_variable_of_an_app_reaches_no_program_outside_of_its_sandbox(running: Host, tmp_path: Path) -> None:
    spied = tmp_path / "spied"
    loader = ["--env", "LD_DEBUG=files", "--env", f"LD_DEBUG_OUTPUT={spied}"]  # as LD_PRELOAD, but it writes a file
    done = running.portway("deploy", shell_app(tmp_path / "loader"), *loader)
    assert "generating link map" in done.stderr, "inside it works"
    assert list(tmp_path.glob("spied*")) == []


def failed_build(running: Host, folder: Path, build: str, start: str = "exit 3") -> Path:
    """Deploy with these commands, which must fail, and return the folder of its logs."""
    done = running.portway("deploy", folder, "--build", build, "--start", start)
    assert done.returncode == 1
    return running.paths.release(folder.name, 1) / "log"


def test_a_build_finds_no_file_of_the_host_and_writes_to_no_cache_of_others(running: Host, tmp_path: Path) -> None:
    paths, cache = running.paths, ROOT / ".cache" / "uv"
    hidden = [paths.database, paths.secret, paths.app("victim"), paths.control_socket, paths.calls, cache]
    looks = "; ".join(f"test -e {path} && echo found {path}" for path in hidden)
    build = f"({looks}; env; touch {paths.cache}/x; pwd) >&2"
    log = (failed_build(running, shell_app(tmp_path / "builder"), build) / "build.log").read_text()
    assert f"{paths.release('builder', 1)}/src\n" in log
    assert "found" not in log
    assert "PORTWAY_KEYS" not in log
    assert not (paths.cache / "x").exists()


def test_a_variable_of_an_app_shows_its_build_no_file_of_the_host(running: Host, tmp_path: Path) -> None:
    names = ("UV_FIND_LINKS", "NODE_EXTRA_CA_CERTS", "npm_config_cafile")
    options = [word for name in names for word in ("--env", f"{name}={running.paths.data}")]
    look = f"ls {running.paths.data} >&2; false"
    done = running.portway("deploy", shell_app(tmp_path / "pointer"), *options, "--build", look, "--start", "true")
    assert done.returncode == 1
    assert "apps" in done.stderr, "it sees the way to its own files"
    assert "portway.db" not in done.stderr


def test_requirements_of_several_lines_run_nothing_outside_of_the_sandbox(running: Host, tmp_path: Path) -> None:
    ran, app = tmp_path / "ran", shell_app(tmp_path / "lines" / "app")
    backend = '[build-system]\nrequires = []\nbuild-backend = "b"\nbackend-path = ["."]\n'
    (app.parent / "pyproject.toml").write_text(f'[project]\nname = "l"\nversion = "1"\n{backend}')
    (app.parent / "b.py").write_text(f"open({str(ran)!r}, 'w').close()\n")
    (app / "pyproject.toml").write_text('[project]\nname = "a"\nversion = "1"\ndependencies = ["six\\n-e src"]\n')
    done = running.portway("deploy", app.parent, "--root", "app", "--start", "true")
    assert "could not install its requirements" in done.stderr
    assert not ran.exists()


def test_a_program_of_an_app_in_place_of_python_is_not_run_outside_of_the_sandbox(
    running: Host, spy: Shell, tmp_path: Path
) -> None:
    victim, ran = running.instance("spy"), tmp_path / "ran"
    assert victim is not None
    program = Path(victim.address.removeprefix("unix:")).parent / "python"
    spy(f"printf '#!/bin/sh\\ntouch {ran}' > /run/portway/python; chmod +x /run/portway/python")
    assert program.exists()
    failed_build(running, shell_app(tmp_path / "python"), f'ln -sf {program} "$VIRTUAL_ENV/bin/python"')
    assert not ran.exists()


def test_links_that_a_build_leaves_show_its_instance_no_more(running: Host, tmp_path: Path) -> None:
    victim = running.paths.app("victim")
    swaps = [f"rm -rf ../{name}; mv ../{name} ../old; ln -sfn {victim} ../{name}" for name in ("home", "tmp", "venv")]
    look = f"ls -la .. ~/ {victim} /tmp ../*/; exit 3"
    build = f"({'; '.join(swaps)}; true) 2>&1"
    log = (failed_build(running, shell_app(tmp_path / "linked"), build, look) / "instance.log").read_text()
    assert "cannot access" in log
    assert "releases" not in log.replace(str(running.paths.release("linked", 1)), "").replace(str(victim), "")


def test_code_that_a_package_runs_when_it_is_built_is_in_the_sandbox(running: Host, tmp_path: Path) -> None:
    folder = shell_app(tmp_path / "packed")
    (folder / "requirements.txt").write_text("-e ./local\n")
    (folder / "local").mkdir()
    backend = 'requires = []\nbuild-backend = "b"\nbackend-path = ["."]\n'
    (folder / "local" / "pyproject.toml").write_text(f'[project]\nname = "l"\nversion = "1"\n[build-system]\n{backend}')
    (folder / "local" / "b.py").write_text(f"import os\nraise SystemExit(os.listdir({str(running.paths.data)!r}))\n")
    done = running.portway("deploy", folder)
    assert done.returncode == 1
    assert "'apps'" in done.stderr, "it ran, and saw the way to its own files"
    assert "portway.db" not in done.stderr


@pytest.mark.slow
def test_where_bubblewrap_is_missing_or_forbidden_the_reason_is_told(tmp_path: Path) -> None:
    with host(tmp_path / "data", [shell_app(tmp_path / "open")], walls=False) as up:
        assert up.child.wait_for(r"^portway: files: open \(bubblewrap is not installed")
        assert up.status("open").isolation.startswith("limits:")
        refused = up.portway("env", "set", "open", "KEY=planted")
        assert refused.returncode == 1
        assert (
            "setting a variable is refused, as every app here could read it (bubblewrap is not inst" in refused.stderr
        )
        refused = up.portway("deploy", tmp_path / "open", "--access", "app")
        assert "callers' tokens to open, is refused, as every app here could read it" in refused.stderr
    with host(tmp_path / "data", walls=False, options=["--trust-all-apps"]) as up:
        assert up.portway("env", "set", "open", "KEY=planted").returncode == 0


def test_a_host_that_lacks_a_required_wall_does_not_start(run_cli: RunCli, tmp_path: Path) -> None:
    up = ("up", "--port", "0", "--data", tmp_path / "data")
    refused = run_cli(*up, "--require", "files,limits", env={"PATH": str(SCRIPTS)})
    assert refused.returncode == 1
    assert "--require files cannot be met here: bubblewrap" in refused.stderr
    assert "'speed' is not a wall; name some of files,network,limits" in run_cli(*up, "--require", "speed").stderr


TRY = """
import sys
from pathlib import Path
from portway.host.paths import Paths
from portway.host.sandbox.walls import raise_walls
for line in raise_walls(Paths(Path("/nowhere"), Path("/nowhere"))).lines()[:2]:
    print(line)
"""


def test_the_user_nobody_has_walls_too() -> None:
    python = f"/usr/bin/python3.{sys.version_info.minor}"
    if os.getuid() or not os.access(python, os.X_OK):
        pytest.skip("another user's python is needed, and root to become that user")
    packages = next(path for path in sys.path if path.endswith("site-packages"))
    environment = {"PATH": os.defpath, "PYTHONPATH": f"{ROOT / 'src'}:{packages}", "PYTHONDONTWRITEBYTECODE": "1"}
    command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", python, "-c", TRY]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd="/", check=False)
    assert done.stdout.startswith("files: walled (bubblewrap)\nnetwork: "), done.stderr
    assert not shutil.which("slirp4netns") or done.stdout.endswith("network: walled (slirp4netns)\n"), done.stdout


def test_a_kernel_that_forbids_user_namespaces_is_the_reason_that_is_told() -> None:
    if subprocess.run(["unshare", "--user", "--map-root-user", "true"], check=False, capture_output=True).returncode:
        pytest.skip("this kernel forbids them already")
    forbid = 'echo 0 > /proc/sys/user/max_user_namespaces; exec "$@"'
    command = ["unshare", "--user", "--map-root-user", "sh", "-c", forbid, "sh", sys.executable, "-c", TRY]
    done = subprocess.run(command, capture_output=True, text=True, env=clean_env(), check=False)
    assert done.stdout.startswith("files: open (bubblewrap does not work here: bwrap: "), done.stderr


LIMITED = """
services:
- type: web
  name: greedy
  runtime: python
  x-portway: {limits: {memoryMB: 96, processes: 30, diskMB: 8}}
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("greed", "said"),
    [
        (
            f"{sys.base_prefix}/bin/python3 -c 'kept = bytes(1) * 200_000_000; import time; time.sleep(100)'",
            r"the app used \d+ MB of 96 MB of memory and was ended",
        ),
        (
            "while sleep 0.01; do sleep 30 & done; sleep 30",
            r"the app used \d+ processes and threads of 30 and was ended|it runs all of its 30 processes and threads",
        ),
        ("head -c 20000000 /dev/zero > ~/full; sleep 100", r"the app used \d+ MB of 8 MB of disk and was ended"),
        ("head -c 30000000 /dev/zero | tr '\\0' x > /proc/$PPID/fd/1", ""),
    ],
    ids=["memory", "processes", "disk", "log"],
)
def test_an_app_that_uses_all_it_can_costs_its_neighbours_no_call(
    running: Host, tmp_path: Path, greed: str, said: str
) -> None:
    folder = shell_app(tmp_path / "greedy")
    (folder / "render.yaml").write_text(LIMITED)
    assert running.portway("deploy", folder).returncode == 0
    token = running.portway("token", "create", "greedy", secrets.token_hex(4)).stdout.split()[0]
    before, victim = running.status("victim"), running.ready["apps"]["victim"]["token"]
    with ThreadPoolExecutor(5) as callers:
        greedy = callers.submit(running.call, "greedy", "run", token, command=greed)
        calls = [callers.submit(running.call, "victim", "run", victim, command="echo here") for _ in range(40)]
        assert [call.result()["result"] for call in calls] == 40 * ["here\n"]
        greedy.exception()
    assert running.status("victim").restarts == before.restarts == 0
    if said:
        eventually(lambda: re.search(f"portway: ({said})", running.portway("logs", "greedy", "-n", "200").stdout))
    assert all(path.stat().st_size < 11 * 2**20 for path in (running.paths.app("greedy")).rglob("instance.log*"))
