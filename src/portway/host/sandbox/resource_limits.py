"""Watches how much memory, processes and disk an app or a build uses, with the limits of builds; the caller ends what
exceeds one.

Where the kernel bounds memory and processes (`cgroups`), only what it has done is looked for.
"""

import asyncio
import os
import re
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from portway.host.app_config import UseLimits
from portway.host.processes import stat_fields
from portway.host.sandbox.cgroups import Group

BUILD_LIMITS = UseLimits(memory_mb=2048, processes=2048, disk_mb=4096)

_LOOK_SECONDS = 0.25
_DISK_SECONDS = 2.0  # between looks at the disk, and at least `_REST` times as long as one takes
_REST = 20
_MB = 1024 * 1024
_PAGE = os.sysconf("SC_PAGE_SIZE")
_PSS = re.compile(rb"^Pss:\s+(\d+) kB", re.MULTILINE)


async def until_over(
    limits: UseLimits, pids: Callable[[], list[int]], folders: Iterable[Path], group: Group, tell: Callable[[str], None]
) -> str:
    """Wait until the processes, or the files in the folders, exceed a limit; return the figures in words.

    `group` is the group that the processes are in. `tell` gets a line when it cannot start more of them.
    """
    next_disk = time.monotonic() + _DISK_SECONDS
    told = False
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        if exceeded := _over_memory_and_processes(limits, pids, group):
            return exceeded
        if not told and group.was_full():
            told = True
            full = f"it runs all of its {limits.processes} processes and threads, and can start no more"
            await asyncio.to_thread(tell, full)
        if (begun := time.monotonic()) >= next_disk:
            used = await asyncio.to_thread(stored, folders)
            if used > limits.disk_mb * _MB:
                return f"{used // _MB} MB of {limits.disk_mb} MB of disk"
            now = time.monotonic()
            next_disk = now + max(_DISK_SECONDS, _REST * (now - begun))


def killed_for_memory(limits: UseLimits, group: Group) -> str:
    """Return the figures in words if the kernel has ended a process for the memory of its group, else ""."""
    used = group.killed_for_memory()
    return "" if used is None else f"{used // _MB} MB of {limits.memory_mb} MB of memory"


def _over_memory_and_processes(limits: UseLimits, pids: Callable[[], list[int]], group: Group) -> str:
    if killed := killed_for_memory(limits, group):
        return killed
    if {"memory", "pids"} <= group.directories.keys():
        return ""
    found = [(pid, fields) for pid in pids() if (fields := stat_fields(pid))]
    if "pids" not in group.directories and (running := sum(int(fields[17]) for _, fields in found)) > limits.processes:
        return f"{running} processes and threads of {limits.processes}"
    # Counting shared pages once takes longer, so it is done only where it matters.
    most, resident = limits.memory_mb * _MB, sum(int(fields[21]) for _, fields in found) * _PAGE
    if "memory" not in group.directories and resident > most and (used := _memory([pid for pid, _ in found])) > most:
        return f"{used // _MB} MB of {limits.memory_mb} MB of memory"
    return ""


def _memory(pids: list[int]) -> int:
    """Return the bytes of memory of processes, of shared pages each one's share."""
    total = 0
    for pid in pids:
        try:
            found = _PSS.search(Path(f"/proc/{pid}/smaps_rollup").read_bytes())
        except OSError:  # gone
            continue
        total += int(found[1]) * 1024 if found else 0
    return total


def stored(folders: Iterable[Path]) -> int:
    """Return the bytes on disk of the files in the folders."""
    total, waiting = 0, [os.fspath(folder) for folder in folders]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    total += entry.stat(follow_symlinks=False).st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
        except OSError:  # removed meanwhile
            continue
    return total
