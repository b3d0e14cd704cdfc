"""Runs git, apart from any configuration, within limits of time and memory; a git that is missing or too old."""

import errno
import functools
import logging
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

FULL = "the disk of the host is full: ask its operator for room"
MISSING = "git is not installed on this host: install it, as by `apt-get install git`"
_SECONDS = 120.0  # for one command
_LIMITS = "ulimit -t 300 && ulimit -d 1048576"  # seconds of processor time, and KiB of memory, of each process
_OLDEST = (2, 29)  # the first with the hook proc-receive
_log = logging.getLogger("portway.host.git")


class GitError(Exception):
    """Git did not do what was asked of it; the message is one sentence, without paths of the host."""


def git_program() -> str:
    """Return the path of git. Raises `GitError` when there is none."""
    if (found := shutil.which("git")) is None:
        raise GitError(MISSING)
    return found


def limited_git(*arguments: str) -> list[str]:
    """Return the words that run git so that no process of it uses more than its share. Raises `GitError`.

    The shell sets the limits before git starts: what a client sent may be packed to a thousandth of its size.
    """
    return ["/bin/sh", "-c", f'{_LIMITS} && exec "$@"', "sh", git_program(), *arguments]


@functools.cache
def refuse_old_git() -> None:
    """Raise `GitError` when there is no git, or one that cannot leave a push to the host."""
    done = subprocess.run([git_program(), "--version"], capture_output=True, text=True, timeout=_SECONDS, check=False)
    found = re.search(r"\d+\.\d+", done.stdout)
    if found is None or tuple(map(int, found[0].split("."))) < _OLDEST:
        raise GitError(f"git {found[0] if found else ''} is too old for pushes: install 2.29 or later")


def git_environment(repository: Path) -> dict[str, str]:
    """Return the whole environment of a git command: it reads no configuration but the repository's own."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "LC_ALL": "C",
        "HOME": "/nonexistent",
        "GIT_DIR": str(repository),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_TERMINAL_PROMPT": "0",
    }


def run_git(
    environment: Mapping[str, str],
    *arguments: str,
    given: bytes = b"",
    cwd: Path | None = None,
    seconds: float = 0.0,
) -> bytes:
    """Run one command to its end, for at most `seconds` if given, and return what it printed. Raises `GitError`."""
    seconds = seconds or _SECONDS
    try:
        done = subprocess.run(
            limited_git(*arguments),
            env=environment,
            cwd=cwd,
            input=given,
            capture_output=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise GitError(f"git {arguments[0]} took longer than {seconds:.0f} s") from None
    if done.returncode:
        _log.warning("git %s failed: %s", arguments[0], done.stderr.decode(errors="replace").strip())
        is_full = os.strerror(errno.ENOSPC).encode() in done.stderr
        raise GitError(FULL if is_full else f"git {arguments[0]} failed, as the host's log says")
    return done.stdout


@contextmanager
def open_git(environment: Mapping[str, str], *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command while the block lasts, and no longer than one may take; its input and output are pipes.

    Raises `GitError` when there is no git.
    """
    process = subprocess.Popen(
        limited_git(*arguments),
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    timer = threading.Timer(_SECONDS, process.kill)
    timer.daemon = True
    timer.start()
    try:
        yield process
    finally:
        timer.cancel()
        process.kill()
        process.communicate()
