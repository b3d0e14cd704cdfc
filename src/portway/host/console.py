"""What the host prints, so that it never waits for a reader: a line that cannot be printed at once is dropped."""

import contextlib
import io
import os
import select
import sys

_LINE_BYTES = 4096  # what a ready pipe takes without blocking (PIPE_BUF)


def say(line: str, *, to: int = 2) -> None:
    """Write one line to a descriptor, unless it is closed or full, or has no reader."""
    _write(f"{line}\n", to)


def never_wait_for_stderr() -> None:
    """Replace `sys.stderr` by a stream that drops what its reader leaves no room for: logs, warnings, tracebacks."""
    sys.stderr = _Stderr()


class _Stderr(io.TextIOBase):
    def write(self, text: str) -> int:
        _write(text, 2)
        return len(text)


def _write(text: str, to: int) -> None:
    data = text.encode(errors="replace")
    with contextlib.suppress(OSError, ValueError):
        while data and select.select([], [to], [], 0)[1]:
            data = data[os.write(to, data[:_LINE_BYTES]) :]


def open_standard_descriptors() -> None:
    """Open /dev/null for each of the descriptors 0 to 2 that is closed, so that no other file gets its number."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(number, True)
