"""Processes as the kernel shows them: marks by which leftover ones are found and ended, exit codes in words,
descendants.

The processes of an instance or a build carry a mark twice: as a variable, from their very start, and as a resource
limit, which stays with a daemon that leaves its session and sheds its environment. RLIMIT_RTTIME only bounds how
long a real-time process may run without a pause; as a limit, every mark is over thirty thousand years.
"""

import contextlib
import hashlib
import os
import pwd
import resource
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from portway.host.files import remove_tree
from portway.host.paths import Paths

_MARKED = 1 << 60  # a limit from here on is a mark: below it 28 bits name the host, and 32 the instance or build


@dataclass(frozen=True, slots=True)
class Mark:
    """What the processes of one instance or build carry: `variable`, as "NAME=value", and a resource limit."""

    variable: str
    limit: int

    def put_on(self, pid: int) -> None:
        """Set the limit of a process, which those it starts from then on inherit."""
        with contextlib.suppress(OSError, ValueError):
            resource.prlimit(pid, resource.RLIMIT_RTTIME, (self.limit, self.limit))

    def is_on(self, pid: int) -> bool:
        """Return whether a process carries the mark; False when it is gone."""
        limit = _limit(pid)
        return limit == self.limit if limit else self.variable.encode() in _variables(pid)


def instance_mark(paths: Paths, identity: str) -> Mark:
    """Return the mark of an instance's processes."""
    return Mark(f"PORTWAY_INSTANCE={identity}", _host(paths) << 32 | _number(identity, 32))


def build_mark(paths: Paths, directory: Path) -> Mark:
    """Return the mark of the processes that build the release in `directory`."""
    return Mark(f"PORTWAY_BUILD={directory}", _host(paths) << 32 | _number(str(directory), 32))


def end_marked(mark: Mark) -> None:
    """SIGKILL every process that carries `mark`."""
    _end(mark.is_on)


def end_strays(paths: Paths, keep: set[str]) -> None:
    """End every instance and build of this host, and remove their sockets and temporary files, but those in `keep`."""
    kept = [instance_mark(paths, identity) for identity in keep]
    starts = (f"HOME={paths.data / 'apps'}/".encode(), f"PORTWAY_BUILD={paths.data / 'apps'}/".encode())

    def is_stray(pid: int) -> bool:
        limit = _limit(pid)
        is_ours = limit >> 32 == _host(paths) if limit else any(each.startswith(starts) for each in _variables(pid))
        return is_ours and not any(mark.is_on(pid) for mark in kept)

    _end(is_stray)
    for folder in (*paths.instances.iterdir(), *paths.data.glob("apps/*/releases/*/tmp/*")):
        if folder.name not in keep:
            remove_tree(folder)


def local_user() -> str:
    """Return the name of the user who runs the host, or the number of one without a name."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def exit_in_words(code: int) -> str:
    """Describe a `returncode` as `subprocess` reports it: "exit code 1" or "signal SIGKILL"."""
    return f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"


def descendants(pid: int) -> Iterator[int]:
    """Yield `pid` and every process below it."""
    waiting = [pid]
    while waiting:
        yield (found := waiting.pop())
        waiting += children(found)


def children(pid: int) -> list[int]:
    """Return the children of a process; none on a kernel without CONFIG_PROC_CHILDREN."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            found += map(int, Path(f"/proc/{pid}/task/{thread}/children").read_text().split())
    return found


def stat_fields(pid: int) -> list[str]:
    """Return /proc/PID/stat (proc(5)) from field 3, the state, on; an empty list when the process is gone.

    Field 2, the name, is left out because it may hold spaces and parentheses.
    """
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def processor_ticks(pid: int) -> int:
    """Return the processor time that a process has used; 0 when it is gone."""
    return sum(map(int, stat_fields(pid)[11:13]))


def start_time(pid: int) -> int:
    """Return the ticks from boot to the start of a process: with the pid, they identify it for ever.

    Raises `ProcessLookupError` when it is gone.
    """
    fields = stat_fields(pid)
    if not fields:
        raise ProcessLookupError(pid)
    return int(fields[19])


def _end(is_meant: Callable[[int], bool]) -> None:
    for pid in [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]:
        if pid != os.getpid() and is_meant(pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _variables(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:  # gone, or another user's
        return []


def _limit(pid: int) -> int:
    """Return the resource limit that is a process's mark, 0 when it has none."""
    try:
        found = resource.prlimit(pid, resource.RLIMIT_RTTIME)[1]
    except OSError:  # gone, or another user's
        return 0
    return found if found >= _MARKED else 0


def _host(paths: Paths) -> int:
    return _MARKED >> 32 | _number(str(paths.data), 28)


def _number(text: str, bits: int) -> int:
    digest = hashlib.sha256(os.fsencode(text)).digest()
    return int.from_bytes(digest[:8]) >> (64 - bits)
