"""Run as the first program of a kernel that has version 2 alone: uses the groups, and prints what came of it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

from portway.host.app_config import UseLimits
from portway.host.processes import descendants
from portway.host.sandbox.cgroups import find_cgroups
from portway.host.sandbox.resource_limits import killed_for_memory, until_over
from tests.support import eventually

LIMITS = UseLimits(memory_mb=48, processes=20, cpu=0.2)
LEAK = "'kept = bytes(1) * 90_000_000; import time; time.sleep(100)'"
FORKS = """
import subprocess, time
kept = []
try:
    while True:
        kept.append(subprocess.Popen(["sleep", "100"]))
except OSError:
    time.sleep(100)
"""
PYTHON = f"{sys.base_prefix}/bin/python3"


def main() -> None:
    groups = find_cgroups("x")
    say("found", groups, Path("/proc/self/cgroup").read_text().strip())
    say("again", find_cgroups("x").tops == groups.tops)

    group = groups.for_instance("app", "one", LIMITS)
    leak = subprocess.Popen([*group.join, "/bin/sh", "-c", f"{PYTHON} -c {LEAK} & sleep 100"])
    say("memory", leak.wait(), killed_for_memory(LIMITS, group))
    eventually(lambda: not (group.directories["memory"] / "cgroup.procs").read_text())  # all of it is ended
    group.remove()
    say("removed", not group.directories["memory"].parent.exists())

    group, told = groups.for_instance("app", "two", LIMITS), []
    forks = subprocess.Popen([*group.join, PYTHON, "-c", FORKS])

    async def watch() -> None:
        watching = asyncio.create_task(until_over(LIMITS, lambda: list(descendants(forks.pid)), [], group, told.append))
        await asyncio.to_thread(eventually, lambda: told)
        watching.cancel()

    asyncio.run(watch())
    say("pids", told[0], group.directories["pids"].joinpath("pids.current").read_text().strip(), forks.poll())
    group.remove()
    say("killed", forks.wait())

    group = groups.for_instance("app", "three", LIMITS)
    subprocess.Popen([*group.join, "/bin/sh", "-c", "while :; do :; done"])
    stat = group.directories["cpu"] / "cpu.stat"
    eventually(lambda: "\nnr_throttled 0\n" not in stat.read_text())
    build = groups.for_build("build", LIMITS)
    subprocess.Popen([*build.join, "sleep", "100"])
    say("builds", build.directories["cpu"].parent.joinpath("cpu.weight").read_text().strip())
    groups.remove_all_but({"three"})
    say("kept", group.directories["cpu"].exists(), build.directories["cpu"].exists())
    groups.remove_all_but(set())
    say("left", *(place.name for place in groups.tops["cpu"].rglob("*/")))


def say(what: str, *found: object) -> None:
    sys.stdout.write(" ".join([f"{what}:", *map(str, found)]) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    try:
        main()
    finally:
        os.sync()
