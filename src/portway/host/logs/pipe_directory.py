"""The directory of the pipes, with their links and the bell: a FIFO that tells the log writer of a new pipe."""

import contextlib
import os
from pathlib import Path


def link_of(pipe: Path) -> Path:
    """Return the link that names a pipe's log."""
    return pipe.with_suffix(".log")


def bell_of(directory: Path) -> Path:
    """Return the bell of a directory of pipes."""
    return directory / "bell"


def ring(directory: Path) -> None:
    """Have the log writer look for new pipes. If none runs, the next one looks when it starts."""
    with contextlib.suppress(OSError):
        bell = os.open(bell_of(directory), os.O_WRONLY | os.O_NONBLOCK)
        os.write(bell, b"\0")
        os.close(bell)
