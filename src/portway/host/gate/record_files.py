"""The files of the call record: deleted by age and size, and counted.

Numbers have no gaps and begin with 1, so the oldest file says how many lines are gone, also after a crash.
"""

import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

_DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class Retention:
    """How much of the record is kept, in whole files; the newest always is. A file has one day's lines at most."""

    file_bytes: int = 8 * 1024 * 1024
    file_seconds: float = _DAY
    bytes: int = 256 * 1024 * 1024
    seconds: float = 7 * _DAY


def file_for(directory: Path, number: int) -> Path:
    """Return the file whose first line has that number."""
    return directory / f"{number:012d}.jsonl"


def record_files(directory: Path) -> list[Path]:
    """Return the files of a record, oldest first."""
    return sorted(directory.glob("*.jsonl"))


def count_dropped(directory: Path) -> int:
    """Return how many lines of a record are gone."""
    oldest = next(iter(record_files(directory)), None)
    return int(oldest.stem) - 1 if oldest else 0


def drop_old(directory: Path, retention: Retention) -> int:
    """Delete the files that are too old or too much; return the number of their lines. Raises `OSError`."""
    files = record_files(directory)
    found = {path: path.stat() for path in files}
    size = sum(each.st_size for each in found.values())
    oldest, dropped = time.time() - retention.seconds, 0
    for path, following in pairwise(files):
        if size <= retention.bytes and found[path].st_mtime >= oldest:
            break
        path.unlink()
        size -= found[path].st_size
        dropped += int(following.stem) - int(path.stem)
    return dropped
