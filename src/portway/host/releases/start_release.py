"""Starts a new release and tries it before any call goes to it: its pre-deploy command (30 minutes), instances,
endpoint, a line while it is silent, warnings.
"""

import asyncio
from dataclasses import dataclass, replace

import msgspec

from portway.counted import counted
from portway.host.builds.build_sandboxes import BuildPlaces
from portway.host.contracts.contract_changes import ContractChanges, ContractReport
from portway.host.contracts.hidden_text import refuse_hidden_text
from portway.host.contracts.read_contract import CLOSED, read_contract, tool_count
from portway.host.contracts.unused_policies import UnknownArguments, unused_policies
from portway.host.instances.readiness import TokenNeeded, find_path, what_it_does
from portway.host.instances.runtime import Instance
from portway.host.instances.smoke_calls import run_smoke_calls
from portway.host.instances.starter import Starter
from portway.host.paths import Paths
from portway.host.releases.release import Release
from portway.host.releases.steps import Steps
from portway.host.store import FinishedRelease

_PRE_DEPLOY_SECONDS = 1800.0
_PATIENCE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class StartedRelease:
    """A release that is built and whose instances answer, but is not live yet.

    `changes` are those of its contract, None when there is no live release. `accepted` is the id by which someone
    accepted those that its policy stops.
    """

    release: Release
    instances: list[Instance]
    contract: bytes
    changes: ContractChanges | None = None
    accepted: str = ""

    def report(self) -> ContractReport | None:
        return None if self.changes is None else self.changes.report(self.accepted)

    def finished(self) -> FinishedRelease:
        release = self.release
        assert release.start is not None
        contract = self.contract.decode()
        return FinishedRelease(release.app, release.number, release.config, release.start, contract, self.accepted)


async def pre_deploy(release: Release, starter: Starter, paths: Paths, steps: Steps) -> None:
    """Run the command that a release wants to be run before it is started. Raises `BuildError` or `StoreError`."""
    if command := release.config.pre_deploy_command:
        shell = BuildPlaces(release, paths, starter.walls).server(starter.variables(release))
        await shell.run_shell(command, "pre-deploy command", seconds=_PRE_DEPLOY_SECONDS)
        await steps.done("pre-deploy", command)


async def start_release(release: Release, starter: Starter, steps: Steps, *, is_new: bool) -> StartedRelease:
    """Start as many instances as the release wants, and try them. The path of its endpoint is known then.

    Of one that `is_new`, and so repeats none that served, policies must not name arguments that their tools lack.
    Raises `NotReady`, `HiddenText`, `UnknownArguments`, `StoreError` or `OSError`, and leaves no instance then.
    """
    first = await starter.start(release)
    instances = [first]
    telling = asyncio.create_task(_tell_if_silent(first, steps))
    try:
        release = await _found(first, release, starter)
        telling.cancel()
        approach = starter.approach(release)
        contract = await read_contract(first, release, approach)
        await asyncio.to_thread(refuse_hidden_text, contract)
        unused = await asyncio.to_thread(unused_policies, contract, release.config.policies)
        if unused.faults and is_new:
            raise UnknownArguments("\n".join(unused.faults))
        await run_smoke_calls(first, release, approach)
        instances += await starter.start_all_ready(release, release.config.num_instances - 1)
    except BaseException:
        telling.cancel()
        await starter.stop_all(instances)
        raise
    await steps.warn([*unused.warnings, *unused.faults])
    if not starter.walls.network.stands:
        await steps.warn(await asyncio.to_thread(_ways_around, first))
    more = f", {len(instances)} instances" if len(instances) > 1 else ""
    more += f", {counted(len(release.config.smoke), 'smoke call')}" if release.config.smoke else ""
    await steps.done("ready", f"{_offer(contract)}{more}{_check(release, contract, starter)}")
    return StartedRelease(release, instances, contract)


async def _tell_if_silent(instance: Instance, steps: Steps) -> None:
    """Say once that a server has not answered yet, and what it does."""
    await asyncio.sleep(_PATIENCE_SECONDS)
    does = await asyncio.to_thread(what_it_does, instance)
    await steps.warn([f"no answer after {_PATIENCE_SECONDS:g} s, still waiting: the server {does}"])


async def _found(instance: Instance, release: Release, starter: Starter) -> Release:
    """Return the release with the path of its endpoint, and the variable with the token that its server asks for."""
    config = release.config
    generated = [name for name, source in config.env.items() if source.generate_value]
    try:
        path = await find_path(instance, release, starter.approach(release))
    except TokenNeeded:
        if config.access != "gate" or config.upstream_token or len(generated) != 1:
            raise
        config = msgspec.structs.replace(config, upstream_token=generated[0])
        release = replace(release, config=config)
        path = await find_path(instance, release, starter.approach(release))
    return replace(release, config=msgspec.structs.replace(config, path=path))


def _ways_around(instance: Instance) -> list[str]:
    """Return a warning if an instance in the host's network can be reached without the gate."""
    mend = "let it listen on 127.0.0.1, or give apps networks of their own (docs/trust.md)"
    open_to_others = [each for each in instance.listening().values() if not each.startswith(("127.", "[::1]"))]
    return [f"it listens on {each}, where it can be reached around the gate: {mend}" for each in open_to_others[:1]]


def _offer(contract: bytes) -> str:
    """Say what a contract shows."""
    return "nothing to callers without credentials" if contract == CLOSED else counted(tool_count(contract), "tool")


def _check(release: Release, contract: bytes, starter: Starter) -> str:
    """Say how the app checks its callers."""
    if release.config.access != "app":
        login = starter.logins.in_use(release.app, release.config)
        own = f"; the app's own token is {release.config.upstream_token}" if release.config.upstream_token else ""
        return own + (f"; callers log in at {' or '.join(login.issuers)}" if login else "")
    if contract != CLOSED:
        return "; anybody may call it: it checks nobody"
    return f"; its login is at its own host name: {starter.address.origin(starter.address.hostname(release.app))}/mcp"
