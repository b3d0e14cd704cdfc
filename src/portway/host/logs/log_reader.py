"""Reads a release's log: its last lines, and what was written after a place in it."""

from dataclasses import dataclass
from pathlib import Path

from portway.host.releases.release import Release

_READ_BYTES = 256 * 1024
_TAIL_LINES = 20
_TAIL_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class LogLines:
    """Whole lines, and the `cursor` that asks for those after them."""

    lines: list[str]
    cursor: str


def last_lines(log: Path, *, since: int = 0) -> list[str]:
    """Return the last 20 lines of a log from byte `since` on, at most 16 KiB; none when there is no log yet."""
    try:
        with log.open("rb") as file:
            file.seek(max(since, file.seek(0, 2) - _TAIL_BYTES))
            return file.read(_TAIL_BYTES).decode(errors="replace").splitlines()[-_TAIL_LINES:]
    except FileNotFoundError:
        return []


def read_log(release: Release, count: int, cursor: str) -> LogLines:
    """Return the last `count` lines, or those since `cursor`; a cursor of another release starts at the beginning.

    A release that has never run shows the log of its build.
    """
    log = release.log if release.log.exists() else release.build_log
    try:
        size = log.stat().st_size
        with log.open("rb") as file:
            start = _start(release, size, cursor) if cursor else max(0, size - _READ_BYTES)
            file.seek(start)
            data = file.read(_READ_BYTES)
    except FileNotFoundError:
        return LogLines([], f"{release.number}:0")
    whole = data[: data.rfind(b"\n") + 1]
    if not whole and len(data) == _READ_BYTES:
        whole = data  # a line without end is shown in pieces
    lines = whole.decode(errors="replace").splitlines()
    return LogLines(lines if cursor else lines[-count:] if count else [], f"{release.number}:{start + len(whole)}")


def _start(release: Release, size: int, cursor: str) -> int:
    number, _, offset = cursor.partition(":")
    if number != str(release.number) or not offset.isdigit():
        return 0
    return int(offset) if int(offset) <= size else 0  # it was cut meanwhile
