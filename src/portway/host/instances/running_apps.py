"""The instances of all apps: switched at a deploy, old ones drained and stopped, taken over at a start of control; and
the routing table written for the gate.
"""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from portway.host import routing_table
from portway.host.app_policies import PolicySource
from portway.host.builds.build_error import BuildError
from portway.host.domains import Domains
from portway.host.files import remove_tree
from portway.host.gate_client import GateClient
from portway.host.instances.drain_report import Draining
from portway.host.instances.instance_group import InstanceGroup
from portway.host.instances.keeper import Keeper
from portway.host.instances.pinned_instances import Pinned
from portway.host.instances.readiness import NotReady, until_answers
from portway.host.instances.runtime import Instance, Runtime
from portway.host.instances.starter import Starter
from portway.host.instances.storage import StorageWatch
from portway.host.paths import Paths
from portway.host.releases.prune import go_on_destroying, prune, prune_orphans
from portway.host.releases.release import Release
from portway.host.store import InstanceRecord, Store, StoreError, TokenRecord
from portway.host.token_table import Token, TokenChange, TokenWriter

_ADOPT_SECONDS = 5.0
_INTERRUPTED = "the host stopped during the deploy"
_REBUILD_SECONDS = 300.0  # until the next try of a build that has failed
_CHECK_SECONDS = 1.0  # between looks at the files that the gate reads
_log = logging.getLogger("portway.host")


@dataclass(slots=True)
class Unbuilt:
    """The live release of an app of a restored host, whose files are being built. `fault` says why they could not."""

    release: Release
    fault: str = ""


