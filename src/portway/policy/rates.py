"""How often (10/minute), and how many at a time, each caller may call a tool.

A rate is kept by the generic cell rate algorithm: for each caller one number, the time at which its calls so far are
used up. A caller who has not called for a while has no entry, and nobody waits for anybody else.
"""

import math
import re
from collections.abc import Hashable

from portway.counted import counted
from portway.http.places import Places

_RATE = re.compile(r"([1-9][0-9]{0,6}) ?(?:/|per) ?(second|minute|hour|day|s|m|h|d)")
_UNITS = {"s": ("second", 1), "m": ("minute", 60), "h": ("hour", 3600), "d": ("day", 86_400)}
_MOST_CALLERS = 10_000


class Rate:
    """A rate such as 10/minute: so many calls at once, which come back one by one in that time. Raises ValueError.

    `says` is the rate in words, as in "10 calls per minute".
    """

    def __init__(self, text: str) -> None:
        found = _RATE.fullmatch(text)
        if found is None:
            raise ValueError(f"{text!r} is no rate as in 10/minute; the units are second, minute, hour and day")
        most, (unit, seconds) = int(found[1]), _UNITS[found[2][0]]
        self.says = f"{counted(most, 'call')} per {unit}"
        self._period = float(seconds)
        self._interval = self._period / most
        self._used_up: dict[Hashable, float] = {}

    def take(self, caller: Hashable, now: float) -> float:
        """Count a call and return 0; or count none and return the seconds until there may be one."""
        used_up = self._used_up.get(caller)
        until = (now if used_up is None or used_up < now else used_up) + self._interval
        wait = until - self._period - now
        if wait > 1e-6:
            return wait
        if used_up is None and len(self._used_up) >= _MOST_CALLERS:
            self._forget(now)
        self._used_up[caller] = until
        return 0.0

    def give(self, caller: Hashable) -> None:
        """Take back a call that `take` has counted, because it does not run."""
        if caller in self._used_up:
            self._used_up[caller] -= self._interval

    def _forget(self, now: float) -> None:
        """Forget the callers who have all their calls back; if those are few, some of the first ones, too."""
        kept = {caller: until for caller, until in self._used_up.items() if until > now}
        for caller in list(kept)[: max(len(kept) - _MOST_CALLERS * 9 // 10, 0)]:
            del kept[caller]
        self._used_up = kept


class Concurrency(Places):
    """How many calls each caller may have at a time."""

    __slots__ = ("most",)

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def enter(self, caller: Hashable) -> bool:
        """Count a call that begins, and return True; or count none."""
        held = self._held.get(caller, 0)
        if held >= self.most:
            return False
        self._held[caller] = held + 1
        self.taken += 1
        return True


def whole_seconds(seconds: float) -> int:
    """Return seconds as Retry-After has them: whole ones, and at least one."""
    return max(1, math.ceil(seconds))
