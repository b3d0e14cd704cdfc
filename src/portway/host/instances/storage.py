"""How much of their storage apps use.

Without a quota of the file system, nothing keeps an app from using more than its size. Nothing here ends it either:
its log says so.
"""

import asyncio
from collections.abc import Mapping

from portway.host.disk_use import disk_use
from portway.host.instances.instance_group import InstanceGroup
from portway.host.logs.log_file import LogFile
from portway.host.paths import Paths

GIGABYTE = 2**30
_LOOK_SECONDS = 60.0
_MEASURE_SECONDS = 30.0


class StorageWatch:
    """Measures the storage of all apps. `used` are the bytes by app, as last measured."""

    def __init__(self, paths: Paths, groups: Mapping[str, InstanceGroup]) -> None:
        self.used: dict[str, int] = {}
        self._paths = paths
        self._groups = groups
        self._exceeded: set[str] = set()

    async def measure(self, seconds: float = _MEASURE_SECONDS) -> None:
        """Measure as many as can be read within `seconds`."""
        apps = {str(folder): folder.parent.name for folder in self._paths.storages()}
        found = await disk_use(apps, seconds)
        self.used = {app: used for app, used in self.used.items() if app in apps.values()}
        self.used |= {apps[folder]: used for folder, used in found.items()}

    async def run(self) -> None:
        """Measure every minute. An app that exceeds its size reads of it in its log: once, until it is smaller."""
        while True:
            await self.measure()
            self.warn()
            await asyncio.sleep(_LOOK_SECONDS)

    def warn(self) -> None:
        """Write to the logs of the apps that exceed their size and were not warned before."""
        exceeded = set()
        for app, group in self._groups.items():
            disk, used = group.release.config.disk, self.used.get(app, 0)
            if disk is not None and used > disk.size_gb * GIGABYTE:
                exceeded.add(app)
                if app not in self._exceeded:
                    line = f"portway: the storage holds {used / GIGABYTE:.1f} GB, more than its {disk.size_gb} GB\n"
                    LogFile(group.release.log).append(self, line.encode())
        self._exceeded = exceeded
