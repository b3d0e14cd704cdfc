"""Deploys, rollbacks, restarts and changes of variables, step by step: a source becomes the live release of an app, or
nothing changes.

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
import logging
import shutil
from collections.abc import AsyncIterator, Collection, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import msgspec

from portway.host.app_config import Start
from portway.host.blueprint.problems import BlueprintError
from portway.host.domain_names import DomainError
from portway.host.files import remove_tree
from portway.host.git.commit_source import CommitSource
from portway.host.git.git_command import GitError
from portway.host.git.release_commits import NewCommit, ReleaseCommits
from portway.host.git.remote import RemoteSource
from portway.host.instances.running_apps import RunningApps
from portway.host.instances.starter import Starter
from portway.host.paths import Paths
from portway.host.releases.deploy_error import DeployError
from portway.host.releases.deploy_queue import Turns
from portway.host.releases.live_line import failure_line
from portway.host.releases.make_releases import Deployed, ReleaseMaker, ReleasePlan, SourceCopy
from portway.host.releases.rebuild import Rebuilder
from portway.host.releases.release import Release
from portway.host.releases.rollback_target import rollback_target
from portway.host.releases.source_apps import DeployOptions, FoundApps, SourceApps
from portway.host.releases.steps import Report, Steps
from portway.host.secrets.environments import Environment, Environments
from portway.host.secrets.variables import Owner, VariableError
from portway.host.sources.secret_scan import refuse_secrets
from portway.host.sources.source import Source, SourceError
from portway.host.store import Cause, ReleaseRecord, Store, StoreError

_MOST_NAMED = 10  # variables that the history of an app names for one change
_log = logging.getLogger("portway.host")


class Deployer:
    """Runs deploys, and makes releases of earlier builds; one at a time for each app, the others wait."""

    def __init__(
        self,
        paths: Paths,
        store: Store,
        running: RunningApps,
        starter: Starter,
        environments: Environments,
        *,
        private_sources: bool,
    ) -> None:
        """With `private_sources`, repositories on this machine and in its network are fetched, too."""
        self._paths = paths
        self._store = store
        self._domains = running.domains
        self._apps = SourceApps(store, starter.walls, environments, starter.logins)
        self.commits = ReleaseCommits(paths, store)
        self._maker = ReleaseMaker(paths, store, running, starter, environments, self.commits)
        self.rebuilder = Rebuilder(paths, store, environments, self._maker, self.commits)
        self.environments = environments
        self.turns = Turns()
        self.private_sources = private_sources

    async def deploy(self, source: Source | RemoteSource, report: Report, options: DeployOptions) -> list[Deployed]:
        """Build a release of each app of `source`, start them and switch their calls to them.

        Raises `DeployError`; `Superseded` when a newer deploy of the same apps came while this one waited.
        """
        steps = Steps(report)
        copy = self._paths.draft()
        with _told_as_deploy_error():
            try:
                if isinstance(source, RemoteSource):
                    source = await source.fetch(_objects(copy), private=self.private_sources)
                    await steps.done("fetch", f"{source.commit[:7]} of {source.location}")
                await asyncio.to_thread(source.copy_to, copy)
                found = await self._apps.find(source, copy, steps, options)
                async with self.turns.turn(found.names, report, is_deploy=True):
                    steps.resume()
                    async with self._told_what_serves([] if options.pushed_to else found.names, report):
                        done = await self._deploy(source, found, copy, steps, options)
                await self._restart_users(found, report, options.cause.asked_by)
                return done
            finally:
                for made in (copy, _objects(copy)):
                    await asyncio.to_thread(remove_tree, made)

    async def restart(self, app: str, report: Report, asked_by: str = "") -> Deployed:
        """Make a release like the live one: the same files, configuration and variables. Raises `DeployError`."""
        with _told_as_deploy_error():
            async with self.turns.turn([app], report):
                live = self._require_live(app)
                cause = Cause("restart", str(live.number), asked_by, live.commit)
                async with self._told_what_serves([app], report):
                    return await self._repeat(live, self.environments.of_release(live), cause, Steps(report))

    async def rollback(self, app: str, number: int | None, report: Report, asked_by: str = "") -> Deployed:
        """Make a release like an earlier one that served: the same files, configuration and variables.

        Without a `number`, it is the newest that was not the same as the live one. The domains of the app stay as they
        are: their names may be others' by now. Raises `DeployError`.
        """
        with _told_as_deploy_error():
            async with self.turns.turn([app], report):
                live = self._require_live(app)
                records = [_with_domains(record, live.config.domains) for record in self._store.releases(app)]
                target = rollback_target(live, records, number, partial(self._is_same, live))
                environment = self.environments.of_release(target)
                steps = Steps(report)
                if differing := self._outdated(target):
                    await steps.note(
                        f"{', '.join(differing)} as in release {target.number}; the next deploy or change by "
                        "`portway env` brings what is set now"
                    )
                cause = Cause("rollback", str(target.number), asked_by, target.commit)
                async with self._told_what_serves([app], report):
                    return await self._repeat(target, environment, cause, steps)

    async def apply_variables(self, app: str, owner: Owner, report: Report, asked_by: str = "") -> Deployed | None:
        """Make a release with the files of the live one and the variables of now. Raises `DeployError`.

        Return None when no release is live, or it uses none of the `owner`'s, or it has these variables already.
        """
        with _told_as_deploy_error():
            async with self.turns.turn([app], report):
                live = self._store.live_release(app)
                if live is None or app not in self.environments.users(owner):
                    return None
                environment = self.environments.resolve(app, live.config)
                changed = _differing(self.environments.of_release(live), environment)
                if not changed:
                    return None
                cause = Cause("env", ", ".join(changed[:_MOST_NAMED]), asked_by, live.commit)
                return await self._repeat(live, environment, cause, Steps(report))

    async def record_missing(self) -> None:
        """Record each live release of which git has nothing, such as one that an earlier version of Portway has made.

        An app that is being changed is left out: that records it.
        """
        for app in self._store.apps() if shutil.which("git") else ():
            try:
                with self.turns.at_once(app.name):
                    await asyncio.to_thread(self.commits.record_live, app.name)
            except (DeployError, SourceError, GitError, OSError) as error:
                _log.info("a clone of %s will not have its live release: %s", app.name, error)

    async def _deploy(
        self, source: Source, found: FoundApps, copy: Path, steps: Steps, options: DeployOptions
    ) -> list[Deployed]:
        configs = self._apps.configs(found, copy, options)
        self._domains.refuse(configs)
        self._apps.refuse_foreign(found, configs, options.user)
        await self._apps.warn_of_logins(configs, steps)
        environments = self._apps.resolve(configs, found.groups, options.variables)
        for environment in environments.values():
            for note in environment.notes:
                await steps.note(note)
            kind = options.cause.kind
            await asyncio.to_thread(refuse_secrets, copy, environment.secrets, options.allowed, kind=kind)
        commits = {app: await self._record(app, source, copy, steps) for app in configs}
        variables = await source.variables()
        copied = SourceCopy(copy, variables)
        cause = replace(options.cause, commit=options.cause.commit or variables.get("RENDER_GIT_COMMIT", ""))
        plans = [
            ReleasePlan(
                app,
                config,
                environments[app],
                source.location,
                cause,
                partial(self._maker.build_release, copied, environments[app], steps, is_last=number == len(configs)),
                accept=options.accept,
                commit=commits[app],
            )
            for number, (app, config) in enumerate(configs.items(), 1)
        ]
        return await self._maker.release_all(plans, steps, partial(self._apps.refuse_revoked, options.user))

    async def _record(self, app: str, source: Source, copy: Path, steps: Steps) -> NewCommit | None:
        """Return the commit of a copied source. If a folder cannot be recorded, say so and go on."""
        try:
            return await asyncio.to_thread(self.commits.record, app, source, copy, _objects(copy))
        except GitError as error:
            if isinstance(source, CommitSource):
                raise SourceError(str(error)) from None
            await steps.note(f"a clone will not have this release: {error}")
            return None

    async def _restart_users(self, found: FoundApps, report: Report, asked_by: str) -> None:
        """Restart what uses the groups or the apps that a deploy has defined, where that has changed its variables.

        So are apps of the deploy itself whose variables were changed after it had read them.
        """
        owners = [*(Owner("group", group) for group in found.groups), *(Owner("app", app) for app in found.names)]
        users = {user: owner for owner in owners for user in self.environments.users(owner)}
        for app in sorted(user for user in users if user not in found.names or self._lacks_changes(user)):
            try:
                await self.apply_variables(app, users[app], report, asked_by)
            except DeployError as error:
                await report(f"note  {app} goes on with its old variables: {error}")

    async def _repeat(self, record: ReleaseRecord, environment: Environment, cause: Cause, steps: Steps) -> Deployed:
        """Make a release with the files and the configuration of `record`."""
        share = partial(self._share_files, record, steps)
        plan = ReleasePlan(record.app, record.config, environment, record.source, cause, share, record.build)
        return (await self._maker.release_all([plan], steps))[0]

    @contextlib.asynccontextmanager
    async def _told_what_serves(self, apps: Collection[str], report: Report) -> AsyncIterator[None]:
        """If the block fails, report which releases of the apps go on, and what to do with apps that have none."""
        try:
            yield
        except Exception:
            for app in self._store.apps():
                if app.name in apps:
                    await report(f"note  {failure_line(app.name, app.live)}")
            raise

    async def _share_files(self, record: ReleaseRecord, steps: Steps, release: Release) -> Start:
        """Let a release run the files of an earlier one, which are built if a backup has brought it without them."""
        for folder in ("log", "tmp"):
            (release.directory / folder).mkdir(parents=True)
        start = await self.rebuilder.start_of(record, steps)
        await steps.done("build", f"that of release {record.build}")
        return start

    def _require_live(self, app: str) -> ReleaseRecord:
        live = self._store.live_release(app)
        if live is None:
            raise DeployError(f"{app} has no live release: deploy it")
        return live

    def _is_same(self, live: ReleaseRecord, record: ReleaseRecord) -> bool:
        """Return whether two releases of an app differ in their numbers only."""
        values = self.environments.of_release
        return (record.build, record.config) == (live.build, live.config) and values(record) == values(live)

    def _lacks_changes(self, app: str) -> bool:
        """Return whether the live release of an app was made without a change of its variables."""
        live = self._store.live_release(app)
        return live is not None and bool(self._outdated(live))

    def _outdated(self, record: ReleaseRecord) -> list[str]:
        """Return the names of the variables of a release that it would not have so by now."""
        try:
            now = self.environments.resolve(record.app, record.config)
        except VariableError:  # some are missing by now
            now = Environment({}, (), [])
        return _differing(self.environments.of_release(record), now)


def _with_domains(record: ReleaseRecord, domains: list[str]) -> ReleaseRecord:
    return replace(record, config=msgspec.structs.replace(record.config, domains=domains))


def _differing(one: Environment, other: Environment) -> list[str]:
    """Return the names of the variables that are not the same in both."""
    names = {*one.values, *other.values}
    return sorted(name for name in names if one.values.get(name) != other.values.get(name))


@contextlib.contextmanager
def _told_as_deploy_error() -> Iterator[None]:
    """Raise `DeployError` for what the person who asked for a deploy can mend."""
    try:
        yield
    except (SourceError, BlueprintError, DomainError, VariableError, StoreError, GitError, OSError) as error:
        raise DeployError(str(error)) from None


def _objects(copy: Path) -> Path:
    """Return the folder for the git objects of a copied source."""
    return copy.with_name(f"{copy.name}.objects")
