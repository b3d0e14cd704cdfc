"""The time as logs and records write it (RFC 3339, UTC)."""

import time
from functools import lru_cache


def now() -> str:
    """Return the current time in UTC, to the millisecond, in the format of RFC 3339. Such texts sort by time."""
    seconds, thousandths = divmod(time.time_ns() // 1_000_000, 1000)
    return f"{to_the_second(seconds)}.{thousandths:03d}Z"


@lru_cache(maxsize=2)
def to_the_second(seconds: int) -> str:
    """Return a time in Unix seconds in the format of RFC 3339, without its zone, which is UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
