"""What runs a release: the one interface, so that nothing above it sees a process id or a pipe."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Release:
    """A built version of an app in its `directory`: `src`, `venv` and `log` in it, immutable but for the log."""

    app: str
    number: int
    directory: Path
    server: str

    @property
    def source(self) -> Path:
        return self.directory / "src"

    @property
    def venv(self) -> Path:
        return self.directory / "venv"

    @property
    def build_log(self) -> Path:
        return self.directory / "log" / "build.log"

    @property
    def log(self) -> Path:
        """What its instances wrote to stdout and stderr."""
        return self.directory / "log" / "instance.log"


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one instance: seconds from SIGTERM to SIGKILL, bytes of log before it is cut.

    It is asked every `probe_seconds` whether it lives, has as long to answer, and is hung after `probes` silences.
    """

    stop_seconds: float = 30.0
    log_bytes: int = 10 * 1024 * 1024
    probe_seconds: float = 10.0
    probes: int = 3


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
        """Where it speaks HTTP, as the gate takes it: "unix:/path.sock"."""

    @property
    def token(self) -> str:
        """Opaque: `Runtime.adopt` finds the instance again by it, in another process."""

    async def stop(self, *, at_once: bool = False) -> None:
        """Ask it to end, wait as long as its limits say unless `at_once`, then end it and all it started."""

    async def wait(self) -> str:
        """How it ended, once it has, in words: "exit code 1", "signal SIGKILL". May be awaited any number of times."""

    def stats(self) -> Stats: ...


class Runtime(Protocol):
    """Starts instances. `isolation` names what keeps an instance from the host, as `portway ps` shows it."""

    isolation: str

    async def start(self, release: Release, env: Mapping[str, str], limits: Limits) -> Instance:
        """Start it; it is not ready yet. Raises `OSError` when it cannot even be started."""

    async def adopt(self, identity: str, token: str, limits: Limits) -> Instance | None:
        """An instance an earlier process started, or None when it is gone."""

    async def sweep(self, keep: set[str]) -> None:
        """End every instance of this host, and every build, but those whose ids are in `keep`."""
