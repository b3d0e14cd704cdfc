"""Deploys: a source becomes the live release of an app, or nothing changes.

A release is in one of three states, which the store keeps:

    (none) → building    `begin_release`: it has a number and a row
    building → ready     it has its files, its instance answers, its contract is stored; it is live from now on
    building → failed    a step failed, the deploy was cancelled, or the host stopped; its files go, its log stays

The steps, each reported when it is done: copy, build, pre-deploy, ready, switch. After `building → ready`, nothing is
undone.

A source with a blueprint may hold several apps. Each is built and started before any of them is made live, all at
once; if one of them fails, all stay as they were.
"""

import asyncio
import contextlib
from collections.abc import Collection, Iterator
from functools import partial

from portway.host.app_config import Start
from portway.host.blueprint.problems import BlueprintError
from portway.host.builds.secret_scan import refuse_secrets
from portway.host.builds.source import Source, SourceError
from portway.host.files import remove_tree
from portway.host.instances.running_apps import RunningApps
from portway.host.instances.starter import Starter
from portway.host.paths import Paths
from portway.host.releases.deploy_error import DeployError
from portway.host.releases.make_releases import Deployed, Plan, ReleaseMaker, SourceCopy
from portway.host.releases.release import Release
from portway.host.releases.source_apps import DeployOptions, SourceApps
from portway.host.releases.steps import Report, Steps
from portway.host.secrets.environments import Environments
from portway.host.secrets.variables import Owner, VariableError
from portway.host.store import ReleaseRecord, Store, StoreError


class Deployer:
    """Runs deploys, one at a time for each app."""

    def __init__(
        self, paths: Paths, store: Store, running: RunningApps, starter: Starter, environments: Environments
    ) -> None:
        self._paths = paths
        self._store = store
        self._apps = SourceApps(store, starter.walls, environments)
        self._maker = ReleaseMaker(paths, store, running, starter, environments)
        self.environments = environments
        self._busy: set[str] = set()

    async def deploy(self, source: Source, report: Report, options: DeployOptions) -> list[Deployed]:
        """Build a release of each app of `source`, start them and switch their calls to them. Raises `DeployError`."""
        steps = Steps(report)
        copy = self._paths.draft()
        try:
            await asyncio.to_thread(source.copy_to, copy)
            configs, groups = await self._apps.configs(source, copy, report, options)
            with self.exclusive(*configs):
                environments = self._apps.resolve(configs, groups, options.variables)
                for environment in environments.values():
                    for note in environment.notes:
                        await report(f"note  {note}")
                    await asyncio.to_thread(refuse_secrets, copy, environment.secrets, options.allowed)
                copied = SourceCopy(copy, await source.variables())
                plans = [
                    Plan(
                        app,
                        config,
                        environments[app],
                        source.location,
                        partial(
                            self._maker.build_release, copied, environments[app], steps, is_last=number == len(configs)
                        ),
                    )
                    for number, (app, config) in enumerate(configs.items(), 1)
                ]
                done = await self._maker.release_all(plans, steps)
            await self._restart_users(groups, configs, report)
            return done
        except (SourceError, BlueprintError, VariableError, StoreError, OSError) as error:
            raise DeployError(str(error)) from None
        finally:
            await asyncio.to_thread(remove_tree, copy)

    async def _restart_users(self, groups: Collection[str], apps: Collection[str], report: Report) -> None:
        """Restart what uses the groups or the apps that a deploy has defined, where that has changed its variables."""
        owners = [*(Owner("group", group) for group in groups), *(Owner("app", app) for app in apps)]
        users = {user for owner in owners for user in self.environments.users(owner)}
        for app in sorted(users.difference(apps)):
            try:
                await self.restart(app, report)
            except DeployError as error:
                await report(f"note  {app} goes on with its old variables: {error}")

    async def restart(self, app: str, report: Report) -> Deployed | None:
        """Make a release with the files of the live one and the variables of now. Raises `DeployError`.

        Return None when no release is live, or it has these variables already.
        """
        try:
            with self.exclusive(app):
                live = self._store.live_release(app)
                if live is None:
                    return None
                environment = self.environments.resolve(app, live.config)
                if environment.values == self.environments.variables.of_release(app, live.number):
                    return None
                share = partial(_share_files, live)
                plan = Plan(app, live.config, environment, live.source, share, live.files or live.number)
                return (await self._maker.release_all([plan], Steps(report)))[0]
        except (VariableError, StoreError, OSError) as error:
            raise DeployError(str(error)) from None

    @contextlib.contextmanager
    def exclusive(self, *apps: str) -> Iterator[None]:
        """Keep other deploys and `destroy` from the apps. Raises `DeployError` when one of them is under way."""
        if busy := self._busy.intersection(apps):
            raise DeployError(f"{min(busy)} is being deployed or removed: wait for that to end")
        self._busy.update(apps)
        try:
            yield
        finally:
            self._busy.difference_update(apps)


async def _share_files(live: ReleaseRecord, release: Release) -> Start:
    assert live.start is not None
    for folder in ("log", "tmp"):
        (release.directory / folder).mkdir(parents=True)
    return live.start
