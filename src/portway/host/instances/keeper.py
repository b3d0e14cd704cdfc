"""Keeps one instance running: starts it, probes it, restarts it when it has ended, hangs or fails its health check.

States, as `portway ps` and the gate show them:

    starting → up         an instance answers as an MCP server
    up → starting         it ended, or no longer answers: the next start waits as `restart_delays` says
    up → unhealthy        its health check has failed for 15 s: it gets no new calls
    unhealthy → up        the check passes again
    unhealthy → starting  it has failed for a minute, or the instance ended
    starting → starting   it could not be started, or did not become ready
    any of these → crashed    the same, more than five times within a minute: one more try each minute.
                              Or the disk is full: one more try as soon as it has room
    crashed → up          such a try succeeded
    any → stopped         `end` was called: another release took over, the app is destroyed, or the host stops.
                          Or `start_no_other` was, and the instance has ended
"""

import asyncio
import logging
from collections.abc import Callable

from portway.host.health_probe import until_silent
from portway.host.instances.readiness import NotReady, health_check
from portway.host.instances.restart_delays import RestartDelays
from portway.host.instances.runtime import Instance
from portway.host.instances.starter import Starter
from portway.host.releases.release import Release
from portway.host.routing_table import State
from portway.host.store import StoreError

_ROOM_SECONDS = 1.0
_log = logging.getLogger("portway.host")


class Keeper:
    """Keeps one instance running. `changed` is called when the state, the instance or the reason has changed."""

    def __init__(self, release: Release, starter: Starter, changed: Callable[[], None]) -> None:
        self.release = release
        self.state: State = "starting"
        self.reason = ""
        self.restarts = 0
        self._delays = RestartDelays()
        self.instance: Instance | None = None
        self._starter = starter
        self._changed = changed
        self._task: asyncio.Task[None] | None = None
        self._starts_no_other = False

    def begin(self, instance: Instance | None) -> None:
        """Keep an instance running, first the ready `instance`; None starts one."""
        if instance is not None:
            self._up(instance)
        self._task = asyncio.create_task(self._keep())

    def start_no_other(self) -> None:
        """Keep watching the instance, but start no other when it has ended."""
        self._starts_no_other = True
        if self.instance is None and self._task is not None:
            self._task.cancel()
            self._show("stopped", None)

    async def end(self) -> None:
        """Stop watching, then stop the instance."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        instance = self.instance
        self._show("stopped", None)
        if instance is not None:
            await self._starter.stop(instance)

    async def _keep(self) -> None:
        while True:
            how = ""
            if self.instance is None:
                async with self._starter.turn(self.release.app):
                    how = await self._start()
            if self.instance is not None:
                how = await self._watch(self.instance)
            _log.warning("%s release %d ended: %s", self.release.app, self.release.number, how)
            if self._starts_no_other:
                self._show("stopped", None)
                return
            self.restarts += 1
            self._starter.count_restart(self.release)
            if not self._starter.has_room():
                self._show("crashed", None, f"it ended ({how}); it is restarted when the disk has room")
                while not self._starter.has_room():  # noqa: ASYNC110  # a disk with room again sends no event
                    await asyncio.sleep(_ROOM_SECONDS)
                continue
            pause = self._delays.crashed(asyncio.get_running_loop().time())
            if self._delays.looping:
                self._show("crashed", None, f"it keeps ending ({how})")
            else:
                self._show("starting", None, f"it ended ({how}) and is being restarted")
            await asyncio.sleep(pause)

    async def _watch(self, instance: Instance) -> str:
        """Wait until the instance has ended, end one that hangs, and return how it ended."""
        end = asyncio.ensure_future(instance.wait())
        fault = asyncio.ensure_future(self._fault(instance))
        try:
            await asyncio.wait((end, fault), return_when=asyncio.FIRST_COMPLETED)
            how = end.result() if end.done() else fault.result()
        finally:
            end.cancel()
            fault.cancel()
        await self._starter.stop(instance, at_once=True)
        return how

    async def _fault(self, instance: Instance) -> str:
        """Wait until the instance no longer answers, or fails its health check for too long; return which."""
        host = self._starter.address.hostname(self.release.app)
        limits, check = self._starter.limits, health_check(instance, self.release, host)
        if check is None:
            await until_silent(instance.address, limits.probe_seconds, limits.probes)
            return "it no longer answered"
        loop, failures = asyncio.get_running_loop(), 0
        while failures < limits.checks:
            due = loop.time() + limits.check_seconds
            failures = 0 if await check.passes() else failures + 1
            if failures >= limits.checks_out:
                self._show("unhealthy", instance, f"its health check {check.path} fails ({check.fault})")
            elif not failures and self.state == "unhealthy":
                self._show("up", instance)
            await asyncio.sleep(due - loop.time())
        return f"its health check {check.path} failed for too long ({check.fault})"

    async def _start(self) -> str:
        """Start an instance and wait until it is ready; return why it is not, or "" when it is."""
        try:
            instance = await self._starter.start_ready(self.release)
        except (NotReady, OSError, StoreError) as error:
            return str(error.args[0] if isinstance(error, NotReady) else error)
        self._up(instance)
        return ""

    def _up(self, instance: Instance) -> None:
        self._delays.up(asyncio.get_running_loop().time())
        self._show("up", instance)

    def _show(self, state: State, instance: Instance | None, reason: str = "") -> None:
        self.state, self.instance, self.reason = state, instance, reason
        self._changed()
