"""Health checks that an app names: a new instance must pass, and one that fails for a while gets no calls."""

from __future__ import annotations

import asyncio
import sys

import pytest

from portway.host.app_config import AppConfig, Start
from portway.host.instances.instance_group import InstanceGroup
from portway.host.instances.process_runtime import ProcessRuntime
from portway.host.instances.readiness import Approach, NotReady, until_answers, until_ready
from portway.host.instances.runtime import InstanceLimits
from portway.host.instances.starter import Starter
from portway.host.paths import Paths
from portway.host.releases.release import Release
from portway.host.sandbox.walls import NO_WALLS
from portway.host.secrets.key_file import KeyFile
from portway.host.secrets.variables import Variables
from portway.host.store import Store
from tests.host.test_start_commands import SERVER

HEALTH = """
    def do_GET(self):
        assert self.headers["host"] == "app.localhost"
        self.send_response(int(open("status").read()) if self.path == "/healthz?deep=1" else 404)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message"""
CONFIG = AppConfig(health_check_path="/healthz?deep=1", max_shutdown_delay_seconds=1)


@pytest.fixture
def release(paths: Paths) -> Release:
    made = Release("app", 1, paths.release("app", 1), CONFIG, Start([sys.executable, "main.py"], "main.py"))
    for folder in (made.source, made.log.parent):
        folder.mkdir(parents=True)
    (made.source / "main.py").write_text(SERVER.replace("\n    def log_message", HEALTH))
    return made


@pytest.mark.slow
def test_an_instance_is_ready_when_its_health_check_passes(paths: Paths, release: Release) -> None:
    async def test() -> None:
        (release.source / "status").write_text("503")
        instance = await ProcessRuntime(paths, NO_WALLS).start(release, {}, InstanceLimits(stop_seconds=1))
        await until_answers(
            instance, release, Approach("app.localhost")
        )  # which is enough for a new control to keep it
        with pytest.raises(NotReady) as refused:
            await until_ready(instance, release, Approach("app.localhost"), 2)
        said = "its health check /healthz?deep=1 did not pass within 2 s (status 503)"
        assert str(refused.value) == said
        (release.source / "status").write_text("302")
        await until_ready(instance, release, Approach("app.localhost"))
        await instance.stop()

    asyncio.run(test())


@pytest.mark.slow
def test_an_instance_that_fails_its_health_check_gets_no_calls_until_it_passes_again_or_is_restarted(
    paths: Paths, release: Release
) -> None:
    async def test() -> None:
        (release.source / "status").write_text("200")
        store = Store(paths.database)
        store.begin_release("app", "/")
        changed = asyncio.Event()
        limits, variables = (
            InstanceLimits(check_seconds=0.2, checks_out=2, checks=15),
            Variables(store, KeyFile(paths.key)),
        )
        starter = Starter(ProcessRuntime(paths, NO_WALLS), store, limits, variables)
        group = InstanceGroup(release, starter, changed.set)

        async def state(wanted: str) -> str:
            while group.state != wanted:
                changed.clear()
                await changed.wait()
            return group.reason

        await state("up")
        first = group.up[0]
        (release.source / "status").write_text("500")
        assert await state("unhealthy") == "its health check /healthz?deep=1 fails (status 500)"
        assert (group.up, group.running) == ([], [first])
        (release.source / "status").write_text("200")
        assert await state("up") == ""
        assert group.up == [first], "it is the same one"
        (release.source / "status").write_text("404")
        assert "its health check /healthz?deep=1 failed for too long (status 404)" in await state("starting")
        (release.source / "status").write_text("200")
        await state("up")
        assert group.up != [first]
        assert group.restarts == 1
        for keeper in group.keepers:
            await keeper.end()
        store.close()

    asyncio.run(test())
