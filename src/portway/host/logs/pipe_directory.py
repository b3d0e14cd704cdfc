"""The directory of the log pipes, and how the log writer learns of a new one."""

import contextlib
import os
import secrets
from pathlib import Path


def new_pipe(directory: Path, instance: str) -> Path:
    """Return a path for a pipe that carries what an instance writes, or a build ("")."""
    return directory / f"{secrets.token_hex(8)}-{instance}"


def instance_of(pipe: Path) -> str:
    """Return the instance whose output a pipe carries, "" for that of a build."""
    return pipe.name.partition("-")[2]


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
