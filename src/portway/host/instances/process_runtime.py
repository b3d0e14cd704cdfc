"""Starts and stops instances as processes: sandbox, address, PORT, limits, signals from SIGTERM to SIGKILL, adoption by
a new control.

In a sandbox, the process that is watched is bubblewrap's, or `sandbox.own_network`, the parent of bubblewrap's and of
slirp4netns. Bubblewrap's has one child, the first process of a PID namespace; when that one ends, the kernel ends all
others of the namespace. The child leads the process group of the release's command.
"""

import asyncio
import contextlib
import enum
import os
import secrets
import signal
import socket
import subprocess
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from portway.host.files import remove_tree
from portway.host.instances.listening_ports import listening
from portway.host.instances.runtime import Instance, InstanceLimits, Stats
from portway.host.logs.log_pipe import LogPipe
from portway.host.paths import Paths
from portway.host.processes import (
    Mark,
    children,
    descendants,
    end_marked,
    end_strays,
    exit_in_words,
    instance_mark,
    start_time,
    stat_fields,
)
from portway.host.releases.release import Release
from portway.host.sandbox.bubblewrap import wrapped
from portway.host.sandbox.cgroups import Group
from portway.host.sandbox.resource_limits import killed_for_memory, until_over
from portway.host.sandbox.walls import Walls

_SANDBOX_SOCKET = "/run/portway/app.sock"
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_OWN_PORT = 10000  # Render's
_PORTS = 1000  # given last, some to servers that do not listen yet


class _Kind(enum.Enum):
    """What is around an instance; a word of its token."""

    PLAIN = "plain"
    SANDBOX = "sandbox"
    NETWORK = "network"  # a sandbox with a network of its own


_GENERATIONS = {_Kind.PLAIN: 0, _Kind.SANDBOX: 1, _Kind.NETWORK: 2}  # from the watched process to a sandbox's first


