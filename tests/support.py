"""What any test may import: a clean environment, a child that says when it is ready, waiting by polling."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

T = TypeVar("T")
ROOT = Path(__file__).parent.parent
SCRIPTS = Path(sys.executable).parent
WEATHER = ROOT / "examples" / "weather" / "server.py"
# What a child may inherit: this, and how the machine reaches package indexes. Anything else of the developer's (PORT,
# PORTWAY_*, PYTHON*) would decide a test's outcome.
INHERITED = {"PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "SYSTEMROOT", "SSL_CERT_FILE", "SSL_CERT_DIR"}
INDEXES = ("UV_", "PIP_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")


def clean_env(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment for a child: a few base variables, this interpreter's scripts first on PATH, then `extra`."""
    env = {name: value for name, value in os.environ.items() if name in INHERITED or name.startswith(INDEXES)}
    env["PATH"] = os.pathsep.join([str(SCRIPTS), env.get("PATH", os.defpath)])
    return env | dict(extra or {})


def eventually(probe: Callable[[], T], *, within: float = 10) -> T:
    """The first truthy answer of `probe`, asked every 10 ms; fails the test after `within` seconds.

    For what only polling can see (another process's files, a pid that must go). What can be awaited is awaited instead.
    """
    deadline = time.monotonic() + within
    pause = threading.Event()
    while not (answer := probe()):
        if time.monotonic() > deadline:
            pytest.fail(f"not within {within} s: {getattr(probe, '__name__', probe)}")
        pause.wait(0.01)
    return answer


class Started:
    """A running child: `lines` is what it has written (stdout and stderr), `match` what was found in its ready line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self.match: re.Match[str] | None = None
        self._written = threading.Condition()
        self._closed = False
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            with self._written:
                self.lines.append(line)
                self._written.notify_all()
        with self._written:
            self._closed = True
            self._written.notify_all()

    def wait_for(self, pattern: str, within: float) -> re.Match[str]:
        """The first match of `pattern` in what the child writes; fails the test if it ends or stays silent instead."""

        def found() -> re.Match[str] | bool | None:
            return next(filter(None, (re.search(pattern, line) for line in self.lines)), None) or self._closed

        with self._written:
            match = self._written.wait_for(found, within)
        if not isinstance(match, re.Match):
            pytest.fail(f"never wrote {pattern!r}; it wrote:\n{''.join(self.lines)}")
        return match


@contextlib.contextmanager
def started(
    *command: str | Path, ready: str, within: float = 30, env: Mapping[str, str] | None = None, cwd: Path = ROOT
) -> Iterator[Started]:
    """Runs `command` while the block lasts, entered when a line matches `ready`; then SIGTERM, after 15 s SIGKILL."""
    with subprocess.Popen(
        list(map(str, command)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=clean_env(env),
        cwd=cwd,
    ) as process:
        child = Started(process)
        try:
            child.match = child.wait_for(ready, within)
            yield child
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()


@contextlib.contextmanager
def served(file: Path = WEATHER, *, env: Mapping[str, str] | None = None) -> Iterator[str]:
    """The URL of the server in `file`, run by `portway run` on a free port of localhost while the block lasts."""
    command = (SCRIPTS / "portway", "run", file, "--transport", "http", "--host", "127.0.0.1", "--port", "0")
    with started(*command, ready=r"http://127\.0\.0\.1:(\d+)", env=env) as child:
        assert child.match
        yield f"http://localhost:{child.match[1]}/mcp"
