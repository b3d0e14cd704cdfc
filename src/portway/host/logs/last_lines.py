"""The last 20 lines of a log, as errors quote them."""

import os
from pathlib import Path

from portway.host.logs.stamp import read_stamp

_LINES = 20
_BYTES = 16 * 1024


def last_lines(log: Path, *, since: int = 0) -> list[str]:
    """Return the last 20 lines of a log from byte `since` on, at most 16 KiB; none when there is no log yet."""
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(since if since <= size else 0, size - _BYTES))
            data = file.read(_BYTES).removesuffix(b"\n")
    except FileNotFoundError:
        return []
    lines = data.split(b"\n")[-_LINES:] if data else []
    return [read_stamp(line)[2].decode(errors="replace") for line in lines]
