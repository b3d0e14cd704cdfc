"""Processes of this host as the kernel shows them: how one ended, which belong together, which were left behind."""

import contextlib
import os
import signal
from collections.abc import Collection, Iterator
from pathlib import Path

from portway.host.paths import Paths


def exit_in_words(code: int) -> str:
    """Describe a `returncode` as `subprocess` reports it: "exit code 1" or "signal SIGKILL"."""
    return f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"


def build_mark(place: Path) -> str:
    """Return the environment marker of a build's processes; `place` is the release's directory, or one above it."""
    return f"PORTWAY_BUILD={place}/"


def instance_mark(identity: str) -> str:
    """Return the environment marker of an instance's processes."""
    return f"PORTWAY_INSTANCE={identity}"


def end_strays(paths: Paths, keep: set[str]) -> None:
    """End every instance and build of this host, and remove its socket, but the instances whose ids are in `keep`."""
    end_marked(f"HOME={paths.data / 'apps'}/", {instance_mark(identity) for identity in keep})
    end_marked(build_mark(paths.data))
    for path in paths.instances.glob("*.sock"):
        if path.stem not in keep:
            path.unlink(missing_ok=True)


def end_marked(mark: str, kept: Collection[str] = ()) -> None:
    """SIGKILL every process with a variable that starts with `mark`, unless it has a variable that is in `kept`.

    This finds processes that left their session too.
    """
    for pid in _pids():
        try:
            variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:  # gone, or another user's
            continue
        if not any(variable.startswith(mark.encode()) for variable in variables) or pid == os.getpid():
            continue
        if not any(name.encode() in variables for name in kept):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def descendants(pid: int) -> Iterator[int]:
    """Yield `pid` and every process below it."""
    yield pid
    for child in children(pid):
        yield from descendants(child)


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


def start_time(pid: int) -> int:
    """Return the ticks from boot to the start of a process: with the pid, they name it for ever.

    Raises `ProcessLookupError` when it is gone.
    """
    fields = stat_fields(pid)
    if not fields:
        raise ProcessLookupError(pid)
    return int(fields[19])


def _pids() -> Iterator[int]:
    return (int(entry) for entry in os.listdir("/proc") if entry.isdigit())
