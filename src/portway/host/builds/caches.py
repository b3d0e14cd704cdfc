"""Keeps what builds share within a size (8 GB): uv's and npm's caches, fetched Pythons and Nodes.

The caches of npm tarballs and of bytecode bound themselves. A cache that the operator has named by UV_CACHE_DIR is
left alone. What is removed here is fetched again when it is needed; a running uv is waited for.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable
from pathlib import Path

from portway.host.builds.build_environment import build_environment
from portway.host.builds.build_error import BuildError
from portway.host.builds.uv_program import find_uv
from portway.host.disk_use import disk_use
from portway.host.files import remove_tree
from portway.host.paths import Paths

_MOST_BYTES = 8 * 2**30  # of each of the caches, and of the programs together
_LOOK_SECONDS = 3600.0
_MEASURE_SECONDS = 120.0
_PRUNE_SECONDS = 600.0
_log = logging.getLogger("portway.host")


async def keep_small(paths: Paths, is_building: Callable[[], bool]) -> None:
    """Look at the shared caches every hour, when nothing is being built."""
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        with contextlib.suppress(OSError):  # something else is removing it
            if not is_building():
                await prune_caches(paths, _MOST_BYTES)


async def prune_caches(paths: Paths, most: int) -> None:
    """Make each of the shared caches that is larger than `most` bytes smaller."""
    uv, npm = paths.cache / ".cache" / "uv", paths.cache / ".npm"
    if "UV_CACHE_DIR" not in os.environ and await _size(uv) > most:
        await _run_uv(paths, "prune")
        if await _size(uv) > most:
            await _run_uv(paths, "clean")
    if await _size(npm) > most:
        await asyncio.to_thread(remove_tree, npm)
    programs = await asyncio.to_thread(_programs, paths)
    sizes = await disk_use([str(program) for program in programs], _MEASURE_SECONDS)
    if sum(sizes.values()) > most:
        for program in await asyncio.to_thread(_unused, paths, programs):
            await asyncio.to_thread(remove_tree, program)


async def _size(folder: Path) -> int:
    return (await disk_use([str(folder)], _MEASURE_SECONDS)).get(str(folder), 0)


async def _run_uv(paths: Paths, verb: str) -> None:
    """Run `uv cache prune`, which deletes what nothing refers to, or `uv cache clean`, which deletes all."""
    with contextlib.suppress(OSError, BuildError):  # a time limit is an OSError
        nowhere = asyncio.subprocess.DEVNULL
        process = await asyncio.create_subprocess_exec(
            *(find_uv(), "cache", verb, "--quiet"), env=build_environment(paths), stdout=nowhere, stderr=nowhere
        )
        try:
            async with asyncio.timeout(_PRUNE_SECONDS):
                await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        _log.info("uv's cache was larger than it may be: uv cache %s", verb)


def _programs(paths: Paths) -> list[Path]:
    """Return the folders of interpreters, Nodes and package managers; `python-3.12` beside one is a link to it."""
    fetched = [path for pattern in ("node-*", "pnpm-*", "yarn-*") for path in paths.cache.glob(pattern)]
    interpreters = [path for path in paths.interpreters.glob("*") if not path.name.startswith(".")]
    return [path for path in (*fetched, *interpreters) if path.is_dir() and not path.is_symlink()]


def _unused(paths: Paths, programs: list[Path]) -> list[Path]:
    """Return those of these programs to which no release leads."""
    links = [*paths.data.glob("apps/*/releases/*/venv/bin/python"), *paths.data.glob("apps/*/releases/*/bin/*")]
    used = {link.resolve() for link in links if link.is_symlink()}
    return [program for program in programs if not any(each.is_relative_to(program.resolve()) for each in used)]
