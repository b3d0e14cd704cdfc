"""The control process: it opens the store, serves its sockets, deploys the folders of `portway up`, prints the ready
line, and ends.
"""

import argparse
import asyncio
import contextlib
import json
import logging
import os
import shutil
import signal
import sys
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

from portway.exceptions import SettingError, ToolError
from portway.host.app_assertions import AppAssertions
from portway.host.assertion_key import AssertionKey
from portway.host.backup.origin import notice
from portway.host.builds.caches import keep_small
from portway.host.builds.wheel import running_wheel
from portway.host.console import never_wait_for_stderr, say
from portway.host.gate_client import GateClient
from portway.host.git.git_command import MISSING
from portway.host.git.git_server import GitServer
from portway.host.identity_providers import Logins
from portway.host.instances.process_runtime import ProcessRuntime
from portway.host.instances.running_apps import RunningApps
from portway.host.instances.runtime import InstanceLimits
from portway.host.instances.starter import Starter
from portway.host.launcher import FAILED
from portway.host.links.hook_server import HookServer
from portway.host.links.linker import Linker
from portway.host.management.management_server import ManagementServer
from portway.host.paths import PathError, Paths, locate
from portway.host.processes import end_strays
from portway.host.public_address import PublicAddress
from portway.host.releases.deploy import Deployer
from portway.host.releases.relocate import relocate
from portway.host.releases.source_apps import DeployOptions
from portway.host.routing_table import Auth
from portway.host.sandbox.walls import FACTS, Walls, WallsError, raise_walls
from portway.host.secrets.environments import Environments
from portway.host.secrets.key_file import KeyFile, KeyFileError
from portway.host.secrets.variables import Variables
from portway.host.sources.folder_source import FolderSource
from portway.host.store import Store, StoreError
from portway.host.tls.certificate_renewal import NameVisits
from portway.host.tls.certificate_watch import CertificateWatch
from portway.http.asgi import Application
from portway.http.serve import Bind, Limits, ListenError, serve
from portway.log_config import configure

Announce = Literal["", "text", "json"]
"""How the ready line is printed, "" for not at all: it was."""

_log = logging.getLogger("portway.host")
_SHUTDOWN_SECONDS = 2.0  # for calls of the command line in flight; a deploy is cancelled after it
_GATE_SECONDS = 40.0  # a gate that is stopped ends within 30 s
_POLL_SECONDS = 0.05
_LOOK_SECONDS = 1.0  # between looks for sockets that were removed
_TOKEN = "up"  # noqa: S105  # the name of a token


async def run(
    paths: Paths,
    address: PublicAddress,
    logins: Logins,
    key_file: KeyFile,
    walls: Walls,
    folders: list[Path],
    *,
    announce: Announce,
    lifeline: int | None,
    private_sources: bool,
) -> int:
    """Deploy `folders`, print the ready line if it is to `announce`, and serve until a signal; return the exit code."""
    ending = _Ending(paths)
    store = Store(paths.database)
    variables = Variables(store, key_file)
    environments = Environments(store, variables, walls, address)
    runtime = ProcessRuntime(paths, walls, lifeline)
    assertions = AppAssertions(address, AssertionKey(paths.secret.read_bytes()))
    starter = Starter(runtime, store, InstanceLimits(), variables, address, logins, assertions)
    running = RunningApps(paths, store, runtime, starter)
    deployer = Deployer(paths, store, running, starter, environments, private_sources=private_sources)
    linker = Linker(paths, store, variables, deployer)
    management = ManagementServer(paths, store, running, deployer, linker, address, key_file.path, logins)
    hooks = HookServer(GitServer(paths, store, management.users, deployer, management.deployment), linker, store)
    apps = {**management.applications(), paths.git_socket: hooks}
    ending.may_leave(deployer)
    try:
        await asyncio.to_thread(_mend, paths, deployer)
        await running.resume(deployer.rebuilder.with_files)
        linker.start()
        start = asyncio.create_task(
            _start(management, deployer, running, paths, address.url, folders, announce=announce)
        )
        start.add_done_callback(lambda task: ending.asked.set() if _failed(task) else None)
        await _serve(apps, paths, running, ending.asked)
        failed = _failed(start)
        start.cancel()
        await asyncio.gather(start, return_exceptions=True)
    finally:
        await linker.close()
        if ending.leaves:
            store.close()
            os._exit(0)  # as after a crash, the instances go on, and the next control finds them
        await running.close()
        store.close()
    if failed and (error := start.exception()):
        _log.error("the host could not start", exc_info=error)
    return FAILED if failed else 0


