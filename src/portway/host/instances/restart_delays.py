"""When a crashed app is started again: at once, then later and later, and once a minute when it keeps crashing."""

from collections import deque

WINDOW_SECONDS = 60.0
"""An instance that lived so long had a good start; a loop waits so long between tries."""
CRASHES = 5
"""More than so many within a window are a loop."""
BACK_OFF = (0.0, 1.0, 2.0, 4.0, 8.0)


class Restarts:
    """The crashes of one release. Times are seconds of one clock, which the caller reads."""

    def __init__(self) -> None:
        self.count = 0
        self.looping = False
        self._up_since: float | None = None
        self._crashes: deque[float] = deque(maxlen=CRASHES + 1)

    def up(self, now: float) -> None:
        """An instance is ready."""
        self._up_since = now

    def crashed(self, now: float) -> float:
        """An instance ended, or could not start: the seconds until the next is to be started."""
        if self._up_since is not None and now - self._up_since > WINDOW_SECONDS:
            self._crashes.clear()
            self.looping = False
        self._up_since = None
        self.count += 1
        self._crashes.append(now)
        recent = sum(now - crash < WINDOW_SECONDS for crash in self._crashes)
        if recent > CRASHES:
            self.looping = True  # until an instance has lived through a whole window
        return WINDOW_SECONDS if self.looping else BACK_OFF[recent - 1]
