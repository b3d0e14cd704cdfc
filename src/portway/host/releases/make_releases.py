"""Makes releases: numbered, built, started, their contracts reviewed, switched live together, or undone together when
one fails.
"""

import asyncio
import contextlib
import shutil
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import msgspec

from portway.auth.tokens import digest
from portway.host.app_config import DEFAULT, AppConfig, Start
from portway.host.builds.build import build
from portway.host.builds.build_environment import build_environment, needs_loopback
from portway.host.builds.build_error import BuildError
from portway.host.builds.preflight import look_after, look_before
from portway.host.builds.recipe import read_recipe
from portway.host.contracts.contract_changes import ContractReport
from portway.host.contracts.contract_review import refusal, review
from portway.host.contracts.diff import diff
from portway.host.contracts.hidden_text import HiddenText
from portway.host.contracts.read_contract import tool_count
from portway.host.contracts.unused_policies import UnknownArguments
from portway.host.git.git_command import GitError
from portway.host.git.release_commits import NewCommit, ReleaseCommits
from portway.host.instances.drain_report import Draining
from portway.host.instances.readiness import NotReady
from portway.host.instances.running_apps import RunningApps, as_tokens
from portway.host.instances.starter import Starter
from portway.host.logs.log_file import write_to
from portway.host.new_token import new_token
from portway.host.paths import Paths
from portway.host.releases.deploy_error import DeployError
from portway.host.releases.prune import prune
from portway.host.releases.release import Release
from portway.host.releases.start_release import StartedRelease, pre_deploy, start_release
from portway.host.releases.steps import Steps
from portway.host.secrets.environments import Environment, Environments
from portway.host.secrets.redact import hide, missing_variables
from portway.host.secrets.variables import Owner
from portway.host.store import Cause, Store, StoreError
from portway.host.token_table import TokenChange

_DRAIN_SECONDS = 1.0  # that a deploy waits for the calls of the old release, to tell how they end


@dataclass(frozen=True, slots=True)
class Deployed:
    """A deploy that succeeded. `token` is the first one of a new app, None for an app that was there.

    `contract` is what has changed for clients, and `before` the release that was live; None for a first release.
    """

    app: str
    release: int
    token: str | None
    tools: int
    duration_ms: int
    contract: ContractReport | None
    before: int | None


@dataclass(frozen=True, slots=True)
class SourceCopy:
    """A copied source, and what its apps are told of it."""

    path: Path
    variables: dict[str, str]


@dataclass(frozen=True, slots=True)
class ReleasePlan:
    """A release that is to be made: `make` brings its files to their place, unless it `shares` those of another.

    `accept` names the changes of its contract that do not stop it. Nothing stops a rollback.
    """

    app: str
    config: AppConfig
    environment: Environment
    location: str
    cause: Cause
    make: Callable[[Release], Awaitable[Start]]
    shares: int | None = None
    accept: Sequence[str] = ()
    commit: NewCommit | None = None  # of its source


@dataclass(frozen=True, slots=True)
class _Live:
    """A release that is live now, with a first token of its app, if it got one, and the number of the one before."""

    stage: StartedRelease
    token: str | None
    before: int | None


