"""Starts instances with their variables and limits, a few at a time, and records them in the store."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

from portway.host.app_assertions import AppAssertions
from portway.host.assertion_key import AssertionKey
from portway.host.identity_providers import Logins
from portway.host.instances.readiness import Approach, until_ready
from portway.host.instances.render_variables import render_variables
from portway.host.instances.runtime import Instance, InstanceLimits, Runtime
from portway.host.public_address import PublicAddress
from portway.host.releases.release import Release
from portway.host.sandbox.walls import Walls
from portway.host.secrets.variables import Variables
from portway.host.store import InstanceRecord, Store, StoreError

_ROOM_BYTES = 1024 * 1024
_STARTS_AT_ONCE = 2 * (os.cpu_count() or 1)


class Starter:
    """Starts instances and records them, so that the next control finds them after this one was killed."""

    def __init__(
        self,
        runtime: Runtime,
        store: Store,
        limits: InstanceLimits,
        variables: Variables,
        address: PublicAddress = PublicAddress("http://127.0.0.1:8080", "localhost"),  # noqa: B008 - frozen
        logins: Logins | None = None,
        assertions: AppAssertions | None = None,
    ) -> None:
        """`address` is where clients reach the host, `logins` says where callers of its apps log in.

        `assertions` are those of its gate.
        """
        self.limits = limits
        self._starts = asyncio.Semaphore(_STARTS_AT_ONCE)
        self._starts_of: dict[str, asyncio.Lock] = {}  # by app
        self._runtime = runtime
        self._store = store
        self._variables = variables
        self.address = address
        self.logins = logins or Logins(address)
        self.assertions = assertions or AppAssertions(address, AssertionKey(b""))

    @property
    def walls(self) -> Walls:
        return self._runtime.walls

    @contextlib.asynccontextmanager
    async def turn(self, app: str) -> AsyncIterator[None]:
        """Hold a turn for a start nobody waits for, so that a host that comes up starts its apps a few at a time.

        An app has one turn at a time: many instances that never become ready do not keep others from starting.
        """
        async with self._starts_of.setdefault(app, asyncio.Lock()), self._starts:
            yield

    def approach(self, release: Release) -> Approach:
        """Return how the gate calls the instances of a release. Raises `StoreError`."""
        return Approach(self.address.hostname(release.app), self._upstream_token(release))

    def token_for_gate(self, release: Release) -> str:
        """Return the token that the app's server asks for as the routing table holds it, empty if it asks for none.

        Raises `StoreError`.
        """
        token = self._upstream_token(release)
        return self._variables.token_for_gate(release.app, token) if token else ""

    def _upstream_token(self, release: Release) -> str:
        named = release.config.upstream_token
        return self._variables.of_release(release.app, release.number).get(named, "") if named else ""

    def variables(self, release: Release) -> dict[str, str]:
        """Return the variables that the release's processes get beside `Release.environment`. Raises `StoreError`."""
        return {
            **render_variables(release, self.address),
            **self._variables.of_release(release.app, release.number),
            **self.assertions.variables(release.app, release.config),
            "PORTWAY_KEYS": self._store.sealing_keys(release.app),
        }

    async def start(self, release: Release) -> Instance:
        """Start an instance, which is not ready yet. Raises `OSError` or `StoreError`."""
        release.make_storage()
        instance = await self._runtime.start(release, self.variables(release), self.limits_of(release))
        try:
            self._store.add_instance(InstanceRecord(instance.id, release.app, release.number, instance.token))
        except StoreError:  # without its row it would never be ended
            await instance.stop()
            raise
        return instance

    async def start_ready(self, release: Release) -> Instance:
        """Start an instance and wait until it is ready. Raises `NotReady`, `OSError` or `StoreError`."""
        instance = await self.start(release)
        try:
            await until_ready(instance, release, self.approach(release))
        except BaseException:
            await self.stop(instance)
            raise
        return instance

    async def start_all_ready(self, release: Release, count: int) -> list[Instance]:
        """Start `count` instances, a few at a time, or none when one of them does not become ready.

        They do not take `turn`, so that apps that never become ready hold up no deploy. Raises as `start_ready` does.
        """
        turn = asyncio.Semaphore(_STARTS_AT_ONCE)

        async def start_in_turn() -> Instance:
            async with turn:
                return await self.start_ready(release)

        starts = [asyncio.create_task(start_in_turn()) for _ in range(count)]
        try:
            return await asyncio.gather(*starts)
        except BaseException:
            for start in starts:
                start.cancel()
            ended = await asyncio.gather(*starts, return_exceptions=True)
            await self.stop_all([instance for instance in ended if not isinstance(instance, BaseException)])
            raise

    def limits_of(self, release: Release) -> InstanceLimits:
        """Return the bounds of an instance of the release."""
        config = release.config
        return replace(self.limits, stop_seconds=float(config.max_shutdown_delay_seconds), use=config.limits)

    def count_restart(self, release: Release) -> None:
        """Record that an instance of the release is about to be restarted."""
        with contextlib.suppress(StoreError):  # the count matters less than the restart
            self._store.count_restart(release.app, release.number)

    def has_room(self) -> bool:
        """Return whether the disk has room for what a start writes."""
        found = os.statvfs(self._store.path.parent)
        return found.f_bavail * found.f_frsize >= _ROOM_BYTES

    async def stop(self, instance: Instance, *, at_once: bool = False) -> None:
        await instance.stop(at_once=at_once)
        with contextlib.suppress(StoreError):  # a row of a dead process is removed at the next start
            self._store.forget_instance(instance.id)

    async def stop_all(self, instances: Sequence[Instance]) -> None:
        await asyncio.gather(*(self.stop(instance) for instance in instances))
