"""One deploy: from a folder to the live release of an app, or to nothing changed."""

import asyncio
import contextlib
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from portway.auth.tokens import digest
from portway.host.builds import build
from portway.host.builds.build import BuildError
from portway.host.builds.source import SourceError, app_name, copy_source
from portway.host.instances.keeper import Starter
from portway.host.instances.readiness import NotReady, read_contract, tool_count
from portway.host.instances.runtime import Release
from portway.host.instances.supervisor import Supervisor
from portway.host.paths import Paths
from portway.host.routing_table import Access
from portway.host.store import Store, StoreError

Report = Callable[[str], Awaitable[None]]


class DeployError(Exception):
    """The deploy failed and changed nothing; the message is for who asked for it."""


@dataclass(frozen=True, slots=True)
class Deployed:
    """`token` is a new app's first one, None for an app that was there."""

    app: str
    release: int
    token: str | None
    tools: int
    duration_ms: int


class Deployer:
    """Runs deploys, one at a time for each app."""

    def __init__(self, paths: Paths, store: Store, supervisor: Supervisor, starter: Starter) -> None:
        self._paths = paths
        self._store = store
        self._supervisor = supervisor
        self._starter = starter
        self._busy: set[str] = set()

    async def deploy(self, folder: Path, name: str | None, report: Report, access: Access | None = None) -> Deployed:
        """Build `folder`, start it, switch to it; `report` gets a line for each step. Raises `DeployError`.

        `access` is the app's from then on; None leaves it, which of a new app is by token.
        """
        try:
            app = app_name(folder, name)
        except SourceError as error:
            raise DeployError(str(error)) from None
        with self.exclusive(app):
            return await self._deploy(app, folder, report, access)

    @contextlib.contextmanager
    def exclusive(self, app: str) -> Iterator[None]:
        """Nothing else is done to the app meanwhile. Raises `DeployError` when something is."""
        if app in self._busy:
            raise DeployError(f"{app} is being deployed or removed: wait for that to end")
        self._busy.add(app)
        try:
            yield
        finally:
            self._busy.discard(app)

    async def _deploy(self, app: str, folder: Path, report: Report, access: Access | None) -> Deployed:
        steps = _Steps(report)
        try:
            number = self._store.begin_release(app, str(folder))
        except StoreError as error:
            raise DeployError(str(error)) from None
        release = Release(app, number, self._paths.release(app, number), "")
        try:
            release = await self._build(release, folder, steps)
            instance = await self._starter.start(release)
            try:
                contract = await read_contract(instance, release.log)
                await steps.done("ready", f"{tool_count(contract)} tools")
                token = self._make_live(release, contract, access)
            except BaseException:
                await self._starter.stop(instance)
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
        # Past the point of no return: whoever asked may leave, the switch is made whole.
        await asyncio.shield(self._supervisor.switch(release, instance))
        await steps.done("switch", f"release {number}")
        return Deployed(app, number, token, tool_count(contract), steps.total_ms())

    async def _build(self, release: Release, folder: Path, steps: "_Steps") -> Release:
        await asyncio.to_thread(copy_source, folder, release.source)
        plan = build.read_plan(release.source)
        await steps.done("copy", f"{release.app}: {build.describe(plan)}")
        server = await build.build(release, plan, self._paths, self._store.variables(release.app))
        await steps.done("build", server)
        return replace(release, server=server)

    def _make_live(self, release: Release, contract: bytes, access: Access | None) -> str | None:
        """The first token of an app that asks for one, when it is new or was public; only its digest stays."""
        token, name = None, release.app
        before = self._store.app(name)
        assert before is not None
        is_new = not self._supervisor.serves(name) or before.access == "public"
        if is_new and (access or before.access) == "token" and not self._store.tokens(name):
            token = new_token()
            self._store.add_token(name, "default", digest(token), ())
        shown = contract.decode()
        self._store.finish_release(name, release.number, server=release.server, contract=shown, access=access)
        return token

    async def _abandon(self, release: Release, error: str) -> None:
        """Nothing of a failed release stays but its log and its error."""
        with contextlib.suppress(StoreError, OSError):  # a full disk is no reason to hide why it failed
            self._store.fail_release(release.app, release.number, error)
            await asyncio.to_thread(build.remove, release, keep_log=True)
            release.build_log.parent.mkdir(parents=True, exist_ok=True)
            with release.build_log.open("a") as log:
                log.write(f"{error.splitlines()[0]}\n")


class _Steps:
    """Reports each step with the seconds it took."""

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
    """A bearer token: 256 random bits, recognisable to secret scanners by its prefix."""
    return f"pw_{secrets.token_urlsafe(32)}"
