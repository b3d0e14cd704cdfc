"""Starts the instances of a new release and tries them, before any call goes to them."""

from dataclasses import dataclass, replace

import msgspec

from portway.host.builds.build_commands import BuildCommands
from portway.host.instances.readiness import find_path, read_contract, tool_count
from portway.host.instances.runtime import Instance
from portway.host.instances.smoke_calls import run_smoke_calls
from portway.host.instances.starter import Starter
from portway.host.paths import Paths
from portway.host.releases.release import Release
from portway.host.releases.steps import Steps
from portway.host.store import FinishedRelease

_PRE_DEPLOY_SECONDS = 1800.0


@dataclass(frozen=True, slots=True)
class StartedRelease:
    """A release that is built and whose instances answer, but is not live yet."""

    release: Release
    instances: list[Instance]
    contract: bytes

    def finished(self) -> FinishedRelease:
        release = self.release
        assert release.start is not None
        return FinishedRelease(release.app, release.number, release.config, release.start, self.contract.decode())


async def start_release(release: Release, starter: Starter, paths: Paths, steps: Steps) -> StartedRelease:
    """Start as many instances as the release wants, and try them. The path of its endpoint is known then.

    Raises `BuildError`, `NotReady`, `StoreError` or `OSError`, and leaves no instance then.
    """
    if command := release.config.pre_deploy_command:
        shell = BuildCommands(release, release.environment() | starter.variables(release), paths)
        await shell.run_shell(command, "pre-deploy command", seconds=_PRE_DEPLOY_SECONDS)
        await steps.done("pre-deploy", command)
    host = starter.hostname(release.app)
    first = await starter.start(release)
    instances = [first]
    try:
        path = await find_path(first, release, host)
        release = replace(release, config=msgspec.structs.replace(release.config, path=path))
        contract = await read_contract(first, release, host)
        await run_smoke_calls(first, release, host)
        instances += await starter.start_all_ready(release, release.config.num_instances - 1)
    except BaseException:
        await starter.stop_all(instances)
        raise
    more = f", {len(instances)} instances" if len(instances) > 1 else ""
    more += f", {len(release.config.smoke)} smoke calls" if release.config.smoke else ""
    await steps.done("ready", f"{tool_count(contract)} tools{more}")
    return StartedRelease(release, instances, contract)
