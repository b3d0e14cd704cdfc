"""`portway up` in the foreground: the small parent of gate and control, which starts them and starts them again."""

import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from portway.host.paths import Paths
from portway.http.bind import Bind, ListenError

FAILED = 3
"""Control's exit status when it must not be started again: it has said why."""

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_SHORT_SECONDS = 3.0  # a child that lived less has hardly done its work,
_SHORT_LIVES = 5  # and after so many in a row the next start waits, longer each time
_LONGEST_PAUSE_SECONDS = 32
_WINDOW_SECONDS = 60.0
_TICK_SECONDS = 1.0
_LONG_SECONDS = 3600.0


class LaunchError(Exception):
    """The host cannot start; the message is one sentence."""


class Launcher:
    """Holds the data directory's lock and the gate's listening socket: both outlive a crash of gate and control."""

    def __init__(self, paths: Paths, port: int, domain: str, folders: list[Path]) -> None:
        """Takes the lock and the port. Raises `LaunchError` when another has them."""
        self._paths = paths
        self._lock = _lock(paths)
        try:
            self._listener = Bind(port=port).open()
        except ListenError as error:
            raise LaunchError(str(error)) from None
        self._domain = domain
        self._folders = folders
        self._url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._children: dict[int, str] = {}
        self._started: dict[str, float] = {}
        self._short_lives = {"gate": 0, "control": 0}
        self._begun = time.monotonic()
        self._later: dict[str, float] = {}
        self._stopping = False
        self._code = 0

    def run(self) -> int:
        """Run until a signal or a failure; the exit code. Every process is gone when it returns."""
        had_children = bool(_own_children())  # of the shell that became us
        _libc().prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # instances of a killed control come to us
        # Signals are waited for, not handled: between a child's start and its entry here, none can slip in.
        signals = {signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
        if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:  # as under nohup
            signals.discard(signal.SIGHUP)
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        self._paths.announced.unlink(missing_ok=True)
        self._start("gate")
        self._start("control")
        while self._children or self._later:
            if (found := signal.sigtimedwait(signals, _TICK_SECONDS if self._later else _LONG_SECONDS)) is None:
                self._start_due()
            elif found.si_signo == signal.SIGCHLD:
                self._reap()
            else:
                self._stop()
        if not had_children:
            _end_orphans()
        self._paths.forget_run()
        return self._code

    def _start(self, name: str) -> None:
        self._started[name] = time.monotonic()
        arguments = ["--data", str(self._paths.data)]
        if name == "gate":
            kept = self._listener.fileno()
            arguments += ["--fd", str(kept)]
        else:
            kept = self._lock
            arguments += ["--url", self._url, "--domain", self._domain]
        if name == "control" and not self._paths.announced.exists():
            arguments += [
                "--announce",
                *(argument for folder in self._folders for argument in ("--deploy", str(folder))),
            ]
        child = subprocess.Popen(
            [sys.executable, "-m", f"portway.host.{name}", *arguments],
            stdin=subprocess.DEVNULL,
            pass_fds=(kept,),
            process_group=0,  # a terminal's Ctrl-C is for us alone: we stop them in order
            preexec_fn=_ends_with(os.getpid()),  # noqa: PLW1509  # this process has one thread
        )
        self._children[child.pid] = name
        child.returncode = 0  # reaped by waitpid above, never by Popen

    def _reap(self) -> None:
        """Bury every process that has ended, also the orphans that came to us."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if (name := self._children.pop(pid, None)) is not None:
                self._on_exit(name, os.waitstatus_to_exitcode(status))

    def _stop(self) -> None:
        """First the gate, which lets its calls end; control and with it the instances when the gate has gone.

        Asked again, end all of it now: a second SIGTERM is that to the gate, SIGINT to control.
        """
        if self._stopping:
            self._send("gate", signal.SIGTERM)
            self._send("control", signal.SIGINT)
            return
        self._stopping = True
        self._later.clear()
        self._send("gate" if "gate" in self._children.values() else "control", signal.SIGTERM)

    def _send(self, name: str, number: signal.Signals) -> None:
        for pid, child in self._children.items():
            if child == name:
                os.kill(pid, number)

    def _on_exit(self, name: str, code: int) -> None:
        now = time.monotonic()
        is_short = now - self._started[name] < _SHORT_SECONDS
        lives = self._short_lives[name] = self._short_lives[name] + 1 if is_short else 0
        often = lives >= _SHORT_LIVES
        if self._stopping:
            if name == "gate":
                self._send("control", signal.SIGTERM)
            elif code != 0:
                self._sweep()
        elif (name == "control" and code == FAILED) or (often and code > 0 and now - self._begun < _WINDOW_SECONDS):
            self._code = 1
            self._stop()
        elif often:  # what still runs goes on serving
            pause = min(2 ** (lives - _SHORT_LIVES), _LONGEST_PAUSE_SECONDS)
            _say(f"{name} ended ({_words(code)}), as often before; it is started again in {pause} s")
            self._later[name] = now + pause
        else:
            _say(f"{name} ended ({_words(code)}) and is started again")
            self._start(name)

    def _start_due(self) -> None:
        for name, due in list(self._later.items()):
            if due <= time.monotonic():
                del self._later[name]
                self._start(name)

    def _sweep(self) -> None:
        """Control did not end well: end what it leaves."""
        from portway.host.instances.processes import end_strays  # brings asyncio

        end_strays(self._paths, set())


def _end_orphans() -> None:
    """End what apps left behind: a daemon that shed its environment is known only by having become our child."""
    while pids := _own_children():
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _own_children() -> list[int]:
    try:
        return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]
    except OSError:  # a kernel without CONFIG_PROC_CHILDREN
        return []


def _lock(paths: Paths) -> int:
    descriptor = os.open(paths.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise LaunchError(f"another `portway up` uses {paths.data}: stop it, or choose another --data") from None
    return descriptor


def _ends_with(parent: int) -> Callable[[], None]:
    """What a child does before it becomes its program: tie its life to its parent's, even to one that is killed."""
    libc = _libc()

    def tie() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return tie


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)


def _words(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"


def _say(line: str) -> None:
    sys.stderr.write(f"portway: {line}\n")
