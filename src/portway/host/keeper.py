"""Keeps one release of one app running: starts it, watches it, starts it again."""

import asyncio
import contextlib
import logging
import shutil
from collections import deque
from collections.abc import Callable
from pathlib import Path

from portway.host.readiness import NotReady, answers, last_lines
from portway.host.routes import State
from portway.host.runtime import Instance, Limits, Release, Runtime
from portway.host.store import InstanceRecord, Store

_BACK_OFF = (0.0, 1.0, 2.0, 4.0, 8.0)
_CRASHES = 5
_WINDOW_SECONDS = 60.0
_LOG_CHECK_SECONDS = 10.0
_log = logging.getLogger("portway.host")


class Starter:
    """Starts instances and remembers them, so that a control killed at any moment finds them again."""

    def __init__(self, runtime: Runtime, store: Store, limits: Limits) -> None:
        self.limits = limits
        self._runtime = runtime
        self._store = store

    async def start(self, release: Release) -> Instance:
        """An instance that is not ready yet."""
        instance = await self._runtime.start(release, self._store.variables(release.app), self.limits)
        self._store.add_instance(InstanceRecord(instance.id, release.app, release.number, instance.token))
        return instance

    async def stop(self, instance: Instance) -> None:
        await instance.stop(self.limits.stop_seconds)
        self._store.forget_instance(instance.id)


class Keeper:
    """One app's running side. `changed` is called whenever what the gate must know is different."""

    def __init__(self, release: Release, starter: Starter, changed: Callable[[], None]) -> None:
        self.release = release
        self.state: State = "starting"
        self.reason = ""
        self.restarts = 0
        self.instance: Instance | None = None
        self._starter = starter
        self._changed = changed
        self._up_since = float("inf")
        self._looping = False
        self._crashes: deque[float] = deque(maxlen=_CRASHES + 1)
        self._tasks: list[asyncio.Task[None]] = []

    def begin(self, instance: Instance | None) -> None:
        """Keep it up from now on: with an instance that is ready, or with one yet to start."""
        if instance is not None:
            self._show("up", instance)
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
            how = await self._start() if self.instance is None else ""
            if self.instance is not None:
                how = await self.instance.wait()
                await self._starter.stop(self.instance)
            await asyncio.sleep(self._after_crash(how))

    async def _start(self) -> str:
        """Start an instance and wait until it is ready; why it is not, or "" when it is."""
        instance = None
        try:
            instance = await self._starter.start(self.release)
            await answers(instance, self.release.log)
        except (NotReady, OSError) as error:
            if instance is not None:
                await self._starter.stop(instance)
            return str(error.args[0] if isinstance(error, NotReady) else error)
        except asyncio.CancelledError:
            if instance is not None:
                await self._starter.stop(instance)
            raise
        self._show("up", instance)
        return ""

    def _after_crash(self, how: str) -> float:
        """Note the crash and say how many seconds to wait before the next start."""
        now = asyncio.get_running_loop().time()
        if now - self._up_since > _WINDOW_SECONDS:
            self._crashes.clear()
            self._looping = False
        self._up_since = float("inf")
        self.restarts += 1
        self._crashes.append(now)
        recent = [crash for crash in self._crashes if now - crash < _WINDOW_SECONDS]
        _log.warning("%s release %d ended: %s", self.release.app, self.release.number, how)
        if self._looping or len(recent) > _CRASHES:
            self._looping = True  # until an instance has lived through a whole window
            self._show("crashed", None, f"it keeps ending, last with {how}")
            return _WINDOW_SECONDS
        self._show("starting", None, f"it ended with {how} and is being restarted")
        return _BACK_OFF[len(recent) - 1]

    def _show(self, state: State, instance: Instance | None, reason: str = "") -> None:
        self.state, self.instance, self.reason = state, instance, reason
        if state == "up":
            self._up_since = asyncio.get_running_loop().time()
        self._changed()

    def last_lines(self) -> list[str]:
        return last_lines(self.release.log)

    async def _bound_log(self) -> None:
        """Copy and truncate: the instance holds the file open, in append mode, and goes on writing at its new end."""
        while True:
            await asyncio.sleep(_LOG_CHECK_SECONDS)
            with contextlib.suppress(OSError):
                if self.release.log.stat().st_size > self._starter.limits.log_bytes:
                    await asyncio.to_thread(_cut, self.release.log)


def _cut(log: Path) -> None:
    shutil.copyfile(log, log.with_suffix(".log.1"))
    log.open("r+b").truncate(0)
