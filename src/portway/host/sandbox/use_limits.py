"""Watches how much memory, processes and disk an app or a build uses. The caller ends what exceeds a limit."""

import asyncio
import os
import re
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from portway.host.app_config import UseLimits
from portway.host.processes import stat_fields

BUILD_LIMITS = UseLimits(memory_mb=2048, processes=1024, disk_mb=4096)

_LOOK_SECONDS = 0.25
_DISK_SECONDS = 2.0  # between looks at the disk, and at least `_REST` times as long as one takes
_REST = 20
_MB = 1024 * 1024
_PAGE = os.sysconf("SC_PAGE_SIZE")
_PSS = re.compile(rb"^Pss:\s+(\d+) kB", re.MULTILINE)


async def until_over(limits: UseLimits, pids: Callable[[], list[int]], folders: Iterable[Path]) -> str:
    """Wait until the processes, or the files in the folders, exceed a limit; return the figures in words."""
    next_disk = time.monotonic() + _DISK_SECONDS
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        found = pids()
        if len(found) > limits.processes:
            return f"{len(found)} processes of {limits.processes}"
        # Counting shared pages once takes longer, so it is done only where it matters.
        if _resident(found) > limits.memory_mb * _MB and (used := _memory(found)) > limits.memory_mb * _MB:
            return f"{used // _MB} MB of {limits.memory_mb} MB of memory"
        if (begun := time.monotonic()) >= next_disk:
            used = await asyncio.to_thread(_stored, folders)
            if used > limits.disk_mb * _MB:
                return f"{used // _MB} MB of {limits.disk_mb} MB of disk"
            now = time.monotonic()
            next_disk = now + max(_DISK_SECONDS, _REST * (now - begun))


def _resident(pids: list[int]) -> int:
    return sum(int(fields[21]) for fields in map(stat_fields, pids) if fields) * _PAGE


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


def _stored(folders: Iterable[Path]) -> int:
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
