"""Runs the commands of a build."""

import asyncio
import contextlib
import os
import signal
import tempfile

from portway.host.builds.build_error import BuildError
from portway.host.logs.log_pipe import LogPipe
from portway.host.logs.log_reader import last_lines
from portway.host.paths import Paths
from portway.host.processes import build_mark, end_marked
from portway.host.releases.release import Release

_SECONDS = 900.0
_ANSWER_BYTES = 64 * 1024


class BuildCommands:
    """Runs a build's commands, one at a time, in the source's folder, with stderr going to the build's log."""

    def __init__(self, release: Release, environment: dict[str, str], paths: Paths) -> None:
        self._release = release
        self._mark = build_mark(paths, release.directory)
        name, _, value = self._mark.variable.partition("=")
        self._environment = environment | {name: value}
        self._paths = paths

    async def run(self, command: list[str], purpose: str, *, seconds: float = _SECONDS) -> str:
        """Return what the command wrote to stdout. Raises `BuildError` when it fails or takes longer than `seconds`.

        Processes that the command leaves behind are killed and not waited for.
        """
        log = self._release.build_log
        begun = log.stat().st_size if log.exists() else 0
        with tempfile.TemporaryFile() as answer:
            with LogPipe(self._paths.log_pipes, log) as pipe:
                process = await asyncio.create_subprocess_exec(
                    *command,
                    cwd=self._release.folder,
                    env=self._environment,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=answer,
                    stderr=pipe.descriptor,
                    start_new_session=True,
                )
            self._mark.put_on(process.pid)
            try:
                code = await asyncio.wait_for(process.wait(), seconds)
            except TimeoutError:
                code = None
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                end_marked(self._mark)
            if code == 0:
                answer.seek(0)
                return answer.read(_ANSWER_BYTES).decode(errors="replace")
        await pipe.drained()
        tail = "".join(f"\n  {line}" for line in last_lines(log, since=begun))
        if code is None:
            raise BuildError(f"could not {purpose} within {seconds:.0f} s:{tail}")
        raise BuildError(f"could not {purpose}:{tail}")
