"""The tool `backup` of the management API: a backup of the running host into its data directory; the newest three are
kept.
"""

import asyncio
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from portway.exceptions import ToolError
from portway.host.management.management_types import BackupFile
from portway.host.management.progress import report_to
from portway.host.management.tool_rights import Rule, Tools
from portway.host.paths import Paths
from portway.host.processes import exit_in_words
from portway.host.releases.steps import Report
from portway.server.context import Context

_KEPT = 3
_STEP = "-----> "


class _Told(msgspec.Struct):
    """What `portway backup -o json` prints."""

    bytes: int
    apps: list[str]
    warnings: list[str]


class BackupTool:
    """The tool `backup`. A process of its own makes the file, at the lowest priority."""

    def __init__(self, paths: Paths, key_file: Path) -> None:
        self._paths = paths
        self._key_file = key_file
        self._under_way = asyncio.Lock()

    def register(self, tools: Tools) -> None:
        """Add the tool."""
        tools.add(self.backup, Rule("admin", app=None))

    async def backup(self, ctx: Context) -> BackupFile:
        """Write the whole host to a new file in its data directory, while it runs; the newest three are kept.

        It holds apps, sources, variables, storage, tokens, users, links and records. Variables are encrypted by a key
        that is not in it. The operator makes a host of such a file by `portway restore`, on the machine.
        """
        if self._under_way.locked():
            raise ToolError("another backup of this host is being made: wait for its end")
        async with self._under_way:
            try:
                return await self._make(report_to(ctx, self._paths))
            except OSError as error:
                raise ToolError(f"the backup cannot be written: {error.strerror}") from None

    async def _make(self, report: Report) -> BackupFile:
        folder = self._paths.backups
        await asyncio.to_thread(folder.mkdir, mode=0o700, exist_ok=True)
        draft = folder / "draft"  # of which a killed backup leaves one at most
        told = await self._run(draft, report)
        file = folder / f"{datetime.now(UTC):%Y-%m-%dT%H%M%S.%fZ}.backup"
        await asyncio.to_thread(draft.replace, file)
        for old in sorted(folder.glob("*.backup"))[:-_KEPT]:
            await asyncio.to_thread(old.unlink, missing_ok=True)
        return BackupFile(str(file), told.bytes, told.apps, told.warnings)

    async def _run(self, draft: Path, report: Report) -> _Told:
        """Have `portway backup` write the draft. Raises `ToolError`."""
        options = [f"--data={self._paths.data}", f"--key-file={self._key_file}", "--output=json"]
        mark = {"PORTWAY_BUILD": f"{self._paths.data / 'apps'}/"}  # by which a later control finds it, and ends it
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "portway", "backup", str(draft), *options),
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=PIPE,
            env=os.environ | mark,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            printed, last = await asyncio.gather(process.stdout.read(), _pass_on(process.stderr, report))
            code = await process.wait()
        finally:
            if process.returncode is None:  # the client has left
                process.kill()
                await process.wait()
        if code:
            raise ToolError(last.removeprefix("Error: ") or f"the backup cannot be written: {exit_in_words(code)}")
        return msgspec.json.decode(printed, type=_Told)


async def _pass_on(lines: asyncio.StreamReader, report: Report) -> str:
    """Report the steps among some lines; return the last line."""
    last = ""
    async for line in lines:
        last = line.decode(errors="replace").rstrip()
        if last.startswith(_STEP):
            await report(last.removeprefix(_STEP))
    return last