class ProcessInstance:
    """A process group led by `pid`. A pidfd reports its end, so an adopted instance is watched like a child."""

    def __init__(
        self,
        identity: str,
        address: str,
        process: subprocess.Popen[bytes] | str,
        limits: InstanceLimits,
        mark: Mark,
        *,
        kind: _Kind,
        folders: tuple[Path, Path],
        home: Path,
        group: Group,
        tell: Callable[[str], None],
        pipe: LogPipe | None = None,
    ) -> None:
        """`process` is a child, or the token that an earlier control stored. Raises ProcessLookupError if it has ended.

        `mark` is on it and on all it starts; `pipe` takes a child's output; `folders`, of its socket and its temporary
        files, and `group` are removed with it. `tell` writes a line to its log.
        """
        self.id = identity
        self.address = address
        self._socket = _socket(address)
        self._limits = limits
        self._mark = mark
        self._kind = kind
        self._folders = folders
        self._group = group
        self._tell = tell
        self._pipe = pipe
        self._child = None if isinstance(process, str) else process
        self._pid = int(process.partition(":")[0]) if isinstance(process, str) else process.pid
        # The pidfd first: pids are reused, pidfds are not. The start time then shows whether it is ours.
        self._pidfd = os.pidfd_open(self._pid)
        self.token = f"{self._pid}:{start_time(self._pid)}:{kind.value}:{address}"
        if isinstance(process, str) and not (process == self.token and mark.is_on(self._pid)):
            os.close(self._pidfd)
            raise ProcessLookupError(process)
        self._over = ""  # how it was ended for what it used
        self._watching = asyncio.get_running_loop().create_task(self._watch_use((home, *folders)))
        self._ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().add_reader(self._pidfd, self._on_exit)

    async def wait(self) -> str:
        return await asyncio.shield(self._ended)

    async def stop(self, *, at_once: bool = False) -> None:
        if not self._ended.done() and not at_once and self._processes():  # none: the sandbox is still being made
            self._signal(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.wait(), self._limits.stop_seconds)
        if not self._ended.done():
            self._signal(signal.SIGKILL)
            await self.wait()
        await asyncio.to_thread(self._remove_folders)

    def is_reachable(self) -> bool:
        return not self._socket or os.path.exists(self._socket)

    def stats(self) -> Stats:
        tree = [fields for fields in map(stat_fields, self._processes()) if fields]
        ticks = sum(int(fields[11]) + int(fields[12]) for fields in tree)
        return Stats(sum(int(fields[21]) for fields in tree) * _PAGE, ticks / _TICKS, len(tree))

    def listening(self) -> dict[int, str]:
        return listening(self._processes())

    def _processes(self) -> list[int]:
        """Return the pids of the release's own processes."""
        if self._kind is _Kind.PLAIN:
            return list(descendants(self._pid))
        return [pid for first in self._firsts() for pid in descendants(first) if pid != first]

    def _firsts(self) -> list[int]:
        """Return the first process of the sandbox, of which bubblewrap's other children may be for a moment."""
        found = [self._pid]
        for _ in range(_GENERATIONS[self._kind]):
            found = [child for parent in found for child in children(parent)]
        return found

    async def _watch_use(self, folders: tuple[Path, ...]) -> None:
        """End the instance when it exceeds a limit, with what the processes that pass its traffic on use for it."""
        used = await until_over(
            self._limits.use, lambda: list(descendants(self._pid)), folders, self._group, self._tell
        )
        await self.end(f"the app used {used} and was ended")

    async def end(self, how: str) -> None:
        self._over = self._over or how
        with contextlib.suppress(OSError):
            await asyncio.to_thread(self._tell, self._over)
        if self._pidfd >= 0:  # else it has ended, and another process may have its number
            self._signal(signal.SIGKILL)

    def _on_exit(self) -> None:
        self._watching.cancel()
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._pidfd = -1
        # A child is a zombie until `wait` below, so no other process group can have its number yet.
        self._signal(signal.SIGKILL)
        how = (
            exit_in_words(self._exit_code(self._child))
            if self._child
            else "an exit status lost with the control process"
        )
        self._ending = asyncio.get_running_loop().create_task(self._finish(how))

    def _exit_code(self, child: "subprocess.Popen[bytes]") -> int:
        code = child.wait()
        # Bubblewrap reports signals as a shell does.
        return 128 - code if self._kind is not _Kind.PLAIN and code > 128 else code

    async def _finish(self, how: str) -> None:
        """End what the instance started, and wait until its last output is in the log."""
        if not self._over and (used := killed_for_memory(self._limits.use, self._group)):
            await self.end(f"the app used {used} and was ended")
        await asyncio.to_thread(end_marked, self._mark)
        await asyncio.to_thread(self._group.remove)
        if self._pipe is not None:
            await self._pipe.drained()
        self._ended.set_result(self._over or how)

    def _signal(self, number: signal.Signals) -> None:
        is_plain = self._kind is _Kind.PLAIN
        groups = [] if is_plain else self._firsts()
        if number == signal.SIGKILL or is_plain:
            groups.append(self._pid)
        for group in groups:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, number)

    def _remove_folders(self) -> None:
        for folder in self._folders:
            remove_tree(folder)


