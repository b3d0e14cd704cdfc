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
import secrets
import shutil
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import msgspec

from portway.auth.tokens import digest
from portway.host.app_config import DEFAULT, AppConfig, EnvSource, Start
from portway.host.blueprint.blueprint import read_blueprint
from portway.host.blueprint.problems import BlueprintError
from portway.host.builds.build import build
from portway.host.builds.build_error import BuildError
from portway.host.builds.preflight import look_after, look_before
from portway.host.builds.recipe import read_recipe
from portway.host.builds.secret_scan import refuse_secrets
from portway.host.builds.source import Source, SourceError, app_folder, app_name
from portway.host.files import remove_tree
from portway.host.instances.readiness import NotReady, tool_count
from portway.host.instances.running_apps import RunningApps, as_token
from portway.host.instances.starter import Starter
from portway.host.paths import Paths
from portway.host.releases.release import Release
from portway.host.releases.start_release import StartedRelease, start_release
from portway.host.releases.steps import Report, Steps
from portway.host.sandbox.walls import WallsError
from portway.host.secrets.environments import Environment, Environments
from portway.host.secrets.messages import hide, missing_variables
from portway.host.secrets.variables import Owner, VariableError
from portway.host.store import ReleaseRecord, Store, StoreError
from portway.host.token_table import TokenChange


class DeployError(Exception):
    """The deploy failed and changed nothing; the message is for the person who asked for it."""


@dataclass(frozen=True, slots=True)
class Deployed:
    """A deploy that succeeded. `token` is the first one of a new app, None for an app that was there."""

    app: str
    release: int
    token: str | None
    tools: int
    duration_ms: int


@dataclass(frozen=True, slots=True)
class _Copy:
    """A copied source, and what its apps are told of it."""

    path: Path
    variables: dict[str, str]


@dataclass(frozen=True, slots=True)
class DeployOptions:
    """What a deploy is told beside its source.

    `changes` are fields of `AppConfig`; the others are as the blueprint says, or, without one, as in the live release.
    `variables` are set first, and stay when the deploy fails. Files of the source that are `allowed` may hold secrets.
    With `skip`, what of a blueprint is not hosted here is left out.
    """

    name: str | None = None
    changes: Mapping[str, object] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    allowed: Sequence[str] = ()
    skip: bool = False


@dataclass(frozen=True, slots=True)
class _Plan:
    """A release that is to be made: `make` brings its files to their place, unless it `shares` those of another."""

    app: str
    config: AppConfig
    environment: Environment
    location: str
    make: Callable[[Release], Awaitable[Start]]
    shares: int | None = None


