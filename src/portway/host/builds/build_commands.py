"""Runs the commands of a build."""

import asyncio
import contextlib
import os
import signal
from typing import BinaryIO

from portway.host.builds.recipe import BuildError
from portway.host.logs.log_reader import last_lines
from portway.host.processes import build_mark, end_marked
from portway.host.releases.release import Release

_SECONDS = 900.0


class BuildCommands:
    """Runs a build's commands, one at a time, in the source's folder, with stderr going to the build's log."""

    def __init__(self, release: Release, environment: dict[str, str], log: BinaryIO) -> None:
        self._release = release
        self._environment = environment
        self._log = log

    async def run(self, command: list[str], purpose: str, *, seconds: float = _SECONDS) -> str:
        """Return what the command wrote to stdout. Raises `BuildError` when it fails or takes longer than `seconds`."""
        begun = self._log.tell()
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=self._release.source,
            env=self._environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=self._log,
            start_new_session=True,
        )
        try:
            output, _ = await asyncio.wait_for(process.communicate(), seconds)
        except TimeoutError:
            raise BuildError(f"could not {purpose} within {seconds:.0f} s:{self._tail(begun)}") from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            end_marked(build_mark(self._release.directory))
        if process.returncode != 0:
            raise BuildError(f"could not {purpose}:{self._tail(begun)}")
        return output.decode()

    def _tail(self, begun: int) -> str:
        return "".join(f"\n  {line}" for line in last_lines(self._release.build_log, since=begun))
