"""Deploys: a source becomes the live release of an app, or nothing changes.

A release is in one of three states, which the store keeps:

    (none) → building    `begin_release`: it has a number and a row
    building → ready     it is built, its instance answers, its contract is stored; it is live from now on
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
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import msgspec

from portway.auth.tokens import digest
from portway.host.app_config import DEFAULT, AppConfig, Start
from portway.host.blueprint.blueprint import read_blueprint
from portway.host.blueprint.problems import BlueprintError
from portway.host.builds.build import build
from portway.host.builds.build_error import BuildError
from portway.host.builds.preflight import look_after, look_before
from portway.host.builds.recipe import read_recipe
from portway.host.builds.source import Source, SourceError, app_folder, app_name
from portway.host.files import remove_tree
from portway.host.instances.readiness import NotReady, tool_count
from portway.host.instances.running_apps import RunningApps, as_token
from portway.host.instances.starter import Starter
from portway.host.paths import Paths
from portway.host.releases.release import Release
from portway.host.releases.start_release import StartedRelease, start_release
from portway.host.releases.steps import Report, Steps
from portway.host.store import Store, StoreError
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
    """A copied source, with where it came from and what its apps are told of it."""

    path: Path
    location: str
    variables: dict[str, str]


class Deployer:
    """Runs deploys, one at a time for each app."""

    def __init__(self, paths: Paths, store: Store, running: RunningApps, starter: Starter) -> None:
        self._paths = paths
        self._store = store
        self._running = running
        self._starter = starter
        self._busy: set[str] = set()

    async def deploy(
        self, source: Source, name: str | None, report: Report, changes: Mapping[str, object], *, skip: bool = False
    ) -> list[Deployed]:
        """Build a release of each app of `source`, start them and switch their calls to them. Raises `DeployError`.

        `changes` are fields of `AppConfig`; the others are as the blueprint says, or, without one, as in the live
        release. With `skip`, what of a blueprint is not hosted here is left out.
        """
        steps = Steps(report)
        copy = self._paths.draft()
        try:
            await asyncio.to_thread(source.copy_to, copy)
            configs = await self._configs(source, copy, name, report, changes, skip=skip)
            with contextlib.ExitStack() as stack:
                for app in configs:
                    stack.enter_context(self.exclusive(app))
                copied = _Copy(copy, source.location, await source.variables())
                staged = await self._stage_all(configs, copied, steps)
                # The releases are live now: finish the switch even when the client leaves.
                return await asyncio.shield(self._switch_all(staged, steps))
        except (SourceError, BlueprintError, StoreError, OSError) as error:
            raise DeployError(str(error)) from None
        finally:
            await asyncio.to_thread(remove_tree, copy)

    @contextlib.contextmanager
    def exclusive(self, app: str) -> Iterator[None]:
        """Keep other deploys and `destroy` from the app. Raises `DeployError` when one of them is under way."""
        if app in self._busy:
            raise DeployError(f"{app} is being deployed or removed: wait for that to end")
        self._busy.add(app)
        try:
            yield
        finally:
            self._busy.discard(app)

    async def _configs(
        self, source: Source, copy: Path, name: str | None, report: Report, changes: Mapping[str, object], *, skip: bool
    ) -> dict[str, AppConfig]:
        """Return the configuration of each app of a copied source."""
        blueprint = await asyncio.to_thread(read_blueprint, copy, name=name, skip=skip)
        if blueprint is None:
            app = app_name(source.name, name)
            configs = {app: self._live_config(app)}
        else:
            configs = blueprint.apps
            for warning in blueprint.warnings:
                await report(f"note  {warning}")
        if changes and len(configs) > 1:
            raise DeployError("the flags are for one service, and the blueprint has several: write them into it")
        configs = {app: msgspec.structs.replace(config, **changes) for app, config in configs.items()}
        for config in configs.values():
            app_folder(copy, config.root_dir)
        return configs

    async def _stage_all(
        self, configs: Mapping[str, AppConfig], copy: _Copy, steps: Steps
    ) -> list[tuple[StartedRelease, str | None]]:
        """Build and start a release of each app, then make all of them live, or none."""
        staged: list[StartedRelease] = []
        try:
            for app, config in configs.items():
                steps.label = f"{app}: " if len(configs) > 1 else ""
                number = self._store.begin_release(app, copy.location, after=self._paths.newest_release(app))
                release = Release(app, number, self._paths.release(app, number), config)
                staged.append(await self._stage(release, copy, steps, is_last=len(staged) == len(configs) - 1))
            return self._make_live(staged)
        except BaseException as error:
            is_cancelled = isinstance(error, asyncio.CancelledError)
            for stage in staged:
                await self._starter.stop_all(stage.instances)
                await self._abandon(
                    stage.release, "the deploy was cancelled" if is_cancelled else f"not made live: {error}"
                )
            if isinstance(error, DeployError) and len(configs) > 1:
                raise DeployError(f"{list(configs)[len(staged)]}: {error}") from None
            raise

    async def _stage(self, release: Release, copy: _Copy, steps: Steps, *, is_last: bool) -> StartedRelease:
        """Build and start a release. If that fails, nothing of it is left but its log."""
        try:
            start = await self._build(release, copy, steps, is_last=is_last)
            return await start_release(replace(release, start=start), self._starter, self._paths, steps)
        except (BuildError, NotReady, StoreError, OSError) as error:
            await self._abandon(release, str(error))
            raise DeployError(str(error)) from None
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

    def _live_config(self, app: str) -> AppConfig:
        before = self._store.app(app)
        live = None if before is None or before.live is None else self._store.release(app, before.live)
        return live.config if live else DEFAULT

    async def _build(self, release: Release, copy: _Copy, steps: Steps, *, is_last: bool) -> Start:
        """Build the copied source; the last app that needs the copy takes it."""
        release.directory.mkdir(parents=True)
        take = copy.path.rename if is_last else partial(shutil.copytree, copy.path, symlinks=True)
        await asyncio.to_thread(take, release.source)
        variables = self._store.variables(release.app)
        recipe = read_recipe(release.folder, release.config, variables)
        await steps.done("copy", f"{'' if steps.label else f'{release.app}: '}{recipe.describe()}")
        await steps.warn(await asyncio.to_thread(look_before, release.folder, release.config, recipe, variables))
        if (disk := release.config.disk) is not None:
            release.make_storage()
            no_mount = f"; there is no sandbox to show it at {disk.mount_path}" if disk.mount_path else ""
            await steps.done("storage", f"{disk.size_gb} GB in PORTWAY_STORAGE{no_mount}")
        start = await build(release, recipe, self._paths, variables)
        start = msgspec.structs.replace(start, variables=start.variables | copy.variables)
        await steps.done("build", start.name)
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
        is_new = not self._running.serves(name) or self._live_config(name).access == "public"
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


def new_token() -> str:
    """Return a bearer token: 256 random bits, with a prefix that secret scanners recognise."""
    return f"pw_{secrets.token_urlsafe(32)}"
