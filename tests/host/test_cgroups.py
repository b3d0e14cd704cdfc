"""Control groups: what the kernel bounds, tried with real processes, and how version 2 is told on a tree of files."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from portway.host.app_config import Start, UseLimits
from portway.host.instances.process_runtime import ProcessRuntime
from portway.host.instances.runtime import Instance, InstanceLimits
from portway.host.paths import Paths
from portway.host.processes import descendants, processor_ticks
from portway.host.releases.release import Release
from portway.host.sandbox.cgroup_mounts import CONTROLLERS, own_places
from portway.host.sandbox.cgroups import Cgroups, groups_in
from portway.host.sandbox.walls import NO_WALLS, Walls
from tests.host.required_walls import required_walls
from tests.support import eventually

LEAK = f"{sys.base_prefix}/bin/python3 -c 'kept = bytes(1) * 90_000_000; import time; time.sleep(100)'"
FORKS = f"""exec {sys.base_prefix}/bin/python3 -c '
import subprocess, time
kept = []
try:
    while True:
        kept.append(subprocess.Popen(["sleep", "100"]))
except OSError as error:
    print(error, flush=True)
time.sleep(100)
'"""
BURN = "taskset -c 0 sh -c 'while :; do :; done'"
Use = Callable[[list[Instance], Release], Awaitable[None]]


@pytest.fixture
def walls(paths: Paths) -> Walls:
    walls = required_walls(paths, "files")
    if set(walls.cgroups.tops) != set(CONTROLLERS):
        pytest.skip(f"limits: {walls.cgroups}")
    return walls


def started(paths: Paths, walls: Walls, scripts: dict[str, str], use: Use, **limits: float) -> None:
    """Start an instance of each app with its script, call `use`, and stop them."""
    most = UseLimits(**{"memory_mb": 64, "processes": 20} | limits)  # type: ignore[arg-type]

    async def run() -> None:
        runtime = ProcessRuntime(paths, walls)
        instances: list[Instance] = []
        for app, script in scripts.items():
            made = Release(app, 1, paths.release(app, 1), start=Start(["/bin/sh", "-c", script], app))
            for folder in (made.source, made.log.parent, made.venv / "bin", made.home):
                folder.mkdir(parents=True)
            instances.append(await runtime.start(made, {}, InstanceLimits(stop_seconds=0.2, use=most)))
        try:
            await use(instances, made)
        finally:
            await asyncio.gather(*(instance.stop() for instance in instances))

    asyncio.run(run())
    assert not [top for top in walls.cgroups.tops.values() if top.exists()], "nothing is left of the groups"


async def until(probe: Callable[[], object]) -> None:
    await asyncio.to_thread(eventually, probe)


@pytest.mark.parametrize("script", [f"exec {LEAK}", f"{LEAK} & sleep 100"], ids=["itself", "a child"])
def test_what_uses_more_memory_than_its_group_has_is_ended_with_the_figures(
    paths: Paths, walls: Walls, script: str
) -> None:
    async def use(instances: list[Instance], made: Release) -> None:
        [instance] = instances
        how = await asyncio.wait_for(instance.wait(), 120)
        assert re.fullmatch(r"the app used 6\d MB of 64 MB of memory and was ended", how)
        await until(lambda: f"portway: {how}\n" in made.log.read_text())

    started(paths, walls, {"app": script}, use)


def test_what_forks_too_much_can_start_no_more_and_its_log_says_so(paths: Paths, walls: Walls) -> None:
    async def use(instances: list[Instance], made: Release) -> None:
        [instance] = instances
        said = "portway: it runs all of its 20 processes and threads, and can start no more\n"
        await until(lambda: made.log.exists() and said in (log := made.log.read_text()) and "unavailable" in log)
        assert 10 < instance.stats().processes <= 20

    started(paths, walls, {"app": FORKS}, use)


