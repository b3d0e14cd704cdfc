"""The protocol of what runs releases, the extension point for kinds of isolation; and the times of an instance: from
SIGTERM to SIGKILL, of its probes and health checks, of a pin.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from portway.host.app_config import UseLimits
from portway.host.releases.release import Release
from portway.host.sandbox.walls import Walls


@dataclass(frozen=True, slots=True)
class InstanceLimits:
    """Bounds of one instance: seconds from SIGTERM to SIGKILL, and of its probes.

    It is probed every `probe_seconds`, has as long to answer, and is hung after `probes` probes without an answer.
    If the app names a health check, that is done instead, every `check_seconds`, with as long to answer. After
    `checks_out` failures in a row the instance gets no new calls, after `checks` it is restarted.
    What it may use at most is in `use`. With `drain: pin` it gets its sessions' calls for `pin_seconds` after a deploy.
    """

    stop_seconds: float = 30.0
    probe_seconds: float = 10.0
    probes: int = 3
    check_seconds: float = 5.0
    checks_out: int = 3
    checks: int = 12
    pin_seconds: float = 1800.0
    use: UseLimits = field(default_factory=UseLimits)


@dataclass(frozen=True, slots=True)
class Stats:
    """What an instance with all it started uses: resident bytes, CPU seconds so far, number of processes."""

    memory: int
    cpu: float
    processes: int


class Instance(Protocol):
    """One running copy of a release."""

    @property
    def id(self) -> str: ...

    @property
    def address(self) -> str:
        """Where it speaks HTTP, as the gate takes it: "unix:/path.sock", "http://127.0.0.1:PORT" or "dial://SOCKET:PORT"."""

    @property
    def token(self) -> str:
        """An opaque text with which `Runtime.adopt` finds the instance in another process."""

    async def stop(self, *, at_once: bool = False) -> None:
        """Ask it to end, wait up to its limit unless `at_once`, then kill it and all it started."""

    async def end(self, how: str) -> None:
        """Kill it and all it started; `wait` and its log then say `how` it ended."""

    async def wait(self) -> str:
        """Wait for its end and return it in words: "exit code 1", "signal SIGKILL". May be awaited again."""

    def is_reachable(self) -> bool:
        """Return whether its address still leads to it; someone may have removed its socket."""

    def stats(self) -> Stats: ...

    def listening(self) -> dict[int, str]:
        """Return the TCP ports on which it listens, each with its address as in "0.0.0.0:8000"."""


class Runtime(Protocol):
    """Starts instances, within `walls`."""

    walls: Walls

    async def start(self, release: Release, env: Mapping[str, str], limits: InstanceLimits) -> Instance:
        """Start an instance, which is not ready yet. Raises `OSError` when it cannot even be started."""

    async def adopt(self, release: Release, identity: str, token: str, limits: InstanceLimits) -> Instance | None:
        """Return an instance of `release` that an earlier process started, or None when it is gone."""

    async def sweep(self, keep: set[str]) -> None:
        """End every instance of this host, and every build, but the instances whose ids are in `keep`."""
