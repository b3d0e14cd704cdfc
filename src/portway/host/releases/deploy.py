"""Deploys: a source becomes the live release of an app, or nothing changes.

A release is in one of three states, which the store keeps:

    (none) → building    `begin_release`: it has a number and a row
    building → ready     it is built, its instance answers, its contract is stored; it is live from now on
    building → failed    a step failed, the deploy was cancelled, or the host stopped; its files go, its log stays

The steps, each reported when it is done: copy, build, ready, switch. After `building → ready` nothing is undone.
"""

import asyncio
import contextlib
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import msgspec

from portway.auth.tokens import digest
from portway.host.app_config import DEFAULT, AppConfig, Start
from portway.host.builds.build import build
from portway.host.builds.build_error import BuildError
from portway.host.builds.recipe import read_recipe
from portway.host.builds.source import Source, SourceError, app_name
from portway.host.instances.readiness import NotReady, read_contract, tool_count
from portway.host.instances.running_apps import RunningApps, as_token
from portway.host.instances.starter import Starter
from portway.host.paths import Paths
from portway.host.releases.release import Release
from portway.host.store import Store, StoreError
from portway.host.token_table import TokenChange

Report = Callable[[str], Awaitable[None]]
"""Takes one line for each step of a deploy."""


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


class Deployer:
    """Runs deploys, one at a time for each app."""

    def __init__(self, paths: Paths, store: Store, running: RunningApps, starter: Starter) -> None:
        self._paths = paths
        self._store = store
        self._running = running
        self._starter = starter
        self._busy: set[str] = set()

    async def deploy(self, source: Source, name: str | None, report: Report, changes: Mapping[str, object]) -> Deployed:
        """Build a release of `source`, start it and switch the app's calls to it. Raises `DeployError`.

        `changes` are fields of `AppConfig`; the others stay as they are in the live release.
        """
        try:
            app = app_name(source.name, name)
        except SourceError as error:
            raise DeployError(str(error)) from None
        with self.exclusive(app):
            return await self._deploy(app, source, report, changes)

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

    async def _deploy(self, app: str, source: Source, report: Report, changes: Mapping[str, object]) -> Deployed:
        steps = _Steps(report)
        try:
            config = msgspec.structs.replace(self._live_config(app), **changes)
            number = self._store.begin_release(app, source.location, after=self._paths.newest_release(app))
        except StoreError as error:
            raise DeployError(str(error)) from None
        release = Release(app, number, self._paths.release(app, number), config)
        try:
            start = await self._build(release, source, steps)
            release = replace(release, start=start)
            instances = [await self._starter.start(release)]
            try:
                contract = await read_contract(instances[0], release, self._starter.hostname(app))
                instances += await self._starter.start_all_ready(release, config.num_instances - 1)
                more = f", {len(instances)} instances" if len(instances) > 1 else ""
                await steps.done("ready", f"{tool_count(contract)} tools{more}")
                token = self._make_live(release, start, contract)
            except BaseException:
                await self._starter.stop_all(instances)
                raise
        except (SourceError, BuildError, NotReady, StoreError, OSError) as error:
            await self._abandon(release, str(error))
            raise DeployError(str(error)) from None
        except asyncio.CancelledError:
            await self._abandon(release, "the deploy was cancelled")
            raise
        except BaseException:
            await self._abandon(release, "the host failed; the log of `portway up` says how")
            raise
        # The release is live now: finish the switch even when the client leaves.
        await asyncio.shield(self._running.switch(release, instances))
        await steps.done("switch", f"release {number}")
        return Deployed(app, number, token, tool_count(contract), steps.total_ms())

    def _live_config(self, app: str) -> AppConfig:
        before = self._store.app(app)
        live = None if before is None or before.live is None else self._store.release(app, before.live)
        return live.config if live else DEFAULT

    async def _build(self, release: Release, source: Source, steps: "_Steps") -> Start:
        await asyncio.to_thread(source.copy_to, release.source)
        variables = self._store.variables(release.app)
        recipe = read_recipe(release.folder, release.config, variables)
        await steps.done("copy", f"{release.app}: {recipe.describe()}")
        if (disk := release.config.disk) is not None:
            release.make_storage()
            no_mount = f"; there is no sandbox to show it at {disk.mount_path}" if disk.mount_path else ""
            await steps.done("storage", f"{disk.size_gb} GB in PORTWAY_STORAGE{no_mount}")
        start = await build(release, recipe, self._paths, variables)
        await steps.done("build", start.name)
        return start

    def _make_live(self, release: Release, start: Start, contract: bytes) -> str | None:
        """Make the release the live one. Return a first token for an app that asks for tokens and is new or was public.

        Only its digest is kept.
        """
        token, name = None, release.app
        is_new = not self._running.serves(name) or self._live_config(name).access == "public"
        if is_new and release.config.access == "gate" and not self._store.tokens(name):
            token = new_token()
            added = self._store.add_token(name, "default", digest(token), ())
            self._running.write_tokens(TokenChange(as_token(added)))
        shown = contract.decode()
        self._store.finish_release(name, release.number, config=release.config, start=start, contract=shown)
        return token

    async def _abandon(self, release: Release, error: str) -> None:
        """Mark the release as failed, and delete all of it but its log."""
        with contextlib.suppress(StoreError, OSError):  # even on a full disk, the caller is told why the deploy failed
            self._store.fail_release(release.app, release.number, error)
            await asyncio.to_thread(release.remove, keep_log=True)
            release.build_log.parent.mkdir(parents=True, exist_ok=True)
            with release.build_log.open("a") as log:
                log.write(f"{error.splitlines()[0]}\n")


class _Steps:
    """Reports each step of a deploy with the seconds it took."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._begun = self._last = time.monotonic()

    async def done(self, step: str, detail: str) -> None:
        now = time.monotonic()
        took, self._last = now - self._last, now
        await self._report(f"{step} {took:.1f}s  {detail}")

    def total_ms(self) -> int:
        return round((time.monotonic() - self._begun) * 1000)


def new_token() -> str:
    """Return a bearer token: 256 random bits, with a prefix that secret scanners recognise."""
    return f"pw_{secrets.token_urlsafe(32)}"