def test_an_instance_has_no_process_outside_of_its_group_and_none_after_its_end(paths: Paths, walls: Walls) -> None:
    async def use(instances: list[Instance], _: Release) -> None:
        [instance] = instances
        group = walls.cgroups.of_instance("app", instance.id)

        def tree() -> set[str]:
            return set((group.directories["pids"] / "cgroup.procs").read_text().split())

        await until(lambda: instance.stats().processes == 3 and len(tree()) >= 4)
        assert instance.token.partition(":")[0] in tree(), "bubblewrap itself is in it"
        for directory in group.directories.values():
            assert set((directory / "cgroup.procs").read_text().split()) == tree()
        await instance.stop()
        assert not [directory for directory in group.directories.values() if directory.exists()]
        assert not walls.cgroups.of_instance("app", instance.id).directories

    started(paths, walls, {"app": "setsid sleep 100 & sleep 100 & wait"}, use)


def test_an_instance_that_outlives_control_keeps_its_group_and_other_groups_are_ended(
    paths: Paths, walls: Walls
) -> None:
    async def use(instances: list[Instance], made: Release) -> None:
        [instance] = instances
        left = walls.cgroups.for_instance("app", "left", UseLimits())
        build = walls.cgroups.for_build("left", UseLimits())
        for group in (left, build):
            await asyncio.create_subprocess_exec(*group.join, "sleep", "100")
        later = ProcessRuntime(paths, walls)
        adopted = await later.adopt(made, instance.id, instance.token, InstanceLimits(use=UseLimits(memory_mb=64)))
        assert adopted is not None
        await later.sweep({instance.id})
        assert not [place for group in (left, build) for place in group.directories.values() if place.exists()]
        (made.home / "go").touch()
        assert await asyncio.wait_for(adopted.wait(), 120) == await asyncio.wait_for(instance.wait(), 120)
        assert "MB of 64 MB of memory" in await instance.wait()

    started(paths, walls, {"app": f"while ! test -e ~/go; do sleep 0.01; done; {LEAK}"}, use)


def test_empty_groups_of_a_host_that_was_killed_are_removed_by_any_other(walls: Walls) -> None:
    groups = walls.cgroups
    other = Cgroups(groups.version, {name: top.with_name(f"{top.name}-dead") for name, top in groups.tops.items()})
    group, young = other.for_instance("app", "old", UseLimits()), other.for_instance("app", "young", UseLimits())
    for place in group.directories.values():
        os.utime(place, (0, 0))
    groups.remove_all_but(set())
    assert not [place for place in group.directories.values() if place.exists()]
    assert all(place.exists() for place in young.directories.values())
    young.remove()


def test_an_instance_gets_no_more_of_the_processors_than_its_limit(paths: Paths, walls: Walls) -> None:
    async def use(instances: list[Instance], made: Release) -> None:
        [instance] = instances
        stat = walls.cgroups.of_instance(made.app, instance.id).directories["cpu"] / "cpu.stat"
        await until(lambda: int(dict(map(str.split, stat.read_text().splitlines()))["nr_throttled"]) > 1)  # type: ignore[arg-type]

    started(paths, walls, {"app": BURN}, use, cpu=0.2)


@pytest.mark.slow
def test_apps_share_the_processors_fairly_and_a_build_gets_what_they_leave(paths: Paths, walls: Walls) -> None:
    async def use(instances: list[Instance], _: Release) -> None:
        many, one = instances
        group = walls.cgroups.for_build("build", UseLimits())
        build = await asyncio.create_subprocess_exec(*group.join, "/bin/sh", "-c", BURN)
        try:
            await until(lambda: one.stats().cpu >= 1)
            assert many.stats().cpu < 2 * one.stats().cpu, "its six processes count as one app"
            assert sum(map(processor_ticks, descendants(build.pid))) < 50
        finally:
            group.remove()
            await build.wait()

    started(paths, walls, {"many": " & ".join([BURN] * 6), "one": BURN}, use)


