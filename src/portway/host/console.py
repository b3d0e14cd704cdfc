"""Lines that the host prints. One that cannot be printed is dropped: nobody need read them for the host to run."""

import contextlib
import os
import select

_LINE_BYTES = 4096  # as much as a pipe that is ready takes without blocking (PIPE_BUF)


def say(line: str, *, to: int = 2) -> None:
    """Write one line to a descriptor, unless it is closed, full, or its reader is gone or reads nothing."""
    data = f"{line}\n".encode(errors="replace")
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
