"""Starts and stops instances, with their rows in the store."""

import asyncio
import contextlib
import os

from portway.host.instances.runtime import Instance, InstanceLimits, Runtime
from portway.host.releases.release import Release
from portway.host.store import InstanceRecord, Store, StoreError

_ROOM_BYTES = 1024 * 1024
_STARTS_AT_ONCE = 2 * (os.cpu_count() or 1)


class Starter:
    """Starts instances and records them, so that the next control finds them after this one was killed.

    `turn` limits the starts nobody waits for, so that a host that comes up starts its apps a few at a time.
    """

    def __init__(self, runtime: Runtime, store: Store, limits: InstanceLimits, domain: str = "localhost") -> None:
        self.limits = limits
        self.turn = asyncio.Semaphore(_STARTS_AT_ONCE)
        self._runtime = runtime
        self._store = store
        self._domain = domain

    def hostname(self, app: str) -> str:
        """Return the name of an app below the host's domain; its instances see it in the Host header."""
        return f"{app}.{self._domain}"

    async def start(self, release: Release) -> Instance:
        """Start an instance, which is not ready yet. Raises `OSError` or `StoreError`."""
        variables = {
            "PORTWAY_KEYS": self._store.sealing_keys(release.app),
            "RENDER_EXTERNAL_HOSTNAME": self.hostname(release.app),
        } | dict(self._store.variables(release.app))
        instance = await self._runtime.start(release, variables, self.limits)
        try:
            self._store.add_instance(InstanceRecord(instance.id, release.app, release.number, instance.token))
        except StoreError:  # without its row it would never be ended
            await instance.stop()
            raise
        return instance

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