MOUNTS = """
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 /docker/one /sys/fs/cgroup/memory rw,relatime shared:7 - cgroup cgroup rw,memory
36 31 0:33 / /sys/fs/cgroup/devices rw,relatime - cgroup cgroup rw,devices
39 31 0:36 /docker/two /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""


def test_the_groups_of_a_process_are_found_by_its_mounts() -> None:
    own = (
        "5:devices:/\n4:memory:/docker/one/app\n3:pids:/elsewhere\n1:cpu,cpuacct:/slice\n0::/user.slice/portway.scope\n"
    )
    assert own_places(MOUNTS.lstrip(), own) == {
        "": Path("/sys/fs/cgroup/unified/user.slice/portway.scope"),
        "memory": Path("/sys/fs/cgroup/memory/app"),
        "cpu": Path("/sys/fs/cgroup/cpu,cpuacct/slice"),
    }
    outside = own_places(MOUNTS.lstrip(), "0::/../../other.scope\n")
    assert outside == {}, "a process that has been moved out of its namespace has no group here"


def tree(base: Path, controllers: str, processes: str | None = None) -> Path:
    """Make files as version 2 has them; the root of all groups, without `processes`, has no type."""
    base.mkdir()
    (base / "cgroup.controllers").write_text(controllers)
    if processes is not None:
        (base / "cgroup.type").write_text("domain\n")
        (base / "cgroup.procs").write_text(processes)
    return base


def contents(place: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in place.iterdir() if file.is_file()}


def test_version_2_is_told_the_limits_of_each_group_and_the_controllers_above_it(tmp_path: Path) -> None:
    base = tree(tmp_path / "base", "cpuset cpu io memory pids\n")
    groups = groups_in({"": base, "pids": tmp_path / "v1"}, "portway-x", list)
    assert str(groups) == "cgroup v2"
    group = groups.for_instance("app", "one", UseLimits(memory_mb=64, processes=20, cpu=0.5))
    top = base / "portway-x"
    assert dict(group.directories) == dict.fromkeys(CONTROLLERS, top / "apps" / "app" / "one")
    assert contents(top / "apps" / "app" / "one") == {
        "memory.max": str(64 * 2**20),
        "memory.swap.max": "0",
        "memory.oom.group": "1",
        "pids.max": "20",
        "cpu.max": "50000 100000",
    }
    for above in (base, top, top / "apps", top / "apps" / "app"):
        assert contents(above)["cgroup.subtree_control"] == "+memory +pids +cpu"
    assert group.join[-2:] == [str(top / "apps" / "app" / "one"), "--"]
    groups.for_build("two", UseLimits())
    assert contents(top / "builds") == {"cgroup.subtree_control": "+memory +pids +cpu", "cpu.weight": "10"}
    assert "cpu.max" not in contents(top / "builds" / "two")


def test_version_2_says_what_the_kernel_has_done(tmp_path: Path) -> None:
    groups = groups_in({"": tree(tmp_path / "base", "memory pids")}, "portway-x", list)
    assert str(groups) == "cgroup v2; a watcher, as cpu cannot be had"
    group = groups.for_instance("app", "one", UseLimits())
    place = group.directories["memory"]
    (place / "memory.events").write_text("low 0\nhigh 0\nmax 12\noom 0\noom_kill 0\noom_group_kill 0\n")
    (place / "memory.peak").write_text("1000\n")
    (place / "pids.events").write_text("max 0\n")
    assert (group.killed_for_memory(), group.was_full()) == (None, False)
    (place / "memory.events").write_text("low 0\nhigh 0\nmax 40\noom 1\noom_kill 3\noom_group_kill 1\n")
    (place / "pids.events").write_text("max 3\n")
    assert (group.killed_for_memory(), group.was_full()) == (1000, True)


def test_version_2_has_the_hosts_own_processes_in_a_group_of_their_own(tmp_path: Path) -> None:
    base = tree(tmp_path / "base", "memory pids cpu", "7\n")
    assert groups_in({"": base}, "portway-x", lambda: [7]).tops["cpu"] == base / "portway-x"
    own = base / "portway-x" / "host"
    assert (own / "cgroup.procs").read_text() == "7"
    (own / "cgroup.controllers").write_text("memory pids cpu")
    assert groups_in({"": own}, "portway-x", lambda: [7]).tops["cpu"] == base / "portway-x", "also for the next control"


def test_a_limit_of_processors_that_has_no_effect_is_told() -> None:
    told = "the limit of 0.5 processor cores has no effect here (not tried)"
    assert NO_WALLS.unkept(UseLimits(cpu=0.5)) == [told]
    assert NO_WALLS.unkept(UseLimits()) == []
    works = replace(NO_WALLS, cgroups=Cgroups(2, {"cpu": Path("/group")}))
    assert works.unkept(UseLimits(cpu=0.5)) == []
