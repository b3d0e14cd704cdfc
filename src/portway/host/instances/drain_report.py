"""What a deploy tells of the calls of the release before: how many there were, and how they ended."""

import asyncio

from portway.counted import counted


class Draining:
    """The calls that instances of an earlier `release` had when a new one took over.

    `over` is set when they have ended, or had `seconds` for that; then `left` counts those that have not.
    """

    def __init__(self, release: int, seconds: float, instances: int) -> None:
        self.over = asyncio.Event()
        self._release = release
        self._seconds = seconds
        self._waits_for = instances
        self._calls = self._left = 0
        if not instances:
            self.over.set()

    def found(self, calls: int) -> None:
        """Count the calls of one instance."""
        self._calls += calls

    def ended(self, left: int) -> None:
        """Note that the calls of one instance have ended, but for those that are `left`."""
        self._left += left
        self._waits_for -= 1
        if not self._waits_for:
            self.over.set()

    def __str__(self) -> str:
        """Say how it stands; empty if there were no calls."""
        if not self._calls:
            return ""
        if not self.over.is_set():
            return f"{counted(self._calls, 'call')} of release {self._release} may go on there for {self._seconds:g} s"
        cut = f"{self._left} cut after {self._seconds:g} s" if self._left else "0 cut"
        return f"{counted(self._calls - self._left, 'call')} of release {self._release} ended, {cut}"
