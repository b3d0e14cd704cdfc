"""How soon a crashed instance is restarted: at once, then later and later, a minute in a crash loop."""

from collections import deque

WINDOW_SECONDS = 60.0
"""An instance that ran longer ends a crash loop; in a loop, a restart is delayed by this time."""
CRASHES = 5
"""More crashes than this within the window are a crash loop."""
BACK_OFF = (0.0, 1.0, 2.0, 4.0, 8.0)


class RestartDelays:
    """Remembers the crashes of one release. Times are seconds of one clock, which the caller reads."""

    def __init__(self) -> None:
        self.looping = False
        self._up_since: float | None = None
        self._crashes: deque[float] = deque(maxlen=CRASHES + 1)

    def up(self, now: float) -> None:
        """Note that an instance is ready."""
        self._up_since = now

    def crashed(self, now: float) -> float:
        """Note that an instance ended, or could not start. Return the seconds until the next start."""
        if self._up_since is not None and now - self._up_since > WINDOW_SECONDS:
            self._crashes.clear()
            self.looping = False
        self._up_since = None
        self._crashes.append(now)
        recent = sum(now - crash < WINDOW_SECONDS for crash in self._crashes)
        if recent > CRASHES:
            self.looping = True  # until an instance has lived through a whole window
        return WINDOW_SECONDS if self.looping else BACK_OFF[recent - 1]
