"""The steps of a deploy, as the person who asked for it reads them."""

import time
from collections.abc import Awaitable, Callable

_MOST_WARNINGS = 20

Report = Callable[[str], Awaitable[None]]
"""Takes one line for each step of a deploy."""


class Steps:
    """Reports each step of a deploy with the seconds it took. `label` stands before its detail."""

    def __init__(self, report: Report) -> None:
        self.label = ""
        self._report = report
        self._begun = self._last = time.monotonic()

    async def done(self, step: str, detail: str) -> None:
        now = time.monotonic()
        took, self._last = now - self._last, now
        await self._report(f"{step} {took:.1f}s  {self.label}{detail}")

    async def note(self, note: str) -> None:
        await self._report(f"note  {note}")

    async def warn(self, warnings: list[str]) -> None:
        for warning in warnings[:_MOST_WARNINGS]:
            await self._report(f"warning  {self.label}{warning}")

    def resume(self) -> None:
        """Count from now: what came before was waiting."""
        self._begun = self._last = time.monotonic()

    def total_ms(self) -> int:
        return round((time.monotonic() - self._begun) * 1000)
