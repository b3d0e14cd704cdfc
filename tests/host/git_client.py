"""Git as a user of a host runs it, apart from the configuration of the machine."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.support import clean_env

_ENVIRONMENT = {
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    **{f"GIT_{who}_NAME": "Ada" for who in ("AUTHOR", "COMMITTER")},
    **{f"GIT_{who}_EMAIL": "ada@example.com" for who in ("AUTHOR", "COMMITTER")},
}


def run_git(folder: Path, *arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run git in a folder; fail the test when it fails, unless not to `check`."""
    done = subprocess.run(
        ["git", *arguments],
        cwd=folder,
        env=clean_env(_ENVIRONMENT),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert not check or done.returncode == 0, done.stderr
    return done


@contextlib.contextmanager
def git_process(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run git in a folder and a process group of its own while the block lasts; its stderr is a pipe."""
    with subprocess.Popen(
        ["git", *arguments],
        cwd=folder,
        env=clean_env(_ENVIRONMENT),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def git(folder: Path, *arguments: str | Path) -> str:
    """Run git in a folder and return what it printed."""
    return run_git(folder, *arguments).stdout.strip()


def commit_all(folder: Path, message: str = "A change") -> str:
    """Commit all files of a folder, which becomes a repository with the branch main if it is none; return the id."""
    if not (folder / ".git").exists():
        git(folder, "init", "--quiet", "--initial-branch=main")
    git(folder, "add", "--all", "--force")
    git(folder, "commit", "--quiet", "--allow-empty", "--message", message)
    return git(folder, "rev-parse", "HEAD")
