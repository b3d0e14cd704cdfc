"""A whole host for a test: `portway up` as a process, used through its gate and its command line."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from portway.cli.chosen_host import LocalHost
from portway.cli.control_client import ask_control
from portway.client import Client
from portway.host import routing_table
from portway.host.management.management_types import AppList, AppStatus, Deployment, Deployments
from portway.host.paths import Paths, locate
from tests.support import ROOT, SCRIPTS, Started, clean_env, eventually

# The machine decides where packages come from; what was fetched once serves every test.
_INDEX = (
    "UV_INDEX_URL",
    "UV_DEFAULT_INDEX",
    "UV_INDEX",
    "UV_FIND_LINKS",
    "UV_OFFLINE",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "NODE_EXTRA_CA_CERTS",
)
_PIP = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_CERT", "HTTPS_PROXY", "https_proxy", "NO_PROXY")


def build_environment() -> dict[str, str]:
    """Return the environment of a host whose builds share one cache."""
    passed = {name: os.environ[name] for name in (*_INDEX, *_PIP) if name in os.environ}
    caches = {"UV_CACHE_DIR": str(ROOT / ".cache" / "uv"), "npm_config_cache": str(ROOT / ".cache" / "npm")}
    return caches | passed


@dataclass
class Host:
    """A running host: its launcher and its ready line."""

    child: Started
    ready: dict[str, Any]
    environment: dict[str, str]

    @property
    def paths(self) -> Paths:
        return locate(self.ready["data"])

    @property
    def here(self) -> LocalHost:
        """The host, as verbs on its own machine choose it."""
        return LocalHost(self.ready["data"])

    def portway(
        self, *arguments: str | Path, stdin: str = "", timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Run one `portway` command to its end."""
        return subprocess.run(
            [SCRIPTS / "portway", *arguments],
            env=clean_env(self.environment | {"PORTWAY_DATA": self.ready["data"]}),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def deploy(self, folder: Path, name: str, **changes: object) -> Deployment:
        """Deploy as `portway deploy` does, without starting a process."""
        arguments = {"source": str(folder), "name": name} | changes
        return ask_control(self.here, "deploy", arguments, Deployments).apps[0]

    def status(self, app: str) -> AppStatus:
        found = ask_control(self.here, "list_apps", {}, AppList)
        return next(status for status in found.apps if status.app == app)

    def call(self, app: str, tool: str, token: str, **arguments: object) -> Any:
        """Call a tool through the gate and return its structured result."""

        async def use() -> Any:
            async with Client(f"{self.ready['url']}/{app}/mcp", token=token, timeout=120) as client:
                return (await client.call_tool(tool, arguments)).structured

        return asyncio.run(use())

    def instance(self, app: str) -> routing_table.InstanceAddress | None:
        return next(iter(self.instances(app)), None)

    def instances(self, app: str) -> list[routing_table.InstanceAddress]:
        return routing_table.load(self.paths.routes).apps[app].instances

    def home(self, app: str, release: int = 1) -> Path:
        """Return the folder in which an app and a test can leave files for each other."""
        return self.paths.release(app, release) / "home"

    def pids(self, instance: str) -> list[int]:
        """Return the processes of an instance. In a sandbox it has other numbers for them."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                if f"PORTWAY_INSTANCE={instance}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                    found.append(int(pid))
        return found

    def processes(self) -> dict[int, str]:
        """Return every process of this host but the launcher: pid and command line."""
        found = {}
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if self.ready["data"] in command and int(pid) != self.child.process.pid:
                    found[int(pid)] = command
        return found

    def process(self, module: str) -> int:
        """Return the pid of `portway.host.gate` or `portway.host.control`."""
        return eventually(lambda: next((pid for pid, line in self.processes().items() if f"host.{module} " in line), 0))

    def kill(self, module: str) -> int:
        pid = self.process(module)
        os.kill(pid, signal.SIGKILL)
        return pid


@contextlib.contextmanager
def host(
    data: Path,
    folders: Sequence[Path] = (),
    stderr: int = subprocess.STDOUT,
    options: Sequence[str] = (),
    *,
    walls: bool = True,
    program: Path = SCRIPTS / "portway",
    variables: Mapping[str, str] = {},
) -> Iterator[Host]:
    """Run `portway up FOLDERS` on a free port while the block lasts, with more `variables` in its environment.

    Without `walls` it finds no bubblewrap, so its apps share files and process numbers with the test.
    """
    with tempfile.TemporaryDirectory(dir="/tmp") as run:
        environment = build_environment() | {"XDG_RUNTIME_DIR": run, **variables}
        if not walls:
            environment["PATH"] = str(SCRIPTS)
        command = [program, "up", *folders, "--data", data, "--port", "0", *options]
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env=clean_env(environment),
        ) as process:
            child = Started(process)
            try:
                match = child.wait_for(r"^ready (\{.*\})$")
                yield Host(child, json.loads(match[1]), environment)
            finally:
                process.terminate()
                try:
                    process.wait(120)
                finally:
                    process.kill()
