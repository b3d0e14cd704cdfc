"""Rows about deploys: from a folder to the answer to a call, and how much of that is Portway's own."""

import json
import re
import shlex
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from benchmarks.measure import ROOT, BenchError, Command, Endpoint, free_port, output_of, running
from benchmarks.report import OUR_PYTHON, Findings, Verdict, number
from benchmarks.rows import ROWS, Bench, Host, hosted, row
from portway.host.builds.build_environment import build_environment, sandboxed_environment
from portway.host.builds.uv_program import find_uv
from portway.host.paths import Paths
from portway.host.releases.release import Release

__all__ = ["ROWS"]  # with the rows of this module

# What is deployed (the last two are of docs/guide.md): its folder, its bar in seconds, the era of the call, commands.
DEPLOYED = (
    ("examples/weather", 5, "legacy", ()),
    ("weather", 7, "modern", ("--build", "pip install -r requirements.txt", "--start", "python server.py")),
    ("weather-node", 8, "legacy", ("--build", "npm install", "--start", "node server.js")),
)
_OURS = 1.5
GUIDE_FILE = re.compile(r"^```\w+ (\S+/(?:server|requirements|package)\.\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@row("deploy", "Folder → answered call through the gate, warm caches")
def deploy(bench: Bench) -> Findings:
    verdicts, table, commands = [], [], []
    with hosted() as host, tempfile.TemporaryDirectory(prefix="portway-bench-") as guide:
        for name, content in GUIDE_FILE.findall(Path(ROOT, "docs/guide.md").read_text()):
            Path(guide, name).parent.mkdir(exist_ok=True)
            Path(guide, name).write_text(content)
        for index, (folder, bar, era, options) in enumerate(DEPLOYED):
            path = folder if folder.startswith("examples") else str(Path(guide, folder))
            token, seconds = "", []
            for _ in range(1 + min(bench.settings.starts, 5)):  # the first fills the caches
                name = f"weather{index}"
                arguments = ("deploy", path, "--name", name, "--data", host.data, "-o", "json", *options)
                started = time.perf_counter()
                done = json.loads(output_of(Command((OUR_PYTHON, "-m", "portway", *arguments))))
                token = done.get("token", token)
                target = replace(host.weather, path=f"/{name}/mcp", token=token, era=era)
                seconds.append(target.first_answer(host.up, started))
                bench.say(f"deploy {folder} {seconds[-1]:.2f} s")
            middle = statistics.median(warm := seconds[1:])
            what = folder if path == folder else f"the guide's {'Express' if 'node' in folder else 'FastMCP'} server"
            figure = f"seconds from `portway deploy` to the answer, {what}"
            verdicts.append(Verdict(figure, number(middle), bar=f"≤ {bar} s", met=middle <= bar))
            if options:
                install, start = _alone(host, name, Path(path), era, bench)
                ours = middle - install - start
                of = f"of which beyond an install of {number(install)} s and a start of {number(start)} s, {what}"
                verdicts.append(Verdict(of, number(ours), bar=f"≤ {_OURS} s", met=ours <= _OURS))
            table.append((what, str(len(warm)), number(middle), number(min(warm)), number(max(warm))))
            commands.append(f"{OUR_PYTHON} -m portway deploy {folder} {shlex.join(options)}".strip())
    note = (
        "An install and a start are timed alone: the same packages, from the cache that the deploy has used, into a"
        " fresh environment without a sandbox; the same server by its own command, until it answers."
    )
    return Findings(verdicts, ("folder", "deploys", "median s", "least s", "most s"), table, commands, [note])


def _alone(host: Host, app: str, folder: Path, era: str, bench: Bench) -> tuple[float, float]:
    """Return the median seconds of an app's install and of its server's start, without Portway."""
    paths = Paths(Path(host.data), Path(host.data))
    number = paths.newest_release(app)
    release = Release(app, number, paths.release(app, number))
    is_node, tools = (folder / "package.json").exists(), release.tools
    environment = sandboxed_environment(release, paths) if is_node else build_environment(paths)
    environment["PATH"] = f"{tools}:{environment['PATH']}"
    installs, starts = [], []
    for _ in range(1 + min(bench.settings.starts, 3)):  # the first fills the caches
        with tempfile.TemporaryDirectory(prefix="portway-bench-", dir=paths.data) as place:
            copy = Path(place, "app")
            shutil.copytree(folder, copy)
            if is_node:
                install, start = [str(tools / "npm"), "install"], (str(tools / "node"), "server.js")
            else:
                python = copy / "venv" / "bin" / "python"
                _run([find_uv(), "venv", "--quiet", "--python", OUR_PYTHON, str(copy / "venv")], ROOT, environment)
                install = [find_uv(), "pip", "install", "--quiet", "--python", str(python), "-r", "requirements.txt"]
                start = (str(python), "server.py")
            installs.append(_run(install, copy, environment))
            for _ in range(2):  # the first start of Python compiles bytecode
                port = free_port()
                command = Command(("env", "-C", str(copy), f"PORT={port}", *start))
                with running(command) as server:
                    starts.append(Endpoint(port, era=era).first_answer(server, server.started))
    return statistics.median(installs[1:]), statistics.median(starts[1::2])


def _run(command: list[str], folder: Path, environment: Mapping[str, str]) -> float:
    """Run a command that must succeed; return the seconds it took."""
    begun = time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"`{shlex.join(command)}` ended with {done.returncode}: {done.stderr[-2000:]}")
    return time.perf_counter() - begun
