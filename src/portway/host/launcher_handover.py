"""What the launcher of one version leaves to the launcher of another: sockets, children and descriptors, in one process
(execve).

A launcher is replaced by execve(2), which keeps its process id, its children and its open descriptors. The new program
finds the rest in a variable of its environment.
"""

import json
import os
import sys
from dataclasses import asdict, dataclass, field
from typing import NoReturn

from portway.host.upgrade_files import INSTALLED
from portway.http.bind import Bind

VARIABLE = "PORTWAY_HANDOVER"
_NOT_STARTED = "the new `portway up` does not start; its log says why"


@dataclass(slots=True)
class Handover:
    """The descriptors and children of a launcher, and why another takes its place.

    `python` runs the version of the launcher that wrote it, `command` are the arguments of both. `children` are process
    ids by name, `foreign` the names of those which the other version has started. `failure` says why the new launcher
    gives the place back; empty on the way there.
    """

    python: str
    command: list[str]
    descriptors: dict[str, int]
    children: dict[str, int]
    retired: list[int] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    is_ready: bool = False
    had_children: bool = False
    failure: str = ""

    def socket(self, name: str) -> Bind | None:
        """Return how to open a listening socket that was left, None for one that was not."""
        descriptor = self.descriptors.get(name)
        return None if descriptor is None else Bind(fd=descriptor)

    def give_to(self, python: str) -> NoReturn:
        """Replace this process by the launcher that `python` runs. Raises OSError."""
        for descriptor in self.descriptors.values():
            os.set_inheritable(descriptor, True)
        installed = os.environ.get(INSTALLED, sys.executable)
        environment = os.environ | {VARIABLE: json.dumps(asdict(self)), INSTALLED: installed}
        os.execve(python, [python, "-m", "portway", *self.command], environment)  # noqa: S606  # no shell is wanted


def read_handover() -> Handover | None:
    """Return what a launcher before has left to this process; usually nothing."""
    text = os.environ.get(VARIABLE, "")
    if not text:
        return None
    handover = Handover(**json.loads(text))
    for descriptor in handover.descriptors.values():
        os.set_inheritable(descriptor, False)
    return handover


def forget_handover() -> None:
    """Note that this launcher has its place."""
    os.environ.pop(VARIABLE, None)


def give_back() -> None:
    """Return to the launcher before, if this process was to take its place and could not; else do nothing."""
    handover = read_handover()
    if handover is not None and not handover.failure:
        before = handover.python
        handover.python, handover.failure = sys.executable, _NOT_STARTED
        handover.give_to(before)
