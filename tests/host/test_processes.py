"""The process runtime with real processes; a shell script stands where a release has its `portway`."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from portway.host.app_config import Start, UseLimits
from portway.host.instances.process_runtime import ProcessRuntime
from portway.host.instances.readiness import Approach, NotReady, until_ready
from portway.host.instances.runtime import Instance, InstanceLimits
from portway.host.paths import Paths
from portway.host.processes import descendants
from portway.host.releases.release import Release
from portway.host.sandbox.cgroups import Cgroups
from portway.host.sandbox.walls import NO_WALLS, Walls
from tests.host.log_writer import log_writer
from tests.host.required_walls import required_walls
from tests.support import eventually

QUICK = InstanceLimits(stop_seconds=0.2, use=UseLimits(memory_mb=64, processes=20, disk_mb=4))
LEAK = f"exec {sys.base_prefix}/bin/python3 -c 'kept = bytes(1) * 90_000_000; import time; time.sleep(100)'"
# Two processes that are deaf to SIGTERM, one of them in a session of its own.
STUBBORN = "trap '' TERM; setsid sh -c 'sleep 100; exit' & wait; sleep 100"


@pytest.fixture(params=[False, True], ids=["plain", "sandbox"])
def walls(request: pytest.FixtureRequest, paths: Paths) -> Walls:
    return replace(required_walls(paths, "files"), cgroups=Cgroups()) if request.param else NO_WALLS


@pytest.fixture
def paths(tmp_path: Path) -> Iterator[Paths]:
    with tempfile.TemporaryDirectory(dir="/tmp") as run:
        paths = Paths(tmp_path / "data", Path(run) / "run")
        paths.instances.mkdir(parents=True)
        with log_writer(paths):
            yield paths


def release(paths: Paths, script: str) -> Release:
    made = Release("app", 1, paths.release("app", 1), start=Start(["portway"], "server.py", on_socket=True))
    for folder in (made.source, made.log.parent, made.venv / "bin", made.directory / "home"):
        folder.mkdir(parents=True)
    program = made.venv / "bin" / "portway"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return made


def with_instance(
    paths: Paths,
    walls: Walls,
    script: str,
    use: Callable[[ProcessRuntime, Instance, Release], Awaitable[None]],
    *,
    on_socket: bool = True,
) -> None:
    async def run() -> None:
        made, runtime = release(paths, script), ProcessRuntime(paths, walls)
        if not on_socket:
            made = replace(made, start=Start(["portway"], "server.py"))
        instance = await runtime.start(made, {}, QUICK)
        try:
            await use(runtime, instance, made)
        finally:
            await instance.stop()

    asyncio.run(run())


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_stop_ends_all_that_an_instance_started_whatever_it_does_about_it(paths: Paths, walls: Walls) -> None:
    async def use(_: ProcessRuntime, instance: Instance, made: Release) -> None:
        await asyncio.to_thread(eventually, lambda: instance.stats().processes >= 3)
        pids = list(descendants(int(instance.token.partition(":")[0])))
        await instance.stop()
        assert await instance.wait() == "signal SIGKILL"
        await asyncio.to_thread(eventually, lambda: not any(map(alive, pids)))

    with_instance(paths, walls, STUBBORN, use)


@pytest.mark.parametrize(("script", "how"), [("exit 3", "exit code 3"), ("kill -SEGV $$", "signal SIGSEGV")])
def test_an_instance_that_ends_before_it_answers_says_how_with_its_last_words(
    paths: Paths, walls: Walls, script: str, how: str
) -> None:
    async def use(_: ProcessRuntime, instance: Instance, made: Release) -> None:
        with pytest.raises(NotReady) as refused:
            await until_ready(instance, made, Approach("app.localhost"))
        assert str(refused.value) == f"the server ended ({how}) before it answered:\n  last words"

    with_instance(paths, walls, f"echo last words; {script}", use)


def test_an_instance_that_never_answers_is_given_up(paths: Paths, walls: Walls) -> None:
    async def use(_: ProcessRuntime, instance: Instance, made: Release) -> None:
        with pytest.raises(NotReady, match=r"did not answer server/discover or initialize within 0\.2 s"):
            await until_ready(instance, made, Approach("app.localhost"), 0.2)

    with_instance(paths, walls, "exec sleep 100", use)


def test_an_instance_that_never_listens_is_told_so(paths: Paths, walls: Walls) -> None:
    async def use(_: ProcessRuntime, instance: Instance, made: Release) -> None:
        message = "the server listened on no port within 0.2 s: it must serve HTTP on the port PORT, not stdio"
        with pytest.raises(NotReady, match=message):
            await until_ready(instance, made, Approach("app.localhost"), 0.2)

    with_instance(paths, walls, "exec sleep 100", use, on_socket=False)


def test_an_instance_is_adopted_by_its_token_and_no_other_process_is(paths: Paths, walls: Walls) -> None:
    async def use(runtime: ProcessRuntime, instance: Instance, made: Release) -> None:
        again = await runtime.adopt(made, instance.id, instance.token, QUICK)
        assert again is not None
        assert again.address == instance.address
        pid, started, address = instance.token.split(":", 2)
        for token in (
            f"{pid}:{int(started) + 1}:{address}",
            f"{os.getpid()}:{started}:{address}",
            f"4194304:1:{address}",
        ):
            assert await runtime.adopt(made, instance.id, token, QUICK) is None
        os.kill(int(pid), signal.SIGKILL)
        assert await instance.wait() == "signal SIGKILL"
        assert "exit status lost" in await again.wait()

    with_instance(paths, walls, "exec sleep 100", use)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "used"),
    [
        (LEAK, r"\d+ MB of 64 MB of memory"),
        ("while sleep 0.01; do sleep 100 & done", r"\d+ processes and threads of 20"),
        ("head -c 9000000 /dev/zero > $HOME/full; exec sleep 100", r"\d+ MB of 4 MB of disk"),
    ],
    ids=["memory", "processes", "disk"],
)
def test_what_exceeds_a_limit_is_ended_with_the_figures_in_its_log(
    paths: Paths, walls: Walls, script: str, used: str
) -> None:
    async def use(_: ProcessRuntime, instance: Instance, made: Release) -> None:
        how = await asyncio.wait_for(instance.wait(), 120)
        assert re.fullmatch(f"the app used {used} and was ended", how)
        line = f"portway: {how}\n"
        await asyncio.to_thread(eventually, lambda: made.log.exists() and line in made.log.read_text())

    with_instance(paths, walls, script, use)


def test_a_sweep_ends_what_nobody_keeps(paths: Paths, walls: Walls) -> None:
    async def use(runtime: ProcessRuntime, instance: Instance, made: Release) -> None:
        await runtime.sweep({instance.id})
        await asyncio.to_thread(eventually, lambda: instance.stats().processes == 1)
        await runtime.sweep(set())
        assert await instance.wait() == "signal SIGKILL"

    with_instance(paths, walls, "exec sleep 100", use)


def test_servers_that_are_started_at_the_same_time_never_get_the_same_port(paths: Paths) -> None:
    runtime = ProcessRuntime(paths, NO_WALLS)
    ports = [runtime._free_port() for _ in range(900)]
    assert len(set(ports)) == len(ports)
