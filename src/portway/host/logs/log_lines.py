"""Reads lines of log files forward and backward, also of a rotated one, and finds where a time (`--since`) begins."""

import contextlib
import os
import stat
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

_BEGINS_BYTES = 64  # a line begins with its time
_BLOCK_BYTES = 256 * 1024  # more than a line has that the log writer or the gate wrote

Place = tuple[int, int]
"""A file of a log, by its index, and a byte of it."""


@dataclass(frozen=True, slots=True)
class LogPart:
    """An open file of a log, and its size when it was opened."""

    descriptor: int
    inode: int
    size: int

    def name(self, offset: int) -> str:
        """Name a byte of the file, whatever the file is renamed to; 0 names the file, once it has its first line.

        Another file may have its inode once it is gone, but does not begin as it does.
        """
        begins = zlib.crc32(os.pread(self.descriptor, min(offset or _BEGINS_BYTES, _BEGINS_BYTES), 0))
        return f"{offset}:{self.inode}:{begins}"


@dataclass(frozen=True, slots=True)
class LineFilter:
    """What each wanted line holds, and what none of them does, so that few lines of many are decoded."""

    wanted: tuple[bytes, ...] = ()
    unwanted: bytes = b""

    def passes_block(self, block: bytes) -> bool:
        """Return whether some lines together may hold a wanted one."""
        return all(words in block for words in self.wanted)

    def passes(self, line: bytes) -> bool:
        return self.passes_block(line) and not (self.unwanted and self.unwanted in line)


def open_parts(paths: Iterable[Path], stack: ExitStack) -> list[LogPart]:
    """Open those of the files that exist, to be closed by `stack`."""
    parts = []
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            stack.callback(os.close, descriptor)
            found = os.fstat(descriptor)
            if stat.S_ISREG(found.st_mode):
                parts.append(LogPart(descriptor, found.st_ino, found.st_size))
    return parts


def end_of(parts: list[LogPart], *, unfinished: bool) -> Place:
    """Return the place after the last line, or also after an `unfinished` one."""
    if not parts:
        return 0, 0
    part = parts[-1]
    end = part.size
    while end > 0 and not unfinished:
        start = max(0, end - _BLOCK_BYTES)
        newline = os.pread(part.descriptor, end - start, start).rfind(b"\n")
        if newline >= 0:
            return len(parts) - 1, start + newline + 1
        end = start
    return len(parts) - 1, end


def lines_forward(
    parts: list[LogPart], start: Place, lines: LineFilter, *, unfinished: bool
) -> Iterator[tuple[bytes | None, Place]]:
    """Yield each line from `start` on that is wanted, with the place after it; and None, with that after each block.

    A line longer than a block comes in pieces. What follows the last newline is a line if `unfinished`.
    """
    index, offset = start
    while index < len(parts):
        part, is_last = parts[index], index == len(parts) - 1
        while data := os.pread(part.descriptor, min(_BLOCK_BYTES, part.size - offset), offset):
            is_end = offset + len(data) == part.size
            whole = data.rfind(b"\n") + 1
            if is_end and (unfinished or not is_last):
                whole = len(data)
            elif not whole:
                if is_end:
                    break
                whole = len(data)
            block, end = data[:whole], offset
            for line in block.removesuffix(b"\n").split(b"\n") if lines.passes_block(block) else ():
                end += len(line) + 1
                if lines.passes(line):
                    yield line, (index, min(end, offset + whole))
            yield None, (index, offset + whole)
            offset += whole
        index, offset = index + 1, 0


def lines_backward(parts: list[LogPart], end: Place, lines: LineFilter) -> Iterator[tuple[bytes, Place]]:
    """Yield each line before `end`, the last one first, with the place where it begins, if it is wanted."""
    index, offset = end
    while index >= 0 and parts:
        part = parts[index]
        rest = b""  # the end of a line whose beginning is not read yet
        while offset > 0:
            start = max(0, offset - _BLOCK_BYTES)
            block = os.pread(part.descriptor, offset - start, start) + rest
            cut = block.find(b"\n", 0, -1) + 1 if start else 0
            if start and not cut:
                rest, offset = block, start
                continue
            rest = block[:cut]
            if lines.passes_block(block[cut:]):
                whole = block[cut:].removesuffix(b"\n")
                begin = start + cut + len(whole) + 1
                for line in reversed(whole.split(b"\n")):
                    begin -= len(line) + 1
                    if lines.passes(line):
                        yield line, (index, begin)
            offset = start
        index -= 1
        offset = parts[index].size if index >= 0 else 0


def place_of_time(parts: list[LogPart], time: str, time_of: Callable[[bytes], str]) -> Place:
    """Return the beginning of a line, such that all lines before it are older than `time`, and few after it are.

    For "" it is the first line.
    """
    for index, part in reversed(list(enumerate(parts if time else ()))):
        first = os.pread(part.descriptor, _BLOCK_BYTES, 0).partition(b"\n")[0]
        if time_of(first) >= time:
            continue
        low, high = 0, part.size
        while high - low > _BLOCK_BYTES:
            middle = (low + high) // 2
            data = os.pread(part.descriptor, _BLOCK_BYTES, middle)
            begin = data.find(b"\n") + 1
            end = data.find(b"\n", begin)
            if begin and end >= 0 and time_of(data[begin:end]) < time:
                low = middle + begin
            else:
                high = middle
        return index, low
    return 0, 0
