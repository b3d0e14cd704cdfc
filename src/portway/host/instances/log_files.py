"""Reads a release's log: its end, and what came after a place in it."""

from portway.host.instances.runtime import Release
from portway.host.management.management_types import Excerpt

_READ_BYTES = 256 * 1024


def read_log(release: Release, count: int, cursor: str) -> Excerpt:
    """The last `count` lines, or those since `cursor`; one of another release starts at this one's beginning."""
    log = release.log if release.log.exists() else release.build_log
    try:
        size = log.stat().st_size
        with log.open("rb") as file:
            start = _start(release, size, cursor) if cursor else max(0, size - _READ_BYTES)
            file.seek(start)
            data = file.read(_READ_BYTES)
    except FileNotFoundError:
        return Excerpt([], f"{release.number}:0")
    whole = data[: data.rfind(b"\n") + 1]
    if not whole and len(data) == _READ_BYTES:
        whole = data  # a line without end is shown in pieces
    lines = whole.decode(errors="replace").splitlines()
    return Excerpt(lines if cursor else lines[-count:] if count else [], f"{release.number}:{start + len(whole)}")


def _start(release: Release, size: int, cursor: str) -> int:
    number, _, offset = cursor.partition(":")
    if number != str(release.number) or not offset.isdigit():
        return 0
    return int(offset) if int(offset) <= size else 0  # it was cut meanwhile
