"""The runtime of plain processes: an instance is a session of its own, under the host's user, on a Unix socket."""

import asyncio
import contextlib
import os
import secrets
import signal
import socket
import subprocess
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from portway.host.instances.runtime import Instance, Limits, Release, Stats
from portway.host.paths import Paths

_SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class ProcessInstance:
    """A process group led by `pid`. Its end is seen through a pidfd, so an adopted one is watched like a child."""

    def __init__(self, identity: str, address: str, process: subprocess.Popen[bytes] | str, limits: Limits) -> None:
        """`process` is a child, or an earlier control's token for one: `ProcessLookupError` when that is gone."""
        self.id = identity
        self.address = address
        self._limits = limits
        self._child = None if isinstance(process, str) else process
        self._pid = int(process.partition(":")[0]) if isinstance(process, str) else process.pid
        # The pidfd first: it goes on naming this very process, and the start time says whether that is ours.
        self._pidfd = os.pidfd_open(self._pid)
        self.token = f"{self._pid}:{_started(self._pid)}"
        if isinstance(process, str) and process != self.token:
            os.close(self._pidfd)
            raise ProcessLookupError(process)
        self._ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().add_reader(self._pidfd, self._on_exit)

    async def wait(self) -> str:
        return await asyncio.shield(self._ended)

    async def stop(self, *, at_once: bool = False) -> None:
        if not self._ended.done() and not at_once:
            self._signal(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.wait(), self._limits.stop_seconds)
        if not self._ended.done():
            self._signal(signal.SIGKILL)
            await self.wait()
        await asyncio.to_thread(end_marked, f"PORTWAY_INSTANCE={self.id}")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.address.removeprefix("unix:"))

    def stats(self) -> Stats:
        tree = [fields for fields in map(_stat, _tree(self._pid)) if fields]
        ticks = sum(int(fields[11]) + int(fields[12]) for fields in tree)
        return Stats(sum(int(fields[21]) for fields in tree) * _PAGE, ticks / _TICKS, len(tree))

    def _on_exit(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        # A child is a zombie until reaped below, so its group's number cannot belong to anyone else yet.
        self._signal(signal.SIGKILL)
        self._ended.set_result(
            _words(self._child.wait()) if self._child else "an exit status lost with the control process"
        )

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._pid, number)


class ProcessRuntime:
    """Starts releases of Portway servers with `portway run` from their own venv."""

    isolation = "none"

    def __init__(self, paths: Paths) -> None:
        self._paths = paths

    async def start(self, release: Release, env: Mapping[str, str], limits: Limits) -> Instance:
        identity = secrets.token_hex(4)
        path = self._paths.instance_socket(identity)
        own = {
            "PORT": str(_free_port()),
            "PORTWAY_SOCKET": str(path),
            "PORTWAY_APP": release.app,
            "PORTWAY_RELEASE": str(release.number),
            "PORTWAY_INSTANCE": identity,
        }
        command = [str(release.venv / "bin" / "portway"), "run", release.server, "--transport", "http"]
        with release.log.open("ab") as log:
            child = subprocess.Popen(  # noqa: ASYNC220  # returns at exec; asyncio's own would tie it to this loop
                command,
                cwd=release.source,
                env=base_environment(release) | dict(env) | own,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return ProcessInstance(identity, f"unix:{path}", child, limits)

    async def adopt(self, identity: str, token: str, limits: Limits) -> Instance | None:
        try:
            return ProcessInstance(identity, f"unix:{self._paths.instance_socket(identity)}", token, limits)
        except ProcessLookupError:
            return None

    async def sweep(self, keep: set[str]) -> None:
        await asyncio.to_thread(end_strays, self._paths, keep)


def end_strays(paths: Paths, keep: set[str]) -> None:
    """What `Runtime.sweep` does: end instances and builds of this host, but for the instances in `keep`."""
    kept = {f"PORTWAY_INSTANCE={identity}" for identity in keep}
    end_marked(f"HOME={paths.data / 'apps'}/", kept)
    end_marked(build_mark(paths.data))
    for path in paths.instances.glob("*.sock"):
        if path.stem not in keep:
            path.unlink(missing_ok=True)


def base_environment(release: Release) -> dict[str, str]:
    """What every process of a release starts from: nothing in it is the host's own."""
    return {
        "PATH": f"{release.venv / 'bin'}:{_SYSTEM_PATH}",
        "LANG": "C.UTF-8",
        "HOME": str(release.directory / "home"),
        "TMPDIR": str(release.directory / "tmp"),
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def build_mark(place: Path) -> str:
    """The variable that what a build starts carries, by the release's directory; those below `place` start with it."""
    return f"PORTWAY_BUILD={place}/"


def end_marked(mark: str, kept: Collection[str] = ()) -> None:
    """SIGKILL all processes with a variable that starts with `mark`: also those that left their session."""
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


def _pids() -> Iterator[int]:
    return (int(entry) for entry in os.listdir("/proc") if entry.isdigit())


def _tree(pid: int) -> Iterator[int]:
    yield pid
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            for child in Path(f"/proc/{pid}/task/{thread}/children").read_text().split():
                yield from _tree(int(child))


def _stat(pid: int) -> list[str]:
    """/proc/PID/stat (proc(5)) from field 3, the state, on: the name before it may hold anything. Empty when gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def _started(pid: int) -> int:
    """Ticks from boot to the start of the process: with the pid, a name no later process can have."""
    fields = _stat(pid)
    if not fields:
        raise ProcessLookupError(pid)
    return int(fields[19])


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _words(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    return f"signal {signal.Signals(-code).name}"
