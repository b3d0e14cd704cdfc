"""`portway up` in the foreground: the small parent of gate and control, which starts them and starts them again."""

import ctypes
import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from portway.host.control_status import FAILED
from portway.host.paths import Paths

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_RESTARTS = 5
_WINDOW_SECONDS = 60.0
_BACKLOG = 1024


class LaunchError(Exception):
    """The host cannot start; the message is one sentence."""


class Launcher:
    """Holds the data directory's lock and the gate's listening socket: both outlive a crash of gate and control."""

    def __init__(self, paths: Paths, port: int, domain: str, folders: list[Path]) -> None:
        """Takes the lock and the port. Raises `LaunchError` when another has them."""
        self._paths = paths
        self._lock = _lock(paths)
        self._listener = _listen(port)
        self._domain = domain
        self._folders = folders
        self._url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._children: dict[int, str] = {}
        self._starts = {"gate": deque[float](maxlen=_RESTARTS), "control": deque[float](maxlen=_RESTARTS)}
        self._stopping = False
        self._code = 0

    def run(self) -> int:
        """Run until a signal or a failure; the exit code. Every process is gone when it returns."""
        _libc().prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # instances of a killed control come to us
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        self._start("gate")
        self._start("control", first=True)
        while self._children:
            pid, status = os.waitpid(-1, 0)
            if (name := self._children.pop(pid, None)) is not None:
                self._on_exit(name, os.waitstatus_to_exitcode(status))
        return self._code

    def _start(self, name: str, *, first: bool = False) -> None:
        self._starts[name].append(time.monotonic())
        arguments = ["--data", str(self._paths.data)]
        if name == "gate":
            kept = self._listener.fileno()
            arguments += ["--fd", str(kept)]
        else:
            kept = self._lock
            arguments += ["--url", self._url, "--domain", self._domain]
        if name == "control" and first:
            arguments += ["--announce", *(argument for folder in self._folders for argument in ("--deploy", str(folder)))]
        child = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", f"portway.host.{name}", *arguments],
            stdin=subprocess.DEVNULL,
            pass_fds=(kept,),
            process_group=0,  # a terminal's Ctrl-C is for us alone: we stop them in order
            preexec_fn=_ends_with(os.getpid()),  # noqa: PLW1509  # this process has one thread
        )
        self._children[child.pid] = name
        child.returncode = 0  # reaped by waitpid above, never by Popen