class Deployer:
    """Runs deploys, one at a time for each app."""

    def __init__(
        self, paths: Paths, store: Store, running: RunningApps, starter: Starter, environments: Environments
    ) -> None:
        self._paths = paths
        self._store = store
        self._running = running
        self._starter = starter
        self.environments = environments
        self._busy: set[str] = set()

    async def deploy(self, source: Source, report: Report, options: DeployOptions) -> list[Deployed]:
        """Build a release of each app of `source`, start them and switch their calls to them. Raises `DeployError`."""
        steps = Steps(report)
        copy = self._paths.draft()
        try:
            await asyncio.to_thread(source.copy_to, copy)
            configs, groups = await self._configs(source, copy, report, options)
            with self.exclusive(*configs):
                environments = self._resolve(configs, groups, options.variables)
                for environment in environments.values():
                    for note in environment.notes:
                        await report(f"note  {note}")
                    await asyncio.to_thread(refuse_secrets, copy, environment.secrets, options.allowed)
                copied = _Copy(copy, await source.variables())
                plans = [
                    _Plan(
                        app,
                        config,
                        environments[app],
                        source.location,
                        partial(self._build, copied, environments[app], steps, is_last=number == len(configs)),
                    )
                    for number, (app, config) in enumerate(configs.items(), 1)
                ]
                done = await self._release_all(plans, steps)
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
                live = self._live(app)
                if live is None:
                    return None
                environment = self.environments.resolve(app, live.config)
                if environment.values == self.environments.variables.of_release(app, live.number):
                    return None
                share = partial(_share_files, live)
                plan = _Plan(app, live.config, environment, live.source, share, live.files or live.number)
                return (await self._release_all([plan], Steps(report)))[0]
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

    async def _configs(
        self, source: Source, copy: Path, report: Report, options: DeployOptions
    ) -> tuple[Mapping[str, AppConfig], Mapping[str, Mapping[str, EnvSource]]]:
        """Return the configuration of each app of a copied source, and the variables of each group it defines."""
        blueprint = await asyncio.to_thread(read_blueprint, copy, name=options.name, skip=options.skip)
        if blueprint is None:
            app = app_name(source.name, options.name)
            configs = {app: self._live_config(app)}
        else:
            configs = blueprint.apps
            for warning in blueprint.warnings:
                await report(f"note  {warning}")
        if (options.changes or options.variables) and len(configs) > 1:
            raise DeployError("the flags are for one service, and the blueprint has several: write them into it")
        configs = {app: msgspec.structs.replace(config, **options.changes) for app, config in configs.items()}
        for app, config in configs.items():
            app_folder(copy, config.root_dir)
            if config.access == "app":
                try:
                    self._starter.walls.require_for_secrets(f"access app, which hands callers' tokens to {app},")
                except WallsError as error:
                    raise DeployError(str(error)) from None
            if config.upstream_token and config.access != "gate":
                raise DeployError(
                    f"{app} gets no token of its own from the gate with access {config.access}: leave upstreamToken "
                    "out, or take it back by --upstream-token ''"
                )
        return configs, blueprint.groups if blueprint else {}

    def _resolve(
        self,
        configs: Mapping[str, AppConfig],
        groups: Mapping[str, Mapping[str, EnvSource]],
        given: Mapping[str, str],
    ) -> dict[str, Environment]:
        """Set what the deploy sets, and return the environment of each app. Raises `VariableError`."""
        environments, lacking = {}, []
        for group, env in groups.items():
            try:
                self.environments.define_group(group, env)
            except VariableError as error:
                lacking.append(str(error))
        for app, config in configs.items():
            self.environments.put(Owner("app", app), given, config)
            self.environments.generate(app, config.env)
        for app, config in configs.items():
            try:
                environments[app] = self.environments.resolve(app, config)
            except VariableError as error:
                lacking.append(str(error))
        if lacking:
            raise VariableError("; ".join(lacking))
        return environments

    async def _release_all(self, plans: Sequence[_Plan], steps: Steps) -> list[Deployed]:
        """Make and start a release for each plan, then make all of them live, or none."""
        staged: list[StartedRelease] = []
        try:
            for plan in plans:
                steps.label = f"{plan.app}: " if len(plans) > 1 else ""
                staged += [await self._stage(plan, steps)]
            made = self._make_live(staged)
        except BaseException as error:
            is_cancelled = isinstance(error, asyncio.CancelledError)
            for stage in staged:
                await self._starter.stop_all(stage.instances)
                await self._abandon(
                    stage.release, "the deploy was cancelled" if is_cancelled else f"not made live: {error}"
                )
            if isinstance(error, DeployError) and len(plans) > 1:
                raise DeployError(f"{plans[len(staged)].app}: {error}") from None
            raise
        # The releases are live now: finish the switch even when the client leaves.
        return await asyncio.shield(self._switch_all(made, steps))

    async def _stage(self, plan: _Plan, steps: Steps) -> StartedRelease:
        """Make and start a release. If that fails, nothing of it is left but its log."""
        app, newest = plan.app, self._paths.newest_release(plan.app)
        number = self._store.begin_release(app, plan.location, after=newest, files=plan.shares)
        shared = None if plan.shares is None else self._paths.release(app, plan.shares)
        release = Release(app, number, self._paths.release(app, number), plan.config, shared=shared)
        try:
            self.environments.variables.keep(app, number, plan.environment.values)
            start = await plan.make(release)
            return await start_release(replace(release, start=start), self._starter, self._paths, steps)
        except (BuildError, NotReady, StoreError, OSError) as error:
            told = _told(str(error), release, plan.environment)
            await self._abandon(release, told)
            raise DeployError(told) from None
        except asyncio.CancelledError:
            await self._abandon(release, "the deploy was cancelled")
            raise
        except BaseException:
            await self._abandon(release, "the host failed; the log of `portway up` says how")
            raise

    async def _switch_all(self, staged: list[tuple[StartedRelease, str | None]], steps: Steps) -> list[Deployed]:
        done = []
        for stage, token in staged:
            release = stage.release
            steps.label = f"{release.app}: " if len(staged) > 1 else ""
            await self._running.switch(release, stage.instances)
            await steps.done("switch", f"release {release.number}")
            done.append(Deployed(release.app, release.number, token, tool_count(stage.contract), steps.total_ms()))
        return done

    def _live(self, app: str) -> ReleaseRecord | None:
        before = self._store.app(app)
        return None if before is None or before.live is None else self._store.release(app, before.live)

    def _live_config(self, app: str) -> AppConfig:
        live = self._live(app)
        return live.config if live else DEFAULT

    async def _build(
        self, copy: _Copy, environment: Environment, steps: Steps, release: Release, *, is_last: bool
    ) -> Start:
        """Build the copied source; the last app that needs the copy takes it."""
        release.directory.mkdir(parents=True)
        take = copy.path.rename if is_last else partial(shutil.copytree, copy.path, symlinks=True)
        await asyncio.to_thread(take, release.source)
        recipe = await asyncio.to_thread(read_recipe, release.folder, release.config, environment.values)
        await steps.done("copy", f"{'' if steps.label else f'{release.app}: '}{recipe.describe()}")
        await steps.warn(
            await asyncio.to_thread(look_before, release.folder, release.config, recipe, environment.values)
        )
        if (disk := release.config.disk) is not None:
            release.make_storage()
            no_mount = ""
            if disk.mount_path and not self._starter.walls.bubblewrap:
                no_mount = f"; there is no sandbox to show it at {disk.mount_path}"
            await steps.done("storage", f"{disk.size_gb} GB in PORTWAY_STORAGE{no_mount}")
        walls = self._starter.walls
        variables = self._starter.variables(release) | copy.variables
        del variables["PORTWAY_KEYS"]  # no build can sign for the app
        start = await build(release, recipe, self._paths, variables, walls.bubblewrap)
        start = msgspec.structs.replace(start, variables=start.variables | copy.variables)
        await steps.done("build", start.name)
        await steps.done("walls", "; ".join(walls.lines()))
        await steps.warn(await asyncio.to_thread(look_after, release, recipe))
        return start

    def _make_live(self, staged: list[StartedRelease]) -> list[tuple[StartedRelease, str | None]]:
        """Make the releases the live ones, all at once.

        Return each with a first token if its app asks for tokens and is new or was public. Only its digest is kept.
        """
        tokens = [self._first_token(stage.release) for stage in staged]
        self._store.finish_releases([stage.finished() for stage in staged])
        return list(zip(staged, tokens, strict=True))

    def _first_token(self, release: Release) -> str | None:
        name = release.app
        is_new = not self._running.serves(name) or self._live_config(name).access != "gate"
        if not is_new or release.config.access != "gate" or self._store.tokens(name):
            return None
        token = new_token()
        added = self._store.add_token(name, "default", digest(token), ())
        self._running.write_tokens(TokenChange(as_token(added)))
        return token

    async def _abandon(self, release: Release, error: str) -> None:
        """Mark the release as failed, and delete all of it but its log."""
        with contextlib.suppress(StoreError, OSError):  # even on a full disk, the caller is told why the deploy failed
            self._store.fail_release(release.app, release.number, error)
            await asyncio.to_thread(release.remove, keep_log=True)
            release.build_log.parent.mkdir(parents=True, exist_ok=True)
            with release.build_log.open("a") as log:
                log.write(f"{error.splitlines()[0]}\n")


def _told(error: str, release: Release, environment: Environment) -> str:
    """Return what is told of an error: without secrets, and with the command that sets what the app misses."""
    missing = missing_variables(error, environment.values, release.source)
    mend = Owner("app", release.app).command("set", " ".join(f"{name}=…" for name in missing))
    return hide(error, environment.secrets) + (f"\n  it lacks a variable: run `{mend}`" if missing else "")


async def _share_files(live: ReleaseRecord, release: Release) -> Start:
    assert live.start is not None
    for folder in ("log", "tmp"):
        (release.directory / folder).mkdir(parents=True)
    return live.start


def new_token() -> str:
    """Return a bearer token: 256 random bits, with a prefix that secret scanners recognise."""
    return f"pw_{secrets.token_urlsafe(32)}"
