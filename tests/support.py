"""Helpers for all tests: a clean environment, child processes that report when they are ready, polling."""

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
# A child inherits only these variables and the settings for package indexes. Others of the developer (PORT,
# PORTWAY_*, PYTHON*) would change the outcome of tests.
INHERITED = {"PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "SYSTEMROOT", "SSL_CERT_FILE", "SSL_CERT_DIR"}
INDEXES = ("UV_", "PIP_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")


def clean_env(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment for a child: base variables, this interpreter's scripts first on PATH, then `extra`."""
    env = {name: value for name, value in os.environ.items() if name in INHERITED or name.startswith(INDEXES)}
    env["PATH"] = os.pathsep.join([str(SCRIPTS), env.get("PATH", os.defpath)])
    return env | dict(extra or {})


PATIENCE = 120.0
"""Seconds after which a test no longer waits for what must come: many times what the slowest machine takes."""


def eventually(probe: Callable[[], T], *, within: float = PATIENCE) -> T:
    """Call `probe` every 10 ms and return its first truthy answer; fail the test after `within` seconds.

    Only for what must be polled (another process's files, a pid that must go); await everything else.
    """
    deadline = time.monotonic() + within
    pause = threading.Event()
    while not (answer := probe()):
        if time.monotonic() > deadline:
            pytest.fail(f"not within {within} s: {getattr(probe, '__name__', probe)}")
        pause.wait(0.01)
    return answer


class Started:
    """A running child: `lines` has its output so far (stdout and stderr), `match` the match in its ready line."""

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

    def wait_for(self, pattern: str, within: float = PATIENCE) -> re.Match[str]:
        """Return the first match of `pattern` in the child's output; fail the test if it ends or stays silent."""

        def found() -> re.Match[str] | bool | None:
            return next(filter(None, (re.search(pattern, line) for line in self.lines)), None) or self._closed

        with self._written:
            match = self._written.wait_for(found, within)
        if not isinstance(match, re.Match):
            pytest.fail(f"never wrote {pattern!r}; it wrote:\n{''.join(self.lines)}")
        return match


@contextlib.contextmanager
def started(
    *command: str | Path, ready: str, within: float = PATIENCE, env: Mapping[str, str] | None = None, cwd: Path = ROOT
) -> Iterator[Started]:
    """Run `command` while the block lasts, entered when a line matches `ready`; then SIGTERM, in the end SIGKILL."""
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
                process.wait(120)
            except subprocess.TimeoutExpired:
                process.kill()


@contextlib.contextmanager
def served(file: Path = WEATHER, *, env: Mapping[str, str] | None = None) -> Iterator[str]:
    """Run the server in `file` with `portway run` on a free port while the block lasts; give its URL."""
    command = (SCRIPTS / "portway", "run", file, "--transport", "http", "--host", "127.0.0.1", "--port", "0")
    with started(*command, ready=r"http://127\.0\.0\.1:(\d+)", env=env) as child:
        assert child.match
        yield f"http://localhost:{child.match[1]}/mcp"
