"""Shares a number of places (for calls, streams, detached calls) among callers: counts who holds how many, and who may
have one more.
"""

from collections.abc import Hashable


class Places:
    """Counts the places that each holder has: a caller's identity or, without a token, the client's address."""

    __slots__ = ("_held", "taken")

    def __init__(self) -> None:
        self.taken = 0
        self._held: dict[Hashable, int] = {}

    def take(self, holder: Hashable) -> int:
        """Take one place more, and return how many `holder` has now."""
        self.taken += 1
        held = self._held[holder] = self._held[holder] + 1 if holder in self._held else 1
        return held

    def give(self, holder: Hashable) -> None:
        """Give one place back."""
        self.taken -= 1
        held = self._held[holder]
        if held == 1:
            del self._held[holder]
        else:
            self._held[holder] = held - 1

    def admits(self, holder: Hashable, limit: int) -> bool:
        """Whether `holder` may keep the place it took last.

        Up to `limit` places, anybody is admitted. From there to `2 * limit`, only holders with at most an equal share
        of `limit` are, so that one caller who holds them all does not keep the others out.
        """
        if self.taken <= limit:
            return True
        return self.taken <= 2 * limit and self._held[holder] * len(self._held) <= limit

    def greediest(self) -> Hashable:
        """Return the holder of the most places; there must be one."""
        return max(self._held, key=lambda holder: self._held[holder])