def _mend(paths: Paths, deployer: Deployer) -> None:
    """Mend what a move of the data directory, or an interrupted push, has left."""
    relocate(paths)
    deployer.commits.mend()


async def _start(
    management: ManagementServer,
    deployer: Deployer,
    running: RunningApps,
    paths: Paths,
    url: str,
    folders: list[Path],
    *,
    announce: Announce,
) -> bool:
    """Deploy the folders that `up` was given, then print the ready line. Return False when a deploy failed.

    Afterwards, what earlier versions of Portway have deployed is recorded in git, and caches are kept small.
    """
    apps = {}
    for folder in folders:
        try:
            for done in (
                await management.deploys.deploy_source(FolderSource(folder), _print_step, DeployOptions())
            ).apps:
                token = done.token or (await management.tokens.renewed(done.app, _TOKEN)).token
                apps[done.app] = {"url": done.url, "token": token}
        except ToolError as error:
            say(f"portway: {folder} could not be deployed: {error}")
            return False
    if announce:
        while not await running.publish():  # noqa: ASYNC110  # another process's start sends no event
            await asyncio.sleep(0.05)
        first = next(iter(apps.values()), {"token": None})
        ready = {"url": url, "token": first["token"], "data": str(paths.data), "apps": apps}
        say(f"{'' if announce == 'json' else 'ready '}{json.dumps(ready)}", to=1)
        paths.announced.touch()
    await asyncio.to_thread(running_wheel, paths.wheels)  # the way back of an upgrade
    await deployer.record_missing()
    await keep_small(paths, lambda: bool(deployer.turns.under_way()))
    return True


async def _serve(apps: Mapping[Path, Application], paths: Paths, running: RunningApps, stop: asyncio.Event) -> None:
    """Serve each app on its socket until `stop` is set. Restore sockets and directories that someone removes."""
    stopping = asyncio.create_task(stop.wait())
    current = {socket: await _listen(app, socket, stop) for socket, app in apps.items()}
    serving = [*current.values()]
    while not stop.is_set() and not any(task.done() for task in current.values()):
        await asyncio.wait((stopping,), timeout=_LOOK_SECONDS)
        with contextlib.suppress(PathError):
            paths.prepare_run()
        for socket, app in apps.items():
            if not socket.exists() and not stop.is_set():
                current[socket] = await _listen(app, socket, stop)
                serving.append(current[socket])
        running.replace_unreachable()
    stopping.cancel()
    await asyncio.gather(*serving)


