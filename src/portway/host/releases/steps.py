"""The lines of a deploy's transcript: each step with its seconds, notes, warnings."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from portway.host.logs.log_file import write_to

_MOST_WARNINGS = 20

Report = Callable[[str], Awaitable[None]]
"""Takes one line for each step of a deploy."""


def report_to(log: logging.Logger, app: str) -> Report:
    """Return a report for a deploy that nobody waits for: the host's log has its steps."""

    async def report(step: str) -> None:
        log.info("%s: %s", app, step)

    return report


class Steps:
    """Reports each step of a deploy with the seconds it took. `label` stands before its detail.

    The build's `log` gets what is reported, too: nobody may be there to read it.
    """

    def __init__(self, report: Report) -> None:
        self.label = ""
        self.log: Path | None = None
        self._report = report
        self._begun = self._last = time.monotonic()

    async def done(self, step: str, detail: str) -> None:
        now = time.monotonic()
        took, self._last = now - self._last, now
        await self._tell(f"{step} {took:.1f}s  {self.label}{detail}")

    async def note(self, note: str) -> None:
        await self._tell(f"note  {note}")

    async def warn(self, warnings: list[str]) -> None:
        for warning in warnings[:_MOST_WARNINGS]:
            await self._tell(f"warning  {self.label}{warning}")

    async def _tell(self, line: str) -> None:
        await self._report(line)
        if self.log is not None:
            await asyncio.to_thread(write_to, self.log, f"-----> {line}")

    def resume(self) -> None:
        """Count from now: what came before was waiting."""
        self._begun = self._last = time.monotonic()

    def total_ms(self) -> int:
        return round((time.monotonic() - self._begun) * 1000)
