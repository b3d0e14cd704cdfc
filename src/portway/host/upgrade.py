"""The steps of an upgrade, as the launcher of the new version takes them: gate, control, log writer; how long each may
take, and the way back when one fails.

    gate      the new one starts beside the old and answers on a socket of its own, while the old one serves
    control   the old one leaves when no deploy runs, without stopping the instances. The database is copied, and the
              new one starts, which may migrate it
    switch    the new gate takes the place of the old, which ends its calls
    logs      the log writer is started again
    done      the next start of the host uses this version

When a step fails, or takes too long, what was started is ended, the database is put back, and the launcher of the
version before has its place again. It starts what is missing and replaces what this one has left.
"""

import contextlib
import signal
import socket
import struct
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Protocol

from portway.host.paths import Paths
from portway.host.upgrade_files import Chosen, Progress, UpgradeFiles

NEXT_GATE = "next gate"
"""The name of the gate that stands by."""
RETIRED = "gate before"
"""The name of the gate that ends its last calls."""
POLL_SECONDS = 0.05
"""Between looks at an upgrade that goes on."""

_ANSWER_SECONDS = 1.0
_GATE_SECONDS = 60.0  # for the new gate to stand by
_LEAVE_SECONDS = 1800.0  # for deploys that run, as long as the longest of builds
_CONTROL_SECONDS = 600.0  # for a migration; a control that hangs is found sooner
_SWITCH_SECONDS = 30.0
_TRIAL_SECONDS = 2.0  # in which a control that answers must not end
_LOGS_SECONDS = 10.0

Steps = Generator[None]


class Children(Protocol):
    """What the launcher offers to an upgrade."""

    def start_child(self, name: str) -> None:
        """Start a child."""

    def pid(self, name: str) -> int:
        """Return the process id of a child, 0 if it does not run."""

    def send(self, name: str, number: signal.Signals) -> None:
        """Send a signal to a child, if it runs."""

    def succeed_gate(self) -> None:
        """Note that the gate that stood by serves, and the one before it ends."""

    def give_back(self, foreign: list[str], failure: str) -> None:
        """Give the place to the launcher before; return if that is not possible."""


class UpgradeError(Exception):
    """A step has failed; the message is one sentence."""


