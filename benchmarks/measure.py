"""Measurements of processes: start, first answer, load by wrk, CPU, memory."""

import contextlib
import http.client
import json
import os
import re
import shlex
import signal
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import psutil

ROOT = Path(__file__).resolve().parent.parent
MODERN_META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}
START_SECONDS = 60.0
KEPT = re.compile(r"PATH|HOME|LANG|(UV|PIP|SSL)_\w+|\w+_PROXY|\w+_proxy")


class BenchError(Exception):
    """A measurement failed: a wrong answer, or a server that did not start."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command in the repository; `env` is its environment, plus our variables that match KEPT."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return " ".join([*(f"{name}={value}" for name, value in self.env.items()), shlex.join(self.argv)])

    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if KEPT.fullmatch(name)}
        return {**kept, **self.env}


class Running:
    """A started command and its descendants."""

    def __init__(self, command: Command) -> None:
        self.command = command
        self._output: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the process)
        self.started = time.perf_counter()
        self._process = subprocess.Popen(
            command.argv,
            cwd=ROOT,
            env=command.environment(),
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.pid = self._process.pid

    def output(self) -> str:
        self._output.seek(0)
        return self._output.read().decode(errors="replace")

    def expect_alive(self, since: float) -> None:
        """Raise BenchError with its output if it has ended, or START_SECONDS have passed since `since`."""
        if self._process.poll() is not None or time.perf_counter() - since > START_SECONDS:
            raise BenchError(f"`{self.command}` did not start:\n{self.output()[-3000:]}")

    def line(self, start: str) -> str:
        """Wait for the first line of output that begins with `start`; return it."""
        while True:
            for line in self.output().splitlines(keepends=True):
                if line.startswith(start) and line.endswith("\n"):
                    return line
            self.expect_alive(self.started)
            time.sleep(0.01)

    def tree(self) -> list[psutil.Process]:
        try:
            root = psutil.Process(self.pid)
            return [root, *root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def cpu(self) -> float:
        """Return user and system seconds of the whole tree so far, ended children included."""
        return sum(cpu_of(process) for process in self.tree())

    def resident(self) -> float:
        """Return the resident MB, summed over the tree."""
        return float(sum(process.memory_info().rss for process in self.tree())) / 1e6

    def stop(self) -> None:
        tree = self.tree()
        if self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        # Instances have sessions of their own. psutil compares start times, so a pid used again is safe.
        for process in tree:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait()
        self._output.close()


def cpu_of(process: psutil.Process) -> float:
    with contextlib.suppress(psutil.NoSuchProcess):
        times = process.cpu_times()
        return float(times.user + times.system + times.children_user + times.children_system)
    return 0.0


@contextlib.contextmanager
def running(command: Command) -> Iterator[Running]:
    """Run a command while the block lasts; then end it and all its descendants."""
    process = Running(command)
    try:
        yield process
    finally:
        process.stop()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The address of a server, and the era of the calls to it."""

    port: int
    era: str = "legacy"
    path: str = "/mcp"
    token: str | None = None
    scheme: str = "http"

    def first_answer(self, server: Running, since: float) -> float:
        """Call in a tight loop; return the seconds from `since` to the first correct answer."""
        while not self._answers():
            server.expect_alive(since)
            time.sleep(0.001)
        return time.perf_counter() - since

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        if self.scheme == "https":
            context = ssl._create_unverified_context()
            connection = http.client.HTTPSConnection("localhost", self.port, timeout=10, context=context)
        params: dict[str, object] = {"name": "get_weather", "arguments": {"city": "first"}}
        headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        if self.era == "modern":
            params["_meta"] = MODERN_META
            headers |= {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": "get_weather"}
        else:
            headers["MCP-Protocol-Version"] = "2025-11-25"
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        try:
            connection.request("POST", self.path, json.dumps(message), headers)
            reply = connection.getresponse()
            body = reply.read()  # JSON, or an event stream of a server of another framework
            return reply.status == 200 and b"first" in body and b'"isError":true' not in body
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


@dataclass(frozen=True, slots=True)
class Load:
    """A result of wrk: latencies in ms, `bytes` of one answer with its headers."""

    calls: int
    seconds: float
    bytes: float
    p50: float
    p99: float

    @property
    def rate(self) -> float:
        return self.calls / self.seconds


def wrk_command(target: Endpoint, connections: int, seconds: float, method: str = "tools/call") -> Command:
    url = f"{target.scheme}://{'localhost' if target.scheme == 'https' else '127.0.0.1'}:{target.port}{target.path}"
    script = ["-s", "benchmarks/clients/load.lua", url, "--", target.era, method]
    if target.token:
        script.append(target.token)
    return Command(("wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "20s", *script))


def load(target: Endpoint, connections: int, seconds: float, method: str = "tools/call") -> Load:
    """Run wrk once; raise BenchError if any answer is wrong or failed."""
    out = output_of(wrk_command(target, connections, seconds, method), seconds + 60)
    seen = json.loads(next(line for line in out.splitlines() if line.startswith("{")))
    if seen["wrong"] or seen["failed"]:
        wrong = f"{seen['wrong']} wrong, {seen['failed']} failed"
        raise BenchError(f"{wrong} of {seen['calls']} answers: {seen['example']}")
    return Load(seen["calls"], seen["seconds"], seen["bytes"] / max(1, seen["calls"]), seen["p50"], seen["p99"])


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def output_of(command: Command, timeout: float = 120) -> str:
    """Run a command that must succeed; return its standard output."""
    done = subprocess.run(
        command.argv, cwd=ROOT, env=command.environment(), capture_output=True, text=True, check=False, timeout=timeout
    )
    if done.returncode:
        raise BenchError(f"`{command}` ended with {done.returncode}: {(done.stdout + done.stderr)[-3000:]}")
    return done.stdout
