"""Reads a release's log: its last lines, and what was written after a place in it. Only a newline ends a line."""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from portway.host.logs.log_file import previous
from portway.host.releases.release import Release

_PAGE_BYTES = 1024 * 1024
_BLOCK_BYTES = 64 * 1024
_TAIL_LINES = 20
_TAIL_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class LogLines:
    """Whole lines, and the `cursor` that asks for those after them: at once when there is `more`.

    `unfinished` is what follows the last newline, if anything.
    """

    lines: list[str]
    cursor: str
    more: bool
    unfinished: str


@dataclass(frozen=True, slots=True)
class _File:
    """An open file of a log. `inode` names it, whatever it is renamed to."""

    descriptor: int
    inode: int
    size: int


def last_lines(log: Path, *, since: int = 0) -> list[str]:
    """Return the last 20 lines of a log from byte `since` on, at most 16 KiB; none when there is no log yet."""
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(since if since <= size else 0, size - _TAIL_BYTES))
            return _split(file.read(_TAIL_BYTES))[-_TAIL_LINES:]
    except FileNotFoundError:
        return []


def read_log(release: Release, count: int, cursor: str) -> LogLines:
    """Return the last `count` lines, or those since `cursor`; a cursor of another release starts at the beginning.

    A release that has never run shows the log of its build.
    """
    log = release.log if release.log.exists() else release.build_log
    with ExitStack() as stack:
        files = list(_open((previous(log), log), stack))
        if not files:
            return LogLines([], f"{release.number}:0:0", more=False, unfinished="")
        index, offset = _place(release, files, cursor) if cursor else _tail(files, count)
        file = files[index]
        data = os.pread(file.descriptor, _PAGE_BYTES, offset)
    is_end = offset + len(data) >= file.size
    if is_end and file is not files[-1]:
        return LogLines(_split(data), f"{release.number}:{files[index + 1].inode}:0", more=True, unfinished="")
    whole = data[: data.rfind(b"\n") + 1]
    if not whole and not is_end:
        whole = data  # a very long line is shown in pieces
    rest = data[len(whole) :].decode(errors="replace") if is_end else ""
    return LogLines(_split(whole), f"{release.number}:{file.inode}:{offset + len(whole)}", not is_end, rest)


def _open(paths: Sequence[Path], stack: ExitStack) -> Iterator[_File]:
    for path in paths:
        try:
            file = stack.enter_context(path.open("rb"))
        except FileNotFoundError:
            continue
        found = os.fstat(file.fileno())
        yield _File(file.fileno(), found.st_ino, found.st_size)


def _place(release: Release, files: list[_File], cursor: str) -> tuple[int, int]:
    """Return the file and the byte a cursor names; the beginning of the newest file when that is gone."""
    number, inode, offset = [int(part) if part.isdecimal() else 0 for part in f"{cursor}::".split(":")[:3]]
    for index, file in enumerate(files):
        if number == release.number and inode == file.inode and offset <= file.size:
            return index, offset
    return len(files) - 1, 0


def _tail(files: list[_File], count: int) -> tuple[int, int]:
    """Return the file and the byte where the last `count` lines begin, an unfinished one among them."""
    last = files[-1]
    is_whole = last.size == 0 or os.pread(last.descriptor, 1, last.size - 1) == b"\n"
    newlines = count if is_whole else max(count - 1, 0)  # to pass over on the way back from the end
    for index, file in reversed(list(enumerate(files))):
        end = file.size
        while end > 0:
            start = max(0, end - _BLOCK_BYTES)
            block = os.pread(file.descriptor, end - start, start)
            at = len(block)
            while (at := block.rfind(b"\n", 0, at)) >= 0:
                if newlines == 0:
                    return index, start + at + 1
                newlines -= 1
            end = start
    return 0, 0


def _split(data: bytes) -> list[str]:
    return data.removesuffix(b"\n").decode(errors="replace").split("\n") if data else []
