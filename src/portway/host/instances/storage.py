"""Measures the storage of apps, warns of a full one, and ends an app that exceeds its size.

Without a quota of the file system, nothing keeps an app from using more than its size. What is done instead:

    more than 90 % of it                         its log says so, once
    more than all of it                          its log says so, once
    the same, and more than at the last look     its instances are ended, and started again as after a crash
"""

import asyncio
import contextlib
import os
import time
from collections.abc import Mapping

from portway.host.disk_use import disk_use
from portway.host.instances.instance_group import InstanceGroup
from portway.host.logs.log_file import write_to
from portway.host.paths import Paths

GIGABYTE = 2**30
_LOOK_SECONDS = 60.0
_GLANCE_SECONDS = 1.0  # between glances at the disks
_LEAST_SECONDS, _REST = 2.0, 20  # between looks, in seconds and in times of how long one takes
_LEAST_BYTES = 16 * 2**20
_FILLING = 0.9
_MEASURE_SECONDS = 30.0


class StorageWatch:
    """Measures the storage of all apps. `used` are the bytes by app, as last measured."""

    def __init__(self, paths: Paths, groups: Mapping[str, InstanceGroup]) -> None:
        self.used: dict[str, int] = {}
        self._paths = paths
        self._groups = groups
        self._judged: dict[str, int] = {}  # the bytes by app, at the last look
        self._told: dict[str, str] = {}  # by app: what its log was told last

    async def measure(self, seconds: float = _MEASURE_SECONDS) -> None:
        """Measure as many as can be read within `seconds`."""
        apps = {str(folder): folder.parent.name for folder in self._paths.storages()}
        found = await disk_use(apps, seconds)
        self.used = {app: used for app, used in self.used.items() if app in apps.values()}
        self.used |= {apps[folder]: used for folder, used in found.items()}

    async def run(self) -> None:
        """Look every minute, and as soon as a disk has filled by what one of its apps has left."""
        while True:
            begun, filled = time.monotonic(), await asyncio.to_thread(self._filled)
            await self.measure()
            await self.judge()
            await asyncio.sleep(max(_LEAST_SECONDS, _REST * (time.monotonic() - begun)))
            while time.monotonic() - begun < _LOOK_SECONDS:
                now = await asyncio.to_thread(self._filled)
                if any(used - filled.get(app, used) > self._left(app) for app, used in now.items()):
                    break
                await asyncio.sleep(_GLANCE_SECONDS)

    async def judge(self) -> None:
        """Tell the apps that have used up their size, and end those that still use more and more."""
        for app, group in list(self._groups.items()):
            disk, used = group.release.config.disk, self.used.get(app)
            if disk is None or used is None:
                continue
            size, holds = disk.size_gb * GIGABYTE, f"{used / GIGABYTE:.1f} GB"
            before, self._judged[app] = self._judged.get(app, used), used
            told = "full" if used > size else "filling" if used > size * _FILLING else ""
            if told not in ("", self._told.get(app, "")):
                of = f", more than its {disk.size_gb} GB" if told == "full" else f" of {disk.size_gb} GB"
                write_to(group.release.log, f"portway: the storage holds {holds}{of}")
            self._told[app] = told
            if told == "full" and used > before:
                how = f"the app's storage grew to {holds}, more than its {disk.size_gb} GB, and the app was ended"
                await asyncio.gather(*(instance.end(how) for instance in group.running))

    def _filled(self) -> dict[str, int]:
        """Return by app how many bytes are used on the disk of its storage."""
        filled = {}
        for app, group in list(self._groups.items()):
            if (folder := group.release.storage) is not None:
                with contextlib.suppress(OSError):
                    found = os.statvfs(folder)
                    filled[app] = (found.f_blocks - found.f_bfree) * found.f_frsize
        return filled

    def _left(self, app: str) -> int:
        """Return the bytes that may be written before the app is looked at again."""
        group = self._groups.get(app)
        disk = group.release.config.disk if group else None
        return max(disk.size_gb * GIGABYTE - self.used.get(app, 0), _LEAST_BYTES) if disk else _LEAST_BYTES