class ProcessRuntime:
    """Starts releases by their start commands, within the walls that this machine has."""

    def __init__(self, paths: Paths, walls: Walls, lifeline: int | None = None) -> None:
        """`lifeline` is a pipe: when it closes, instances end. Without one they outlive the host."""
        self.walls = walls
        self._paths = paths
        self._lifeline = lifeline
        self._ports: deque[int] = deque(maxlen=_PORTS)

    async def start(self, release: Release, env: Mapping[str, str], limits: InstanceLimits) -> Instance:
        assert release.start is not None
        self._paths.prepare_run()
        identity, bubblewrap = secrets.token_hex(4), self.walls.bubblewrap
        folders = self._folders(release, identity)
        for folder in (*folders, release.home):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        kind = _Kind.PLAIN
        if bubblewrap is not None:
            kind = _Kind.NETWORK if bubblewrap.slirp else _Kind.SANDBOX
        port = _OWN_PORT if kind is _Kind.NETWORK else self._free_port()
        own = {
            "PORT": str(port),
            "PORTWAY_INSTANCE": identity,
            "RENDER_INSTANCE_ID": f"srv-{release.app}-{identity}",
        }
        address, writable, path = f"http://127.0.0.1:{port}", {}, self._paths.instance_socket(identity)
        if release.start.on_socket:
            address, writable = f"unix:{path}", {os.path.dirname(_SANDBOX_SOCKET): path.parent}
            own["PORTWAY_SOCKET"] = _SANDBOX_SOCKET if bubblewrap else str(path)
        elif kind is _Kind.NETWORK:
            address = f"dial://{quote(str(path), safe='')}:{port}"
        if self._lifeline is not None:
            own["PORTWAY_LIFELINE"] = str(self._lifeline)
        own["TMPDIR"] = "/tmp" if bubblewrap else str(folders[1])  # noqa: S108  # its own
        environment = release.environment() | release.start.variables | dict(env) | own
        sandbox = bubblewrap.for_instance(release, folders[1], writable) if bubblewrap else None
        group = self.walls.cgroups.for_instance(release.app, identity, limits.use)
        pipe = LogPipe(self._paths.log_pipes, release.log, identity)
        try:
            with wrapped(sandbox, environment, "" if release.start.on_socket else str(path)) as wrapping:
                child = subprocess.Popen(  # noqa: ASYNC220  # returns at exec; asyncio's own would tie it to this loop
                    [*group.join, *wrapping.words, *release.start.command],
                    cwd=release.folder,
                    env=wrapping.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=pipe.descriptor,
                    stderr=pipe.descriptor,
                    start_new_session=True,
                    pass_fds=(*wrapping.descriptors, *(() if self._lifeline is None else (self._lifeline,))),
                )
        except BaseException:
            pipe.close()
            group.remove()
            raise
        mark = instance_mark(self._paths, identity)
        mark.put_on(child.pid)
        return ProcessInstance(
            identity,
            address,
            child,
            limits,
            mark,
            kind=kind,
            folders=folders,
            home=release.directory / "home",
            group=group,
            tell=partial(self._tell, release.log, identity),
            pipe=pipe,
        )

    async def adopt(self, release: Release, identity: str, token: str, limits: InstanceLimits) -> Instance | None:
        _, _, kind, address = [*token.split(":", 3), "", "", ""][:4]
        if kind not in {known.value for known in _Kind}:
            return None
        try:
            return ProcessInstance(
                identity,
                address,
                token,
                limits,
                instance_mark(self._paths, identity),
                kind=_Kind(kind),
                folders=self._folders(release, identity),
                home=release.directory / "home",
                group=self.walls.cgroups.of_instance(release.app, identity),
                tell=partial(self._tell, release.log, identity),
            )
        except ProcessLookupError:
            return None

    async def sweep(self, keep: set[str]) -> None:
        await asyncio.to_thread(end_strays, self._paths, keep)
        await asyncio.to_thread(self.walls.cgroups.remove_all_but, keep)

    def _free_port(self) -> int:
        """Return a port that is free, and not one of those given before: a server takes its own some time after."""
        while True:
            with socket.socket() as listener:
                listener.bind(("127.0.0.1", 0))
                port = int(listener.getsockname()[1])
            if port not in self._ports:
                self._ports.append(port)
                return port

    def _tell(self, log: Path, identity: str, line: str) -> None:
        with LogPipe(self._paths.log_pipes, log, identity) as pipe:
            pipe.write(f"portway: {line}")

    def _folders(self, release: Release, identity: str) -> tuple[Path, Path]:
        """Return the folders of one instance: of its socket, and for its temporary files."""
        return self._paths.instance_folder(identity), release.directory / "tmp" / identity


def _socket(address: str) -> str:
    """Return the path of the socket through which an address leads, "" for none."""
    if address.startswith("dial:"):
        return unquote(urlsplit(address).netloc.rpartition(":")[0])
    return address.removeprefix("unix:") if address.startswith("unix:") else ""
