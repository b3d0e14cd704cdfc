"""Runs the commands of a build: into its log, within 15 minutes and its limits, quoted when one fails."""

import asyncio
import contextlib
import os
import secrets
import signal
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from portway.host.builds.build_error import BuildError
from portway.host.files import remove_tree
from portway.host.logs.last_lines import last_lines
from portway.host.logs.log_pipe import LogPipe
from portway.host.paths import Paths
from portway.host.processes import build_mark, descendants, end_marked
from portway.host.releases.release import Release
from portway.host.sandbox.bubblewrap import Sandbox, wrapped
from portway.host.sandbox.cgroups import Cgroups, Group
from portway.host.sandbox.resource_limits import BUILD_LIMITS, killed_for_memory, until_over

_SECONDS = 900.0
_ANSWER_BYTES = 64 * 1024


class BuildCommands:
    """Runs a build's commands, one at a time, with their output going to the build's log."""

    def __init__(
        self,
        release: Release,
        environment: dict[str, str],
        paths: Paths,
        folder: Path,
        cgroups: Cgroups,
        sandbox: Callable[[], Sandbox] | None = None,
        before: Sequence[str] = (),
    ) -> None:
        """They run in `folder`, or where `sandbox` makes each a sandbox; `before` are words to put before each."""
        self._release = release
        self._folder = folder
        self._cgroups = cgroups
        self._sandbox = sandbox
        self._before = before
        self._mark = build_mark(paths, release.directory)
        name, _, value = self._mark.variable.partition("=")
        self._environment = environment | {name: value}
        self._paths = paths

    async def run(self, command: list[str], purpose: str, *, seconds: float = _SECONDS) -> None:
        """Run a command to its end. Raises `BuildError` when it fails or takes longer than `seconds`.

        Processes that the command leaves behind are killed and not waited for.
        """
        await self._run(command, purpose, seconds, None)

    async def run_shell(self, command: str, kind: str, *, seconds: float = _SECONDS) -> None:
        """Do what `run` does, with a command of the app's author, of which `kind` says what it is."""
        await self.run(["/bin/sh", "-c", command], f"run its {kind} `{command}`", seconds=seconds)

    async def ask(self, command: list[str], purpose: str, *, seconds: float = _SECONDS) -> str:
        """Do what `run` does, and return what the command wrote to stdout, which is not in the log."""
        # With a name in the release's folder, it counts as disk of the build while that goes on.
        with tempfile.NamedTemporaryFile(dir=self._release.directory) as answer:
            await self._run(command, purpose, seconds, answer)
            answer.seek(0)
            return answer.read(_ANSWER_BYTES).decode(errors="replace")

    async def _run(self, command: list[str], purpose: str, seconds: float, answer: IO[bytes] | None) -> None:
        log = self._release.build_log
        begun = log.stat().st_size if log.exists() else 0
        with LogPipe(self._paths.log_pipes, log) as pipe:
            group = self._cgroups.for_build(f"{self._release.app}-{secrets.token_hex(4)}", BUILD_LIMITS)
            try:
                with wrapped(self._sandbox and self._sandbox(), self._environment) as wrapping:
                    process = await asyncio.create_subprocess_exec(
                        *group.join,
                        *self._before,
                        *wrapping.words,
                        *command,
                        cwd=self._folder,
                        env=wrapping.environment,
                        stdin=asyncio.subprocess.DEVNULL,
                        stdout=pipe.descriptor if answer is None else answer,
                        stderr=pipe.descriptor,
                        start_new_session=True,
                        pass_fds=wrapping.descriptors,
                    )
                code, used = await self._until_end(process, seconds, group, pipe)
            finally:
                await asyncio.to_thread(group.remove)
            await pipe.drained()
        if code == 0:
            return
        tail = "".join(f"\n  {line}" for line in last_lines(log, since=begun)) or " it printed nothing"
        if used:  # what fills the app's cache must not fail its next build, too
            await asyncio.to_thread(remove_tree, self._paths.app_cache(self._release.app))
            raise BuildError(f"could not {purpose}, as it used {used}:{tail}")
        if code is None:
            raise BuildError(f"could not {purpose} within {seconds:.0f} s:{tail}")
        raise BuildError(f"could not {purpose}:{tail}")

    async def _until_end(
        self, process: asyncio.subprocess.Process, seconds: float, group: Group, pipe: LogPipe
    ) -> tuple[int | None, str]:
        """Wait for a command's end. Return its exit code, None if it had to be ended, and what it used too much of."""
        self._mark.put_on(process.pid)
        folders = (self._release.directory, self._paths.app_cache(self._release.app))
        over = asyncio.create_task(
            until_over(BUILD_LIMITS, lambda: list(descendants(process.pid)), folders, group, pipe.write)
        )
        end = asyncio.create_task(process.wait())
        try:
            await asyncio.wait((end, over), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            used = over.result() if over.done() else killed_for_memory(BUILD_LIMITS, group)
            return end.result() if end.done() else None, used
        finally:
            over.cancel()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            end_marked(self._mark)