class Upgrade:
    """One upgrade. `steps` is advanced by the launcher, and ends with the upgrade."""

    def __init__(self, children: Children, paths: Paths) -> None:
        self.expected = {NEXT_GATE, "control"}
        """The children whose end is no reason to start them again."""
        self._foreign: list[str] = []  # the children of the version before that are replaced
        self._children = children
        self._paths = paths
        self._files = UpgradeFiles(paths)
        self._begun = time.monotonic()

    def steps(self) -> Steps:
        """Do it step by step; pause where something is waited for."""
        try:
            request = self._files.request()
            yield from self._stand_by()
            yield from self._replace_control()
            yield from self._switch()
            yield from self._replace_logs()
            self._files.choose(Chosen(request.python, request.installed))
            self._files.forget_database()
        except (UpgradeError, OSError) as error:
            yield from self._undo(str(error))
            return
        self._files.forget_versions({request.python, request.back})
        self._files.report(Progress(is_over=True))

    def steps_back(self, foreign: list[str], failure: str) -> Steps:
        """Replace the children that a launcher has left which could not take the place of this one."""
        self.expected = {NEXT_GATE}
        is_healthy = self._health("control", self._paths.control_socket, "/health")
        try:
            if "gate" in foreign:
                yield from self._stand_by()
                yield from self._switch()
            if "logs" in foreign:
                yield from self._replace_logs()
            yield from self._until(is_healthy, "control", _CONTROL_SECONDS, "control")
        except (UpgradeError, OSError) as error:
            failure += f"; {error}"
            if not self._children.pid("gate"):
                self._children.start_child("gate")
        self._files.report(Progress(is_over=True, failure=failure))

    def _stand_by(self) -> Steps:
        self._children.start_child(NEXT_GATE)
        is_healthy = self._health(NEXT_GATE, self._paths.standby_socket, "/_portway/health")
        yield from self._until(is_healthy, NEXT_GATE, _GATE_SECONDS, "the new gate")
        self._report("gate", "the new gate answers")

    def _replace_control(self) -> Steps:
        self._children.send("control", signal.SIGUSR1)
        yield from self._gone("control", _LEAVE_SECONDS)
        self._files.copy_database()
        self._children.start_child("control")
        self._foreign.append("control")
        is_healthy = self._health("control", self._paths.control_socket, "/health")
        yield from self._until(is_healthy, "control", _CONTROL_SECONDS, "the new control")
        until = time.monotonic() + _TRIAL_SECONDS
        yield from self._until(lambda: time.monotonic() > until, "control", _CONTROL_SECONDS, "the new control")
        self.expected.discard("control")
        self._report("control", "the new control answers")

    def _switch(self) -> Steps:
        pid = self._children.pid(NEXT_GATE)
        self.expected.add("gate")  # one without calls ends before the new one is seen to serve
        self._children.send(NEXT_GATE, signal.SIGUSR2)
        serves = lambda: _listener(self._paths.gate_socket) == pid  # noqa: E731
        yield from self._until(serves, NEXT_GATE, _SWITCH_SECONDS, "the new gate")
        self._children.succeed_gate()
        self.expected.discard("gate")
        self._foreign.append("gate")
        self._report("switch", "the new gate serves; the calls of the old one end there")

    def _replace_logs(self) -> Steps:
        self.expected.add("logs")
        self._children.send("logs", signal.SIGINT)
        yield from self._gone("logs", _LOGS_SECONDS)
        self._children.start_child("logs")
        self._foreign.append("logs")
        self.expected.discard("logs")

    def _undo(self, failure: str) -> Steps:
        """End what stands in the way of the version before, and give it the place."""
        self.expected |= {NEXT_GATE, "control"}
        self._children.send(NEXT_GATE, signal.SIGKILL)
        yield from self._gone(NEXT_GATE, _LOGS_SECONDS)
        if "control" in self._foreign:
            self._children.send("control", signal.SIGKILL)  # the instances go on
            yield from self._gone("control", _LOGS_SECONDS)
            self._foreign.remove("control")
        if self._files.put_database_back():
            failure += "; the database is as it was before"
        self._children.give_back(self._foreign, failure)
        self._files.report(Progress(is_over=True, failure=f"{failure}; the version before cannot be started"))

    def _until(self, is_done: Callable[[], bool], name: str, seconds: float, words: str) -> Steps:
        """Wait for something that a child does. Raises `UpgradeError` when it ends, hangs or takes too long."""
        until = time.monotonic() + seconds
        while not is_done():
            if not self._children.pid(name):
                raise UpgradeError(f"{words} has ended; the log of `portway up` says why")
            if time.monotonic() > until:
                raise UpgradeError(f"{words} does not answer")
            yield

    def _gone(self, name: str, seconds: float) -> Steps:
        """Wait for the end of a child; kill one that takes too long."""
        until = time.monotonic() + seconds
        while self._children.pid(name):
            if time.monotonic() > until:
                self._children.send(name, signal.SIGKILL)
            yield

    def _health(self, name: str, path: Path, target: str) -> Callable[[], bool]:
        return lambda: _answers(path, target, self._children.pid(name))

    def _report(self, step: str, text: str) -> None:
        now = time.monotonic()
        self._files.report(Progress(f"{step:<8} {now - self._begun:.1f}s  {text}"))
        self._begun = now


def _answers(path: Path, target: str, pid: int) -> bool:
    """Return whether the process answers a request for `target` on its socket with 200."""
    if _listener(path) != pid:
        return False
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as asker:
        asker.settimeout(_ANSWER_SECONDS)
        asker.connect(str(path))
        asker.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        return asker.recv(12) == b"HTTP/1.1 200"
    return False


def _listener(path: Path) -> int:
    """Return the process that listens on a Unix socket, 0 when none does."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as asker:
        asker.settimeout(_ANSWER_SECONDS)
        asker.connect(str(path))
        return int(struct.unpack("3i", asker.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0])
    return 0
