"""Rows about the upkeep of a host: what its callers feel of it."""

import contextlib
import os
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.links import ROWS
from benchmarks.measure import BenchError, Command, Load, load, output_of
from benchmarks.report import OUR_PYTHON, Findings, Verdict, number
from benchmarks.rows import Bench, Host, hosted, row

__all__ = ["ROWS"]  # with the rows of this module

_APPS, _STORED_BYTES = 50, 4 * 2**20
_CONNECTIONS = 4
_MAKE_WHEEL = """
import pathlib, sys
from portway.host.builds.wheel import running_wheel
print(running_wheel(pathlib.Path(sys.argv[1])))
"""
_UPGRADE_SECONDS = 20  # of load, so that an upgrade is within it
_PORTWAY = (OUR_PYTHON, "-m", "portway")


@row(
    "backup", f"Calls while a host with {_APPS} apps, {_STORED_BYTES // 2**20} MB in each, is backed up again and again"
)
def backup(bench: Bench) -> Findings:
    without: list[Load] = []
    during: list[Load] = []
    seconds: list[float] = []
    with hosted() as host, tempfile.TemporaryDirectory(prefix="portway-bench-") as folder:
        for index in range(_APPS - 1):
            name = f"weather{index}"
            deploy = ("deploy", "examples/weather", "--name", name, "--storage", "1", "--data", host.data)
            output_of(Command((*_PORTWAY, *deploy)))
            Path(host.data, "apps", name, "storage", "data").write_bytes(os.urandom(_STORED_BYTES))
        for _ in range(bench.settings.rounds):
            without.append(load(host.weather, _CONNECTIONS, bench.settings.seconds))
            with _backups(host, folder, seconds):
                during.append(load(host.weather, _CONNECTIONS, bench.settings.seconds))
            bench.say(f"p99 {without[-1].p99:.2f} ms, during backups {during[-1].p99:.2f} ms")
    note = f"A backup took {number(statistics.median(seconds))} s (median of {len(seconds)})."
    commands = [f"{OUR_PYTHON} -m portway backup FILE --data DIR"]
    return _findings("during backups", without, during, commands, note)


def _findings(what: str, without: list[Load], during: list[Load], commands: list[str], note: str) -> Findings:
    p99, before = (statistics.median(each.p99 for each in loads) for loads in (during, without))
    verdicts = [
        Verdict("calls lost", "0", bar="0", met=True),  # `load` ends the row when one is
        Verdict(
            f"p99 ms {what}", f"{p99:.2f}", f"without {before:.2f}", f"{p99 / before:.2f}", "≤ 2", p99 <= 2 * before
        ),
    ]
    table = [
        (
            name,
            str(sum(each.calls for each in loads)),
            number(statistics.median(each.rate for each in loads)),
            f"{p:.2f}",
        )
        for name, loads, p in (("without", without, before), (what, during, p99))
    ]
    return Findings(verdicts, ("load", "calls", "calls/s", "p99 ms"), table, commands, [note])


@row("upgrade", f"Calls while the Portway that runs a host with {_APPS} apps is upgraded")
def upgrade(bench: Bench) -> Findings:
    without: list[Load] = []
    during: list[Load] = []
    seconds: list[float] = []
    with hosted() as host, tempfile.TemporaryDirectory(prefix="portway-bench-") as folder:
        for index in range(_APPS - 1):
            deploy = ("deploy", "examples/weather", "--name", f"weather{index}", "--data", host.data)
            output_of(Command((*_PORTWAY, *deploy)))
        wheel = output_of(Command((OUR_PYTHON, "-c", _MAKE_WHEEL, folder))).strip()
        for _ in range(bench.settings.rounds):
            without.append(load(host.weather, _CONNECTIONS, bench.settings.seconds))
            thread = threading.Thread(target=_timed, args=(host, wheel, seconds))
            thread.start()
            during.append(load(host.weather, _CONNECTIONS, max(bench.settings.seconds, _UPGRADE_SECONDS)))
            thread.join()
            bench.say(f"p99 {without[-1].p99:.2f} ms, during an upgrade {during[-1].p99:.2f} ms")
    if len(seconds) < bench.settings.rounds:
        raise BenchError("an upgrade failed")
    taken = number(statistics.median(seconds))
    note = f"An upgrade took {taken} s (median of {len(seconds)}), with the making of an environment."
    commands = [f"{OUR_PYTHON} -m portway upgrade --wheel FILE --data DIR"]
    return _findings("during an upgrade", without, during, commands, note)


def _timed(host: Host, wheel: str, seconds: list[float]) -> None:
    """Upgrade the host, and add the seconds that it took."""
    started = time.perf_counter()
    command = Command((*_PORTWAY, "upgrade", "--wheel", wheel, "--data", host.data))
    if not subprocess.run(command.argv, env=command.environment(), capture_output=True, check=False).returncode:
        seconds.append(time.perf_counter() - started)


@contextlib.contextmanager
def _backups(host: Host, folder: str, seconds: list[float]) -> Iterator[None]:
    """Make one backup after the other while the block lasts; add the seconds that each took."""
    ended, failed = threading.Event(), ""

    def make() -> None:
        nonlocal failed
        while not ended.is_set() and not failed:
            started = time.perf_counter()
            command = Command((*_PORTWAY, "backup", f"{folder}/host.backup", "--data", host.data))
            done = subprocess.run(command.argv, env=command.environment(), capture_output=True, text=True, check=False)
            failed = done.stderr if done.returncode else ""
            seconds.append(time.perf_counter() - started)

    thread = threading.Thread(target=make)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    if failed:
        raise BenchError(failed)
