"""Rows about releases: how long a push or a rollback takes; what a long history costs control and gate in memory."""

import statistics
import tempfile
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import psutil

from benchmarks.measure import Command, Load, load, output_of
from benchmarks.report import OUR_PYTHON, Findings, Verdict, number
from benchmarks.rows import Bench, Host, hosted, row
from benchmarks.walls import ROWS

__all__ = ["ROWS"]  # with the rows of this module

_CONNECTIONS = 16
_PUSH = 3.0
_APPS, _RELEASES, _SETTLED = 20, 50, 10
_BARS = {"idle": 1.0, "under load": 2.0}
_MEMORY_BARS = {"control": 80.0, "gate": 40.0}
_GROWTH = 3.0  # MB: the records of the releases, and what the allocator keeps


def portway(host: Host, *words: str) -> float:
    """Run a verb and return the seconds it took."""
    started = time.perf_counter()
    output_of(Command((OUR_PYTHON, "-m", "portway", *words, "--data", host.data)))
    return time.perf_counter() - started


@row("push", "`git push` of one changed line of `examples/weather` → answered call, warm caches")
def push(bench: Bench) -> Findings:
    seconds = []
    with hosted() as host, tempfile.TemporaryDirectory(prefix="portway-bench-") as folder:
        user = Command((OUR_PYTHON, "-m", "portway", "user", "add", "bench", "--role", "deployer", "--data", host.data))
        remote = f"http://bench:{output_of(user).strip()}@127.0.0.1:{host.weather.port}/weather.git"
        output_of(Command(("git", "clone", "--quiet", remote, folder)))
        named = ("git", "-C", folder, "-c", "user.name=Bench", "-c", "user.email=bench@example.com")
        for number_of_push in range(1 + min(bench.settings.starts, 5)):  # the first fills the caches
            with Path(folder, "server.py").open("a") as server:
                server.write(f"# {number_of_push}\n")
            output_of(Command((*named, "commit", "--quiet", "--all", "--message", "A line")))
            started = time.perf_counter()
            output_of(Command((*named, "push", "--quiet")))
            seconds.append(host.weather.first_answer(host.up, started))
            bench.say(f"push {seconds[-1]:.2f} s")
    warm = seconds[1:]
    middle = statistics.median(warm)
    verdict = Verdict(
        "seconds from `git push` to the answer", number(middle), bar=f"≤ {_PUSH:g} s", met=middle <= _PUSH
    )
    table: list[tuple[str, ...]] = [(str(len(warm)), number(middle), number(min(warm)), number(max(warm)))]
    return Findings([verdict], ("pushes", "median s", "least s", "most s"), table, ["git push"])


@row("rollback", "`portway rollback`, from its start to its end, when the earlier release serves")
def rollback(bench: Bench) -> Findings:
    count = min(bench.settings.starts, 5)
    found: dict[str, list[float]] = {}
    with hosted() as host:
        portway(host, "deploy", "examples/weather")
        for when in _BARS:
            with ThreadPoolExecutor(1) as pool:
                loaded: Future[Load] | None = None
                if when == "under load":
                    loaded = pool.submit(load, host.weather, _CONNECTIONS, 3.0 * count)
                found[when] = [portway(host, "rollback", "weather") for _ in range(count)]
                if loaded is not None:
                    bench.say(f"{loaded.result().calls} calls meanwhile, none failed")
            bench.say(f"{when}: {[round(each, 2) for each in found[when]]}")
    middles = {when: statistics.median(seconds) for when, seconds in found.items()}
    verdicts = [
        Verdict(f"seconds of a rollback, {when}", number(middles[when]), bar=f"≤ {bar:g} s", met=middles[when] <= bar)
        for when, bar in _BARS.items()
    ]
    table: list[tuple[str, ...]] = [
        (when, str(len(seconds)), number(middles[when]), number(min(seconds)), number(max(seconds)))
        for when, seconds in found.items()
    ]
    note = f"The load is {_CONNECTIONS} connections of `wrk`; none of its calls may fail."
    commands: list[Command | str] = [f"{OUR_PYTHON} -m portway rollback weather --data DIR"]
    return Findings(verdicts, ("when", "rollbacks", "median s", "least s", "most s"), table, commands, [note])


@row("history", f"Memory of control and gate: idle, and after {_RELEASES} releases of {_APPS} apps")
def history(bench: Bench) -> Findings:
    with hosted() as host:
        processes = {
            name: next(each for each in host.up.tree() if f"portway.host.{name}" in each.cmdline())
            for name in _MEMORY_BARS
        }
        stages = {"idle, one app": _megabytes(processes)}
        for number_of_app in range(2, _APPS + 1):
            portway(host, "deploy", "examples/weather", "--name", f"weather{number_of_app}")
        for _ in range(_SETTLED):
            portway(host, "restart", "weather")
        stages[f"{_APPS} apps, {_SETTLED} releases of one more"] = _megabytes(processes)
        for _ in range(_RELEASES - _SETTLED):
            portway(host, "restart", "weather")
        stages[f"{_APPS} apps, {_RELEASES} releases of one more"] = _megabytes(processes)
    bench.say(str(stages))
    idle, before, after = stages.values()
    verdicts = []
    for name, bar in _MEMORY_BARS.items():
        verdicts.append(Verdict(f"MB of {name}, idle", number(idle[name]), bar=f"≤ {bar:g} MB", met=idle[name] <= bar))
        growth = after[name] - before[name]
        figure = f"MB that {name} grows by in {_RELEASES - _SETTLED} releases"
        verdicts.append(Verdict(figure, number(growth), bar=f"≤ {_GROWTH:g} MB", met=growth <= _GROWTH))
    table = [(stage, *(number(seen[name]) for name in _MEMORY_BARS)) for stage, seen in stages.items()]
    commands: list[Command | str] = [f"{OUR_PYTHON} -m portway restart weather --data DIR"]
    return Findings(verdicts, ("when", "control MB", "gate MB"), table, commands)


def _megabytes(processes: dict[str, psutil.Process]) -> dict[str, float]:
    """Return the resident memory of each, once the instances of the last release have ended."""
    time.sleep(3)
    return {name: process.memory_info().rss / 1e6 for name, process in processes.items()}