async def _listen(app: Application, socket: Path, stop: asyncio.Event) -> asyncio.Task[None]:
    """Begin to serve on a socket; return once it accepts connections, or has failed."""
    ready = asyncio.Event()
    bind, limits = Bind(uds=str(socket)), Limits(shutdown_seconds=_SHUTDOWN_SECONDS)
    serving = asyncio.create_task(serve(app, bind, limits, on_ready=lambda _: ready.set(), stop=stop))
    waiting = asyncio.create_task(ready.wait())
    await asyncio.wait((serving, waiting), return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    return serving


class _Ending:
    """How control ends, by a signal. `asked` is set when it is to.

    SIGTERM: the gate ends first, because its calls need the instances; then they end. SIGINT: they are killed. SIGUSR1:
    once no deploy runs, control `leaves`: the instances go on, for its successor.
    """

    def __init__(self, paths: Paths) -> None:
        self.asked = asyncio.Event()
        self.leaves = False
        self._paths = paths
        self._tasks: dict[signal.Signals, asyncio.Task[None]] = {}
        self._on(signal.SIGTERM, self._after_gate)
        self._on(signal.SIGINT, self._now)

    def may_leave(self, deployer: Deployer) -> None:
        """Heed SIGUSR1 from now on."""
        self._on(signal.SIGUSR1, lambda: self._when_idle(deployer))

    def _on(self, number: signal.Signals, end: Callable[[], Coroutine[Any, Any, None]]) -> None:
        def begin() -> None:
            task = self._tasks.get(number)
            if task is None or task.done():  # many signals must not keep the loop from what they ask for
                self._tasks[number] = asyncio.create_task(end())

        asyncio.get_running_loop().add_signal_handler(number, begin)

    async def _after_gate(self) -> None:
        """End once the gate has ended. If it does not end, the signal was for control alone: go on."""
        gate = GateClient(self._paths)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_GATE_SECONDS):
                while await gate.is_running():  # noqa: ASYNC110  # the end of another process sends no event
                    await asyncio.sleep(_POLL_SECONDS)
                self.asked.set()

    async def _now(self) -> None:
        self.asked.set()
        await asyncio.to_thread(end_strays, self._paths, set())

    async def _when_idle(self, deployer: Deployer) -> None:
        while deployer.turns.under_way():  # noqa: ASYNC110  # at an upgrade only
            await asyncio.sleep(_POLL_SECONDS)
        self.leaves = not self.asked.is_set()
        self.asked.set()


def _failed(start: asyncio.Task[bool]) -> bool:
    return start.done() and not start.cancelled() and (start.exception() is not None or not start.result())


async def _with(beside: contextlib.AbstractAsyncContextManager[None], running: Coroutine[Any, Any, int]) -> int:
    async with beside:
        return await running


async def _print_step(step: str) -> None:
    say(f"-----> {step}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m portway.host.control")
    parser.add_argument("--data", required=True)
    parser.add_argument("--url", required=True)
    parser.add_argument("--domain", required=True)
    parser.add_argument("--key-file", required=True, type=Path)
    parser.add_argument("--deploy", action="append", default=[], type=Path)
    parser.add_argument("--announce", choices=get_args(Announce), default="")
    parser.add_argument("--lifeline", type=int)
    parser.add_argument("--require", action="append", default=[], choices=FACTS)
    parser.add_argument("--trust-all-apps", action="store_true")
    parser.add_argument("--allow-private-sources", action="store_true")
    parser.add_argument("--auth-issuer", action="append", default=[])
    parser.add_argument("--auth-audience", action="append", default=[])
    parser.add_argument("--auth-scope", action="append", default=[])
    parser.add_argument("--auth-private", action="store_true")
    parser.add_argument("--auth-opaque", action="store_true")
    parser.add_argument("--cert", type=Path)
    parser.add_argument("--key", type=Path)
    parser.add_argument("--visit-port", type=int)
    given = parser.parse_args()
    never_wait_for_stderr()
    configure()
    paths = locate(given.data)
    walls = replace(raise_walls(paths), trusts_all=given.trust_all_apps)
    if given.announce:
        for line in walls.lines():
            say(f"portway: {line}")
        if shutil.which("git") is None:
            say(f"portway: {MISSING}")
        if origin := notice(paths):
            say(f"portway: {origin}")
    beside: contextlib.AbstractAsyncContextManager[None] = contextlib.nullcontext()
    if given.cert:
        beside = CertificateWatch(paths, given.cert, given.key, given.domain)
    elif given.visit_port:
        beside = NameVisits(paths, given.visit_port, given.domain)
    try:
        walls.require(given.require)
        address = PublicAddress(given.url, given.domain)
        auth = Auth(given.auth_issuer, given.auth_audience, given.auth_scope, given.auth_private, given.auth_opaque)
        running = run(
            paths,
            address,
            Logins(address, auth if auth.issuers else None, private=auth.private),
            KeyFile(given.key_file),
            walls,
            given.deploy,
            announce=given.announce,
            lifeline=given.lifeline,
            private_sources=given.allow_private_sources,
        )
        return asyncio.run(_with(beside, running))
    except (StoreError, KeyFileError, ListenError, SettingError, WallsError) as error:
        say(f"portway: {error}")
        return FAILED


if __name__ == "__main__":
    sys.exit(main())