class ReleaseMaker:
    """Makes releases. If one of those that belong together fails, nothing of them is left but their logs."""

    def __init__(
        self,
        paths: Paths,
        store: Store,
        running: RunningApps,
        starter: Starter,
        environments: Environments,
        commits: ReleaseCommits,
    ) -> None:
        self._paths = paths
        self._store = store
        self._running = running
        self._starter = starter
        self._environments = environments
        self._commits = commits
        self._logging: set[asyncio.Task[None]] = set()

    async def release_all(
        self, plans: Sequence[ReleasePlan], steps: Steps, permit: Callable[[], None] | None = None
    ) -> list[Deployed]:
        """Make and start a release for each plan, then make all of them live, or none.

        `permit`, which is called just before, raises `DeployError` if they may not become live.
        """
        staged: list[StartedRelease] = []
        try:
            for plan in plans:
                steps.label = f"{plan.app}: " if len(plans) > 1 else ""
                staged += [await self._stage(plan, steps)]
            staged = await self._reviewed(plans, staged, steps)
            for plan, stage in zip(plans, staged, strict=True):
                if plan.commit is not None:
                    await asyncio.to_thread(self._commits.keep, stage.release.number, plan.commit)
            if permit is not None:
                permit()
            made = self._make_live(staged)
        except BaseException as error:
            is_cancelled = isinstance(error, asyncio.CancelledError)
            for stage in staged:
                await self._starter.stop_all(stage.instances)
                await self._abandon(
                    stage.release, "the deploy was cancelled" if is_cancelled else f"not made live: {error}"
                )
            if isinstance(error, DeployError) and len(staged) < len(plans) > 1:
                raise DeployError(f"{plans[len(staged)].app}: {error}") from None
            raise
        # The releases are live now: finish the switch even when the client leaves.
        return await asyncio.shield(self._switch_all(made, steps))

    async def build_release(
        self, copy: SourceCopy, environment: Environment, steps: Steps, release: Release, *, is_last: bool
    ) -> Start:
        """Build the copied source; the last app that needs the copy takes it."""
        release.directory.mkdir(parents=True, exist_ok=True)  # one of a restored host has its logs there
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
        start, is_cached = await build(release, recipe, self._paths, variables, walls)
        start = msgspec.structs.replace(start, variables=start.variables | copy.variables)
        await steps.done("build", f"{start.name}{'  [cached]' if is_cached else ''}")
        await steps.done("walls", "; ".join(walls.lines()))
        await steps.warn(walls.unkept(release.config.limits))
        if walls.network.stands and needs_loopback(build_environment(self._paths), self._paths):
            await steps.note(
                "builds share the host's network, as an index, registry or proxy of theirs is on its loopback"
            )
        await steps.warn(await asyncio.to_thread(look_after, release, recipe))
        return start

    async def _stage(self, plan: ReleasePlan, steps: Steps) -> StartedRelease:
        """Make and start a release. If that fails, nothing of it is left but its log."""
        app, newest = plan.app, self._paths.newest_release(plan.app)
        number = self._store.begin_release(app, plan.location, after=newest, files=plan.shares, cause=plan.cause)
        shared = None if plan.shares is None else self._paths.release(app, plan.shares)
        release = Release(app, number, self._paths.release(app, number), plan.config, shared=shared)
        steps.log = release.build_log
        try:
            self._environments.variables.keep(app, number, plan.environment.values)
            start = await plan.make(release)
            release = replace(release, start=start)
            if plan.cause.kind not in ("rollback", "restart"):  # what was done before a release first served is done
                await pre_deploy(release, self._starter, self._paths, steps)
            is_new = plan.cause.kind in ("deploy", "push", "link")
            return await start_release(release, self._starter, steps, is_new=is_new)
        except (BuildError, NotReady, HiddenText, UnknownArguments, StoreError, OSError) as error:
            told = _told(str(error), release, plan.environment)
            await self._abandon(release, told)
            raise DeployError(told) from None
        except asyncio.CancelledError:
            await self._abandon(release, "the deploy was cancelled")
            raise
        except BaseException:
            await self._abandon(release, "the host failed; the log of `portway up` says how")
            raise

    async def _reviewed(
        self, plans: Sequence[ReleasePlan], staged: Sequence[StartedRelease], steps: Steps
    ) -> list[StartedRelease]:
        """Report how the contract of each release differs from that of the live one. Raises `DeployError`.

        One change that is stopped, and not accepted, stops them all.
        """
        reviews, reviewed = [], []
        for plan, stage in zip(plans, staged, strict=True):
            live = self._store.live_release(plan.app)
            served = "" if live is None else self._store.contract(plan.app, live.number)
            if not served:
                reviewed.append(stage)
                continue
            steps.label = f"{plan.app}: " if len(plans) > 1 else ""
            steps.log = stage.release.build_log
            changes = await asyncio.to_thread(diff, served, stage.contract.decode())
            await steps.done("contract", "\n".join(changes.lines()))
            policy = "report" if plan.cause.kind == "rollback" else plan.config.contract
            reviews.append(review(plan.app, changes, policy))
            reviewed.append(replace(stage, changes=changes, accepted=reviews[-1].id))
        if stopped := refusal(reviews, [each for plan in plans for each in plan.accept]):
            raise DeployError(
                "the contract changes in a way that x-portway.contract stops; the live release serves on\n" + stopped
            )
        return reviewed

    async def _switch_all(self, made: Sequence[_Live], steps: Steps) -> list[Deployed]:
        """Switch the calls of each app to its new release, and tell how those of the old one end."""
        done, ends = [], []
        for live in made:
            stage, release = live.stage, live.stage.release
            steps.label, steps.log = f"{release.app}: " if len(made) > 1 else "", release.build_log
            draining = await self._running.switch(release, stage.instances)
            with contextlib.suppress(GitError):  # the log has it, and the next start mends it
                await asyncio.to_thread(self._commits.follow, release.app)
            is_pinned = live.before is not None and release.config.drain == "pin"
            stays = f"; release {live.before} stays while it has sessions" if is_pinned else ""
            await steps.done("switch", f"release {release.number}{stays}")
            tools, took = tool_count(stage.contract), steps.total_ms()
            done.append(Deployed(release.app, release.number, live.token, tools, took, stage.report(), live.before))
            ends += [(steps.label, steps.log, draining)] if draining else []
        for label, log, draining in ends:
            steps.label, steps.log = label, log
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(draining.over.wait(), _DRAIN_SECONDS)
            if told := str(draining):
                await steps.done("drain", told)
            if not draining.over.is_set():
                logging = asyncio.create_task(_log_drain(log, draining))
                self._logging.add(logging)
                logging.add_done_callback(self._logging.discard)
        return done

    def _make_live(self, staged: list[StartedRelease]) -> list[_Live]:
        """Make the releases the live ones, all at once.

        An app that asks for tokens gets a first one if it is new or was public. Only its digest is kept.
        """
        self._running.domains.refuse({stage.release.app: stage.release.config for stage in staged})
        tokens = [self._first_token(stage.release) for stage in staged]
        before = [self._store.live_release(stage.release.app) for stage in staged]
        self._store.finish_releases([stage.finished() for stage in staged])
        numbers = [None if record is None else record.number for record in before]
        return [_Live(*each) for each in zip(staged, tokens, numbers, strict=True)]

    def _first_token(self, release: Release) -> str | None:
        name = release.app
        is_new = not self._running.serves(name) or (self._store.live_config(name) or DEFAULT).access != "gate"
        if not is_new or release.config.access != "gate" or self._store.tokens(name):
            return None
        token = new_token()
        added = self._store.add_token(name, "default", digest(token), ())
        self._running.write_tokens(*map(TokenChange, as_tokens(added)))
        return token

    async def _abandon(self, release: Release, error: str) -> None:
        """Mark the release as failed, and delete all of it but its log."""
        with contextlib.suppress(StoreError, OSError):  # even on a full disk, the caller is told why the deploy failed
            self._store.fail_release(release.app, release.number, error)
            await asyncio.to_thread(release.keep_only_logs, error)
            await prune(self._store, self._paths, release.app)


async def _log_drain(log: Path, draining: Draining) -> None:
    """Write to the log of a release how the calls of the one before have ended."""
    await draining.over.wait()
    if told := str(draining):
        with contextlib.suppress(OSError):  # the release is gone by now
            await asyncio.to_thread(write_to, log, f"-----> drain  {told}")


def _told(error: str, release: Release, environment: Environment) -> str:
    """Return what is told of an error: without secrets, and with the command that sets what the app misses."""
    missing = missing_variables(error, environment.values, release.source)
    mend = Owner("app", release.app).command("set", " ".join(f"{name}=…" for name in missing))
    return hide(error, environment.secrets) + (f"\n  it lacks a variable: run `{mend}`" if missing else "")