class RunningApps:
    """Keeps the instances of every app with a live release, and writes the routing table whenever one changes."""

    def __init__(self, paths: Paths, store: Store, runtime: Runtime, starter: Starter) -> None:
        self.groups: dict[str, InstanceGroup] = {}
        self.unbuilt: dict[str, Unbuilt] = {}
        self.storage = StorageWatch(paths, self.groups)
        self._paths = paths
        self.domains = Domains(store, starter.address.domain)
        self._store = store
        self._runtime = runtime
        self._starter = starter
        self._gate = GateClient(paths)
        former = routing_table.load(paths.routes)
        self._version = former.version
        self._serving = {instance.id for app in former.apps.values() for instance in (*app.instances, *app.pinned)}
        self._written: os.stat_result | None = None  # the table's file as last written
        self.policies = PolicySource(store)
        self._tokens = TokenWriter(paths.tokens)
        self._publishing = asyncio.Lock()
        self._former = former
        self.pinned = Pinned(self._publish_surely, self._gate.is_used)
        self._replaced: set[str] = set()  # ids of instances that are being replaced
        self._stale = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._retiring: dict[str, set[asyncio.Task[None]]] = {}  # by app: the tasks that end its earlier releases

    async def resume(self, build: Callable[[Release], Awaitable[Release]]) -> None:
        """Continue after an earlier control: adopt live instances, end unknown ones, start missing ones.

        `build` gives a release of a restored host its files.
        """
        await self._fail_interrupted()
        live = {app.name: self.release(app.name, app.live) for app in self._store.apps() if app.live is not None}
        records = self._store.instances()
        found = await asyncio.gather(*(self._adopt(record, live.get(record.app)) for record in records))
        adopted: dict[str, list[Instance]] = {app: [] for app in live}
        leaving: list[tuple[Instance, Release]] = []
        for record, instance in zip(records, found, strict=True):
            if instance is None:
                continue
            release = self.release(record.app, record.release)
            wanted = release.config.num_instances if record.release == live[record.app].number else 0
            if len(adopted[record.app]) < wanted:
                adopted[record.app].append(instance)
            else:
                leaving.append((instance, release))
        kept = {instance.id for instances in adopted.values() for instance in instances}
        kept |= {instance.id for instance, _ in leaving}
        await self._runtime.sweep(kept)
        for record in records:
            if record.id not in kept:
                self._store.forget_instance(record.id)
        for app, release in live.items():
            known = self._store.release(app, release.number)
            if known is not None and self._paths.unbuilt(app, known.build).exists():
                self.unbuilt[app] = Unbuilt(release)
                self._spawn(self._build(self.unbuilt[app], build))
            else:
                self._keep(release, adopted[app], known.restarts if known else 0)
        retired = self._pin_again(leaving)
        await self.publish()
        for keepers, release in retired:
            self._begin_to_retire(keepers, release)
        self._spawn(self._follow())
        self._spawn(self.storage.run())

    @property
    def isolation(self) -> str:
        """The walls around every instance, as `portway ps` shows them."""
        return self._runtime.walls.summary()

    def hosts(self) -> dict[str, list[str]]:
        """Return the custom domains of each live app that has some."""
        hosts: dict[str, list[str]] = {}
        live = [unbuilt.release for unbuilt in self.unbuilt.values()]
        live += [group.release for group in self.groups.values()]
        for domain in self.domains.all({release.app: release.config for release in live}):
            hosts.setdefault(domain.app, []).append(domain.name)
        return hosts

    def serves(self, app: str) -> bool:
        return app in self.groups or app in self.unbuilt

    async def switch(self, release: Release, instances: Sequence[Instance]) -> Draining | None:
        """Send the app's calls to `instances`; in the background, drain and stop those that served them before.

        Return how their calls end; None when there were none, or they stay for their sessions.
        """
        self.unbuilt.pop(release.app, None)
        old = self.groups.pop(release.app, None)
        keepers = old.keepers if old else []
        self._keep(release, instances)
        released = self.pinned.release(release.app)
        if old is not None and release.config.drain == "pin":
            self.pinned.pin(release.app, keepers, time.time() + self._starter.limits.pin_seconds)
        await self._publish_surely()
        released.set()
        if old is None:
            return None
        delay = old.release.config.max_shutdown_delay_seconds
        draining = Draining(old.release.number, delay, len(keepers))
        self._begin_to_retire(keepers, release, draining)
        return None if release.config.drain == "pin" else draining

    def replace_unreachable(self) -> None:
        """Start another instance for each whose socket someone has removed."""
        for group in self.groups.values():
            for keeper in group.keepers:
                instance = keeper.instance
                if instance is not None and instance.id not in self._replaced and not instance.is_reachable():
                    self._replaced.add(instance.id)
                    self._spawn(self._replace(group, keeper))

    async def remove(self, app: str) -> None:
        """Remove the app from the routing table, let its calls end, stop it."""
        self.unbuilt.pop(app, None)
        group = self.groups.pop(app, None)
        released = self.pinned.release(app)
        await self.publish()
        released.set()
        if group is not None:
            await self._end(group.keepers)
        await asyncio.gather(*self._retiring.pop(app, ()), return_exceptions=True)

    async def close(self) -> None:
        """Stop every instance. The gate has ended by now."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(keeper.end() for group in self.groups.values() for keeper in group.keepers))
        await self._runtime.sweep(set())
        await self.publish()

    async def publish(self) -> bool:
        """Write the table and have the gate read it. Return False when no gate answered: one that starts reads it."""
        async with self._publishing:
            self._version += 1
            self.write_tokens()
            routing_table.save(self._paths.routes, self._table())
            self._written = self._paths.routes.stat()
            return await self._gate.table()

    def write_tokens(self, *changes: TokenChange) -> None:
        """Write a change of the store's tokens, or all of them if the file is damaged. Raises OSError."""
        if not self._tokens.append(changes):
            self._tokens.write(token for record in self._store.tokens() for token in as_tokens(record))

    async def publish_tokens(self, *changes: TokenChange) -> None:
        """Write a change of the store's tokens and have the gate read it. Raises OSError."""
        is_whole = self._is_published()
        async with self._publishing:
            self.write_tokens(*changes)
            await self._gate.tokens()
        if not is_whole:
            await self.publish()

    def release(self, app: str, number: int) -> Release:
        """Return the release of that number, as the store knows it."""
        known = self._store.release(app, number)
        directory = self._paths.release(app, number)
        if known is None:
            return Release(app, number, directory)
        shared = None if known.files is None else self._paths.release(app, known.files)
        return Release(app, number, directory, known.config, known.start, shared)

    def _table(self) -> routing_table.Table:
        apps = {}
        hosts, off = self.hosts(), self.policies.off()
        for app in self._store.apps():
            if group := self.groups.get(app.name):
                apps[app.name] = self._entry(group.release, group.state, group.reason, group.up, hosts, off)
            elif unbuilt := self.unbuilt.get(app.name):
                state: routing_table.State = "crashed" if unbuilt.fault else "starting"
                apps[app.name] = self._entry(unbuilt.release, state, unbuilt.fault, [], hosts, off)
        return routing_table.Table(self._version, self._starter.address.domain, apps, self._starter.address.url)

    def _entry(
        self,
        release: Release,
        state: routing_table.State,
        reason: str,
        up: Sequence[Instance],
        hosts: dict[str, list[str]],
        off: dict[str, list[str]],
    ) -> routing_table.App:
        config = release.config
        return routing_table.App(
            release.app,
            release.number,
            config.access,
            state,
            [routing_table.InstanceAddress(instance.id, instance.address) for instance in up],
            hosts=hosts.get(release.app, []),
            reason=reason,
            origins=config.origins,
            path=config.path,
            routes=config.routes,
            upstream_token=self._starter.token_for_gate(release),
            pinned=[
                routing_table.InstanceAddress(instance.id, instance.address) for instance in self.pinned.up(release.app)
            ],
            pinned_until=self.pinned.until(release.app),
            foreign=release.start is not None and not release.start.on_socket,
            policies=self.policies.of(release, off.get(release.app, ())),
            auth=self._starter.logins.in_use(release.app, config),
            assertion=self._starter.assertions.of(release.app, config),
        )

    async def _build(self, unbuilt: Unbuilt, build: Callable[[Release], Awaitable[Release]]) -> None:
        """Build the live release of an app and keep it running; when that fails, try again later while it is live."""
        app = unbuilt.release.app
        while self.unbuilt.get(app) is unbuilt:
            try:
                built = await build(unbuilt.release)
            except BuildError as error:
                _log.error("%s: %s", app, error)  # no traceback
                unbuilt.fault = str(error)
                self._stale.set()
                await asyncio.sleep(_REBUILD_SECONDS)
            else:
                if self.unbuilt.get(app) is unbuilt:  # no deploy was faster
                    del self.unbuilt[app]
                    self._keep(built, ())
                    self._stale.set()
                return

    def _is_published(self) -> bool:
        """Whether the files that the gate reads when it starts are as they were written."""
        try:
            found = self._paths.routes.stat()
        except OSError:
            return False
        written = self._written
        is_whole = written is None or (os.path.samestat(found, written) and found.st_size == written.st_size)
        return is_whole and self._tokens.is_intact()

    def _keep(self, release: Release, instances: Sequence[Instance], restarts: int = 0) -> None:
        self.groups[release.app] = InstanceGroup(release, self._starter, self._stale.set, instances, restarts)

    async def _replace(self, group: InstanceGroup, keeper: Keeper) -> None:
        release = group.release
        _log.warning("the socket of %s was removed: another instance takes its calls", release.app)
        try:
            instance = await self._starter.start_ready(release)
        except (NotReady, OSError, StoreError) as error:
            _log.error("%s could not be started beside the old instance: %s", release.app, error)  # no traceback
            return
        if self.groups.get(release.app) is group:
            group.replace(keeper, instance)
            await self._publish_surely()
            await self._end([keeper])
        else:  # a deploy has replaced it already
            await self._starter.stop(instance)

    async def _adopt(self, record: InstanceRecord, live: Release | None) -> Instance | None:
        """Return a running instance, also of a release before the live one: it may have calls to finish.

        One that served is not judged here: it may be busy, and its keeper ends it if it hangs.
        """
        known = self._store.release(record.app, record.release)
        if live is None or known is None or known.status != "ready":
            return None
        release = self.release(record.app, record.release)
        instance = await self._runtime.adopt(release, record.id, record.token, self._starter.limits_of(release))
        if instance is None or record.release != live.number or record.id in self._serving:
            return instance
        try:
            await until_answers(instance, live, self._starter.approach(live), _ADOPT_SECONDS)
        except NotReady as error:
            _log.warning("%s was running but is restarted: %s", record.app, error.args[0])
            await instance.stop(at_once=True)  # it has no calls
            return None
        return instance

    def _pin_again(self, leaving: Sequence[tuple[Instance, Release]]) -> list[tuple[list[Keeper], Release]]:
        """Pin those instances of earlier releases that were; return the keepers of all, with the live releases."""
        keepers: dict[tuple[str, bool], list[Keeper]] = {}
        for instance, release in leaving:
            former = self._former.apps.get(release.app, routing_table.App(release.app, 0))
            keeper = Keeper(release, self._starter, self._stale.set)
            keeper.begin(instance)
            keeper.start_no_other()
            was_pinned = former.pinned_until > time.time() and instance.id in {each.id for each in former.pinned}
            keepers.setdefault((release.app, was_pinned), []).append(keeper)
        for (app, was_pinned), kept in keepers.items():
            if was_pinned:
                self.pinned.pin(app, kept, self._former.apps[app].pinned_until)
        return [(kept, self.groups[app].release) for (app, _), kept in keepers.items()]

    async def _fail_interrupted(self) -> None:
        await asyncio.to_thread(remove_tree, self._paths.drafts)
        await asyncio.to_thread(go_on_destroying, self._store, self._paths)
        await asyncio.to_thread(prune_orphans, self._store, self._paths)
        for app in self._store.apps():
            for record in self._store.releases(app.name):
                if record.status == "building":
                    self._store.fail_release(app.name, record.number, _INTERRUPTED)
                    await asyncio.to_thread(self.release(app.name, record.number).keep_only_logs, _INTERRUPTED)

    def _begin_to_retire(self, old: Sequence[Keeper], release: Release, draining: Draining | None = None) -> None:
        """Let the calls of the old instances of an app end in the background, then stop them."""
        retiring = self._retiring.setdefault(release.app, set())
        task = self._spawn(self._retire(old, release, draining))
        retiring.add(task)
        task.add_done_callback(retiring.discard)

    async def _retire(self, old: Sequence[Keeper], release: Release, draining: Draining | None) -> None:
        try:
            await self.pinned.until_released(release.app, old)
        finally:  # also when the host stops meanwhile
            await self._end(old, draining)
        await prune(self._store, self._paths, release.app)

    async def _end(self, keepers: Sequence[Keeper], draining: Draining | None = None) -> None:
        """Let the calls of the keepers' instances end, then stop them. Tell `draining` how that goes."""

        async def end(keeper: Keeper) -> None:
            left = 0
            try:
                if (instance := keeper.instance) is not None:
                    if draining is not None:
                        draining.found(await self._gate.drain(instance.id, 0))
                    left = await self._gate.drain(instance.id, keeper.release.config.max_shutdown_delay_seconds)
            finally:  # also when the host stops meanwhile
                if draining is not None:
                    draining.ended(left)
                await keeper.end()

        async with asyncio.TaskGroup() as ends:
            for keeper in keepers:
                ends.create_task(end(keeper))

    async def _follow(self) -> None:
        """Publish whenever a keeper has changed or a file is lost; simultaneous changes become one table."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stale.wait(), _CHECK_SECONDS)
            if self._stale.is_set() or not self._is_published():
                self._stale.clear()
                await self._publish_surely()

    async def _publish_surely(self) -> None:
        """Publish, and try again until the table is written.

        Until then nothing may be stopped: the gate still sends calls to the instances of the old table.
        """
        while True:
            try:
                await self.publish()
            except (OSError, StoreError) as error:
                _log.error("the gate's table could not be written, trying again: %s", error)  # no traceback
                await asyncio.sleep(1)
            else:
                return

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def as_tokens(record: TokenRecord) -> list[Token]:
    """Return a token as the gate reads it, and the one before it that is still valid."""
    token = Token(record.digest, record.app, record.name, record.id, list(record.scopes), record.expires)
    if not record.former:
        return [token]
    return [token, replace(token, digest=record.former, expires=record.former_expires)]
