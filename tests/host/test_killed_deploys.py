"""Control, gate and builder are killed at each step of a deploy and of a rollback: it is done whole, or not at all."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from portway.cli.control_client import HostUnreachable, ask_control
from portway.client import ClientError
from portway.host.management.management_types import ReleaseInfo, ReleaseList
from tests.host.running_host import Host, host
from tests.support import SCRIPTS, clean_env, eventually

pytestmark = pytest.mark.slow

SERVER = """
import os
from pathlib import Path
from portway import Server

server = Server("killed")

@server.tool
def version() -> str:
    return "VERSION " + Path(os.environ["PORTWAY_STORAGE"], "kept").read_text()
"""
BLUEPRINT = """
services:
  - type: web
    name: killed
    runtime: python
    preDeployCommand: echo -n kept > $PORTWAY_STORAGE/kept
    numInstances: 2
    x-portway: {storage: {sizeGB: 1}}
"""
DEPLOY = ("copy", "storage", "build", "walls", "pre-deploy", "ready", "switch")
REPEAT = ("build", "ready", "switch")


@dataclass
class Killed:
    """A deploy or rollback that lost something on its way: its exit code, and what it wrote."""

    code: int
    text: str


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    folder = source(tmp_path_factory.mktemp("killed") / "killed", "first")
    with host(tmp_path_factory.mktemp("killed") / "data", [folder], options=["--trust-all-apps"]) as running:
        yield running


def source(folder: Path, version: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "server.py").write_text(SERVER.replace("VERSION", version))
    (folder / "render.yaml").write_text(BLUEPRINT)
    return folder


def kill_at(running: Host, step: str, victim: str, *words: str | Path) -> Killed:
    """Run a verb of `portway`, kill the victim once the step is reported, and wait for the end of the verb."""
    command = [SCRIPTS / "portway", *words, "--data", running.ready["data"]]
    environment = clean_env(running.environment)
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as asked:
        assert asked.stderr
        lines = []
        for line in asked.stderr:
            lines.append(line)
            if line.startswith(f"-----> {step} "):
                break
        else:
            pytest.fail(f"{step} was never reported: {''.join(lines)}")
        running.kill(victim)
        lines += asked.stderr
        return Killed(asked.wait(), "".join(lines))


def releases(running: Host) -> list[ReleaseInfo]:
    with contextlib.suppress(HostUnreachable):  # control may be on its way back
        return ask_control(running.here, "list_releases", {"app": "killed"}, ReleaseList).releases
    return []


def served(running: Host) -> str:
    """Return what the app says, once a gate answers."""

    def ask() -> str:
        with contextlib.suppress(ClientError, OSError):
            return str(running.call("killed", "version", running.ready["token"])["result"])
        return ""

    return eventually(ask)


def faults(running: Host) -> list[str]:
    """Return what is wrong: both instances of the live release should run, and nothing else of this host."""
    found, paths = releases(running), running.paths
    instances = {instance.id for instance in running.instances("killed")}
    folders = {int(folder.name) for folder in paths.releases("killed")}
    failed = [paths.release("killed", each.release) for each in found if each.status == "failed"]
    wrong = {
        "one release is live": [each.status for each in found].count("live") != 1,
        "two instances serve": len(instances) != 2,
        "a release is half made": any(each.status == "building" for each in found),
        f"folders {folders} are not those of the releases": folders != {each.release for each in found},
        "a failed release has files": {each.name for folder in failed for each in folder.iterdir()} > {"log"},
        "a copy of a source is left": paths.drafts.exists() and any(paths.drafts.iterdir()),
        "a socket is left": {each.name for each in paths.instances.iterdir()} != instances,
        f"processes are left: {marked(running)}, not {instances}": marked(running) != instances,
    }
    return [fault for fault, is_so in wrong.items() if is_so]


def marked(running: Host) -> set[str]:
    """Return the instances and the builds that the processes of the host belong to, as their marks say."""
    found = set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            environment = Path(f"/proc/{pid}/environ").read_bytes()
            if running.ready["data"].encode() in environment:
                variables = environment.decode(errors="replace").split("\0")
                marks = dict(each.partition("=")[::2] for each in variables if each.startswith("PORTWAY_"))
                found |= {marks[name] for name in ("PORTWAY_INSTANCE", "PORTWAY_BUILD") if name in marks}
    return found


def whole(running: Host) -> None:
    """Wait until nothing is wrong."""
    seen: list[str] = []

    def is_whole() -> bool:
        try:
            seen[:] = faults(running)
        except FileNotFoundError as error:  # it was removed meanwhile
            seen[:] = [str(error)]
        return not seen

    with contextlib.suppress(pytest.fail.Exception):  # `seen` says more
        eventually(is_whole)
    assert seen == [], "".join(running.child.lines[-30:])


@pytest.mark.parametrize("victim", ["control", "gate"])
@pytest.mark.parametrize("step", DEPLOY)
def test_a_deploy_that_loses_control_or_gate_is_done_whole_or_not_at_all(
    running: Host, tmp_path: Path, step: str, victim: str
) -> None:
    before = served(running)
    new = f"{step}-{victim}"
    killed = kill_at(running, step, victim, "deploy", source(tmp_path / "killed", new))
    assert (victim, killed.code) != ("gate", 1), killed.text
    expected = {f"{new} kept"} if killed.code == 0 or step == "switch" else {before}
    if step == "ready":  # it is made live just then
        expected.add(f"{new} kept")
    whole(running)
    assert served(running) in expected, killed.text


@pytest.mark.parametrize("victim", ["control", "gate"])
@pytest.mark.parametrize("verb", ["rollback", "restart"])
@pytest.mark.parametrize("step", REPEAT)
def test_a_rollback_or_a_restart_that_loses_control_or_gate_is_done_whole_or_not_at_all(
    running: Host, tmp_path: Path, step: str, verb: str, victim: str
) -> None:
    new = f"{step}-{victim}-{verb}"
    assert running.portway("deploy", source(tmp_path / "killed", new)).returncode == 0
    number = releases(running)[0].release
    back = next(each.release for each in releases(running) if each.status == "ready")
    killed = kill_at(running, step, victim, verb, "killed")
    assert (victim, killed.code) != ("gate", 1), killed.text
    whole(running)
    live = next(each for each in releases(running) if each.status == "live")
    if killed.code == 0 or step == "switch":
        assert live.release > number
    if live.release == number:
        assert served(running) == f"{new} kept"
    else:
        assert (live.cause, live.detail) == (verb, str(back if verb == "rollback" else number))
        assert (served(running) == f"{new} kept") == (verb == "restart")


def test_a_build_or_a_command_before_the_start_that_is_killed_leaves_the_old_release(
    running: Host, tmp_path: Path
) -> None:
    before = served(running)
    for field, said in (("buildCommand", "run its build command"), ("preDeployCommand", "run its pre-deploy command")):
        folder = source(tmp_path / field, "never")
        held = BLUEPRINT.replace("preDeployCommand: echo -n kept > $PORTWAY_STORAGE/kept", f"{field}: sleep 471")
        (folder / "render.yaml").write_text(held)
        with ThreadPoolExecutor(1) as asker:
            deploy = asker.submit(running.portway, "deploy", folder)
            builder = eventually(lambda: sleepers("471"))
            os.kill(builder[0], signal.SIGKILL)
            failed = deploy.result(120)
        assert failed.returncode == 1
        assert f"could not {said} `sleep 471`:" in failed.stderr
        whole(running)
        assert served(running) == before


def sleepers(seconds: str) -> list[int]:
    """Return the pids of `sleep SECONDS`."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/cmdline").read_bytes() == f"sleep\0{seconds}\0".encode():
                found.append(int(pid))
    return found
