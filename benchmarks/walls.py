"""Rows about the walls between apps: what a sandbox costs, what an app feels of a neighbour that uses all it can."""

import contextlib
import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil

from benchmarks.deploys import ROWS
from benchmarks.measure import BenchError, Command, Endpoint, cpu_of, free_port, running
from benchmarks.report import OUR_PYTHON, Findings, Verdict, at_most, number
from benchmarks.rows import Bench, row, under_load
from portway.host.paths import Paths
from portway.host.releases.release import Release
from portway.host.sandbox.bubblewrap import wrapped
from portway.host.sandbox.walls import raise_walls

__all__ = ["ROWS"]  # with the rows of this module

_STARTS = 200
_LIMITS = """
services:
- type: web
  name: neighbour
  runtime: python
  x-portway: {limits: {memoryMB: 128, processes: 40, diskMB: 16}}
"""
_SERVER = """
import os, subprocess, sys, threading, time
from portway import Server

server = Server("neighbour")
kept = []


def leak():
    while True:
        kept.append(b"x" * 1_000_000)


def forks():
    while True:
        subprocess.Popen(["sleep", "100"])


def log():
    while True:
        print("x" * 1000)


def disk():
    with open(os.path.expanduser("~/full"), "wb") as file:
        while True:
            file.write(b"x" * 1_000_000)


def burn():
    for _ in range(8):
        subprocess.Popen([sys.executable, "-c", "while True: pass"])


def quiet():
    pass


if "PORTWAY_INSTANCE" in os.environ:
    threading.Timer(0.5, KIND).start()
"""
_KINDS = {
    "leak": "leaks memory",
    "forks": "starts processes",
    "log": "floods its log",
    "disk": "fills its disk",
    "burn": "keeps all processors busy",
}


@contextlib.contextmanager
def _weather_beside(folder: Path, kind: str) -> Iterator[tuple[Endpoint, psutil.Process]]:
    """Run a host with the weather app and a neighbour of that kind; give the app and the gate's process."""
    (folder / "server.py").write_text(_SERVER.replace("KIND", kind))
    (folder / "render.yaml").write_text(_LIMITS)
    with tempfile.TemporaryDirectory(prefix="portway-bench-") as data:
        port = free_port()
        command = (
            OUR_PYTHON,
            "-m",
            "portway",
            "up",
            "examples/weather",
            str(folder),
            "--port",
            str(port),
            "--data",
            data,
        )
        with running(Command(command)) as up:
            ready = json.loads(up.line("ready ").removeprefix("ready "))
            weather = Endpoint(port, path="/weather/mcp", token=ready["apps"]["weather"]["token"])
            weather.first_answer(up, time.perf_counter())
            gate = next(process for process in up.tree() if "portway.host.gate" in process.cmdline())
            yield weather, gate


@row("neighbours", "An app beside one that leaks memory, forks, floods its log, fills its disk quota, burns CPU")
def neighbours(bench: Bench) -> Findings:
    found = {}
    with tempfile.TemporaryDirectory(prefix="portway-neighbour-") as folder:
        for kind in ("quiet", *_KINDS):
            with _weather_beside(Path(folder), kind) as (weather, gate):
                found[kind] = under_load(bench.settings, replace(weather, era="modern"), 16, lambda: cpu_of(gate))
            bench.say(f"{kind}: {found[kind].rate:.0f}/s p99 {found[kind].p99:.2f} ms")
    quiet = found["quiet"].p99
    verdicts = [
        at_most(f"p99 ms beside an app that {_KINDS[kind]}", found[kind].p99, "quiet", quiet, 2) for kind in _KINDS
    ]
    table: list[tuple[str, ...]] = [(kind, *cost.cells()) for kind, cost in found.items()]
    header = ("neighbour", "calls/s", "CPU µs/call", "p50 ms", "p99 ms")
    note = "Each answer is checked. A neighbour is ended at its limits, and started again; eight processes burn CPU."
    return Findings(verdicts, header, table, [f"{OUR_PYTHON} -m portway up examples/weather NEIGHBOUR"], [note])


@row("sandbox", "What a sandbox adds to a start")
def sandbox(bench: Bench) -> Findings:
    with tempfile.TemporaryDirectory(prefix="portway-bench-") as name:
        paths, release = (
            Paths(Path(name), Path(name)),
            Release("app", 1, Path(name) / "apps" / "app" / "releases" / "1"),
        )
        bubblewrap = raise_walls(paths).bubblewrap
        if bubblewrap is None:
            raise BenchError("there is no sandbox here")
        for folder in (release.source, release.venv, release.directory / "home", release.directory / "tmp"):
            folder.mkdir(parents=True)
        walled = bubblewrap.for_instance(release, release.directory / "tmp", {})
        kinds = {"plain": None, "sandbox": walled}
        found: dict[str, list[float]] = {kind: [] for kind in kinds}
        for _ in range(_STARTS):
            for kind, place in kinds.items():
                begun = time.perf_counter()
                with wrapped(place, {}) as wrapping:
                    command = [*wrapping.words, "/bin/echo", "begun"]
                    kept = wrapping.descriptors
                    with subprocess.Popen(command, stdout=subprocess.PIPE, pass_fds=kept, bufsize=0) as child:
                        assert child.stdout is not None
                        assert child.stdout.read(1)
                        found[kind].append((time.perf_counter() - begun) * 1000)
    middle = {kind: statistics.median(values) for kind, values in found.items()}
    added = middle["sandbox"] - middle["plain"]
    verdicts = [Verdict("ms that a sandbox adds to a start", number(added), bar="≤ 30", met=added <= 30)]
    table: list[tuple[str, ...]] = [
        (kind, str(_STARTS), number(middle[kind]), number(min(found[kind]))) for kind in kinds
    ]
    note = (
        "Without what follows the end of the command, when its network is removed. A call costs the same: the gate "
        "connects to the instance's socket, or has a connection from its network."
    )
    return Findings(
        verdicts,
        ("start of /bin/echo, to its first byte", "starts", "median ms", "least ms"),
        table,
        ["bwrap … -- /bin/echo"],
        [note],
    )
