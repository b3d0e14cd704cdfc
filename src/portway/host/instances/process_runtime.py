"""The runtime of processes under the host's user: an instance is a session of its own, in a sandbox where there is one.

In a sandbox, the process that is watched is bubblewrap's. It has one child, the first process of a PID namespace; when
that one ends, the kernel ends all others of the namespace. The child leads the process group of the release's command.
"""

import asyncio
import contextlib
import os
import secrets
import signal
import socket
import subprocess
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from portway.host.files import remove_tree
from portway.host.instances.listening import listening
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
from portway.host.sandbox.cgroups import Group
from portway.host.sandbox.use_limits import killed_for_memory, until_over
from portway.host.sandbox.walls import Walls

_SANDBOX_SOCKET = "/run/portway/app.sock"
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_PORTS = 1000  # given last, some to servers that do not listen yet


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
        sandboxed: bool,
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
        self._socket = address.removeprefix("unix:") if address.startswith("unix:") else ""
        self._limits = limits
        self._mark = mark
        self._sandboxed = sandboxed
        self._folders = folders
        self._group = group
        self._tell = tell
        self._pipe = pipe
        self._child = None if isinstance(process, str) else process
        self._pid = int(process.partition(":")[0]) if isinstance(process, str) else process.pid
        # The pidfd first: pids are reused, pidfds are not. The start time then shows whether it is ours.
        self._pidfd = os.pidfd_open(self._pid)
        self.token = f"{self._pid}:{start_time(self._pid)}:{_kind(sandboxed=sandboxed)}:{address}"
        if isinstance(process, str) and not (process == self.token and mark.is_on(self._pid)):
            os.close(self._pidfd)
            raise ProcessLookupError(process)
        self._over = ""  # how it was ended for what it used
        self._watching = asyncio.get_running_loop().create_task(self._watch_use((home, folders[1])))
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
        if not self._sandboxed:
            return list(descendants(self._pid))
        return [pid for first in children(self._pid) for pid in descendants(first) if pid != first]

    async def _watch_use(self, folders: tuple[Path, ...]) -> None:
        """End the instance when it exceeds a limit."""
        used = await until_over(self._limits.use, self._processes, folders, self._group, self._tell)
        await self._say_over(used)
        self._signal(signal.SIGKILL)

    async def _say_over(self, used: str) -> None:
        self._over = f"the app used {used} and was ended"
        with contextlib.suppress(OSError):
            await asyncio.to_thread(self._tell, self._over)

    def _on_exit(self) -> None:
        self._watching.cancel()
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
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
        return 128 - code if self._sandboxed and code > 128 else code  # bubblewrap reports signals as a shell does

    async def _finish(self, how: str) -> None:
        """End what the instance started, and wait until its last output is in the log."""
        if not self._over and (used := killed_for_memory(self._limits.use, self._group)):
            await self._say_over(used)
        await asyncio.to_thread(end_marked, self._mark)
        await asyncio.to_thread(self._group.remove)
        if self._pipe is not None:
            await self._pipe.drained()
        self._ended.set_result(self._over or how)

    def _signal(self, number: signal.Signals) -> None:
        groups = children(self._pid) if self._sandboxed else []
        if number == signal.SIGKILL or not self._sandboxed:
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
        identity, port = secrets.token_hex(4), self._free_port()
        bubblewrap = self.walls.bubblewrap
        folders = self._folders(release, identity)
        for folder in (*folders, release.home):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        socket_folder, tmp = folders
        address = f"http://127.0.0.1:{port}"
        own = {
            "PORT": str(port),
            "PORTWAY_INSTANCE": identity,
            "RENDER_INSTANCE_ID": f"srv-{release.app}-{identity}",
        }
        if release.start.on_socket:
            path = self._paths.instance_socket(identity)
            own["PORTWAY_SOCKET"], address = _SANDBOX_SOCKET if bubblewrap else str(path), f"unix:{path}"
        if self._lifeline is not None:
            own["PORTWAY_LIFELINE"] = str(self._lifeline)
        command = release.start.command
        if bubblewrap is None:
            own["TMPDIR"] = str(tmp)
        else:
            writable = {os.path.dirname(_SANDBOX_SOCKET): socket_folder}
            command = [*bubblewrap.for_instance(release, tmp, writable), *command]
            own["TMPDIR"] = "/tmp"  # noqa: S108  # its own
        group = self.walls.cgroups.for_instance(release.app, identity, limits.use)
        pipe = LogPipe(self._paths.log_pipes, release.log, identity)
        try:
            child = subprocess.Popen(  # noqa: ASYNC220  # returns at exec; asyncio's own would tie it to this loop
                [*group.join, *command],
                cwd=release.folder,
                env=release.environment() | release.start.variables | dict(env) | own,
                stdin=subprocess.DEVNULL,
                stdout=pipe.descriptor,
                stderr=pipe.descriptor,
                start_new_session=True,
                pass_fds=() if self._lifeline is None else (self._lifeline,),
            )
        except BaseException:
            pipe.close()
            group.remove()
            raise
        mark = instance_mark(self._paths, identity)
        mark.put_on(child.pid)
        sandboxed = bubblewrap is not None
        return ProcessInstance(
            identity,
            address,
            child,
            limits,
            mark,
            sandboxed=sandboxed,
            folders=folders,
            home=release.directory / "home",
            group=group,
            tell=partial(self._tell, release.log, identity),
            pipe=pipe,
        )

    async def adopt(self, release: Release, identity: str, token: str, limits: InstanceLimits) -> Instance | None:
        _, _, kind, address = [*token.split(":", 3), "", "", ""][:4]
        try:
            return ProcessInstance(
                identity,
                address,
                token,
                limits,
                instance_mark(self._paths, identity),
                sandboxed=kind == _kind(sandboxed=True),
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


def _kind(*, sandboxed: bool) -> str:
    return "sandbox" if sandboxed else "plain"
