"""Keeps one release of one app running: starts it, watches it, starts it again."""

import asyncio
import contextlib
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from portway.host.instances.readiness import NotReady, answers, falls_silent
from portway.host.instances.restart_delays import Restarts
from portway.host.instances.runtime import Instance, Limits, Release, Runtime
from portway.host.routing_table import State
from portway.host.store import InstanceRecord, Store, StoreError

_LOG_CHECK_SECONDS = 1.0
_STARTS_AT_ONCE = 2 * (os.cpu_count() or 1)
_log = logging.getLogger("portway.host")


class Starter:
    """Starts instances and remembers them, so that a control killed at any moment finds them again.

    `turn` is for starts that nobody waits for: a host that comes up starts its many apps a few at a time.
    """

    def __init__(self, runtime: Runtime, store: Store, limits: Limits) -> None:
        self.limits = limits
        self.turn = asyncio.Semaphore(_STARTS_AT_ONCE)
        self._runtime = runtime
        self._store = store

    async def start(self, release: Release) -> Instance:
        """An instance that is not ready yet."""
        variables = {"PORTWAY_KEYS": self._store.sealing_keys(release.app)} | dict(self._store.variables(release.app))
        instance = await self._runtime.start(release, variables, self.limits)
        try:
            self._store.add_instance(InstanceRecord(instance.id, release.app, release.number, instance.token))
        except StoreError:  # nobody would ever end it
            await instance.stop()
            raise
        return instance

    async def stop(self, instance: Instance, *, at_once: bool = False) -> None:
        await instance.stop(at_once=at_once)
        with contextlib.suppress(StoreError):  # a record too many is found to be dead at the next start
            self._store.forget_instance(instance.id)


class Keeper:
    """One app's running side. `changed` is called whenever what the gate must know is different."""

    def __init__(self, release: Release, starter: Starter, changed: Callable[[], None]) -> None:
        self.release = release
        self.state: State = "starting"
        self.reason = ""
        self.restarts = Restarts()
        self.instance: Instance | None = None
        self._starter = starter
        self._changed = changed
        self._tasks: list[asyncio.Task[None]] = []

    def begin(self, instance: Instance | None) -> None:
        """Keep it up from now on: with an instance that is ready, or with one yet to start."""
        if instance is not None:
            self._up(instance)
        self._tasks = [asyncio.create_task(self._keep()), asyncio.create_task(self._bound_log())]

    async def end(self) -> None:
        """Stop keeping, then stop the instance."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        instance = self.instance
        self._show("stopped", None)
        if instance is not None:
            await self._starter.stop(instance)

    async def _keep(self) -> None:
        while True:
            how = ""
            if self.instance is None:
                async with self._starter.turn:
                    how = await self._start()
            if self.instance is not None:
                how = await self._outlive(self.instance)
            _log.warning("%s release %d ended: %s", self.release.app, self.release.number, how)
            pause = self.restarts.crashed(asyncio.get_running_loop().time())
            if self.restarts.looping:
                self._show("crashed", None, f"it keeps ending ({how})")
            else:
                self._show("starting", None, f"it ended ({how}) and is being restarted")
            await asyncio.sleep(pause)

    async def _outlive(self, instance: Instance) -> str:
        """Wait until the instance has ended, and end one that is hung; how it was."""
        limits = self._starter.limits
        end = asyncio.ensure_future(instance.wait())
        silence = asyncio.ensure_future(falls_silent(instance, limits.probe_seconds, limits.probes))
        try:
            await asyncio.wait((end, silence), return_when=asyncio.FIRST_COMPLETED)
            how = end.result() if end.done() else "it no longer answered"
        finally:
            end.cancel()
            silence.cancel()
        await self._starter.stop(instance, at_once=True)
        return how

    async def _start(self) -> str:
        """Start an instance and wait until it is ready; why it is not, or "" when it is."""
        instance = None
        try:
            instance = await self._starter.start(self.release)
            await answers(instance, self.release.log)
        except (NotReady, OSError, StoreError) as error:
            if instance is not None:
                await self._starter.stop(instance)
            return str(error.args[0] if isinstance(error, NotReady) else error)
        except asyncio.CancelledError:
            if instance is not None:
                await self._starter.stop(instance)
            raise
        self._up(instance)
        return ""

    def _up(self, instance: Instance) -> None:
        self.restarts.up(asyncio.get_running_loop().time())
        self._show("up", instance)

    def _show(self, state: State, instance: Instance | None, reason: str = "") -> None:
        self.state, self.instance, self.reason = state, instance, reason
        self._changed()

    async def _bound_log(self) -> None:
        """Copy and truncate: the instance holds the file open, in append mode, and goes on writing at its new end."""
        while True:
            await asyncio.sleep(_LOG_CHECK_SECONDS)
            with contextlib.suppress(OSError):
                if self.release.log.stat().st_size > self._starter.limits.log_bytes:
                    await asyncio.to_thread(cut, self.release.log)


def cut(log: Path) -> None:
    """Empty a log that is being written, its content kept in `<log>.1`, as far as the disk has room for it."""
    try:
        shutil.copyfile(log, log.with_suffix(".log.1"))
    finally:
        with log.open("r+b") as file:
            file.truncate(0)
