"""A server process, its two pipes, and messages to write into them, for the tests of stdio."""

from __future__ import annotations

import json
import os
import select
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from tests.support import SCRIPTS, clean_env

ENVELOPE = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}


def command(server: str) -> list[str]:
    """Return the command that runs a server of this folder over stdio."""
    return [str(SCRIPTS / "portway"), "run", str(Path(__file__).with_name(server)), "--transport", "stdio"]


class Pipes:
    """A server and our ends of its pipes; a read fails after ten seconds."""

    def __init__(self, *command: str, env: Mapping[str, str] | None = None) -> None:
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env=clean_env(env))
        self._rest = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe:
                pipe.close()

    def send(self, *messages: dict[str, Any] | list[Any] | bytes) -> None:
        assert self.process.stdin
        for message in messages:
            self.process.stdin.write((message if isinstance(message, bytes) else json.dumps(message).encode()) + b"\n")
        self.process.stdin.flush()

    def receive(self) -> Any:
        """Return the next message."""
        assert self.process.stdout
        while b"\n" not in self._rest:
            ready, _, _ = select.select([self.process.stdout], [], [], 10)
            data = os.read(self.process.stdout.fileno(), 1 << 20) if ready else b""
            assert data, f"no message; the rest is {self._rest!r}"
            self._rest += data
        line, self._rest = self._rest.split(b"\n", 1)
        return json.loads(line)

    def ask(self, message: dict[str, Any]) -> Any:
        """Send a message and return the next one received, its answer where nothing else is due."""
        self.send(message)
        return self.receive()

    def initialize(self, version: str = "2025-11-25", **capabilities: Any) -> None:
        params = {"protocolVersion": version, "capabilities": capabilities, "clientInfo": {"name": "t", "version": "1"}}
        assert self.ask(request("initialize", params, id=0))["result"]["protocolVersion"] == version
        self.send({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def close_input(self) -> int:
        """Close the pipe as a client does, and return the server's exit status."""
        assert self.process.stdin
        self.process.stdin.close()
        return self.process.wait(120)


def request(method: str, params: dict[str, Any] | None = None, *, id: int | str = 1) -> dict[str, Any]:  # noqa: A002
    return {"jsonrpc": "2.0", "id": id, "method": method, "params": params or {}}


def call(tool: str, *, id: int | str = 1, modern: bool = True, progress: str | None = None, **arguments: Any) -> Any:  # noqa: A002
    meta: dict[str, Any] = dict(ENVELOPE) if modern else {}
    if progress:
        meta["progressToken"] = progress
    return request("tools/call", {"name": tool, "arguments": arguments, "_meta": meta}, id=id)


def cancel(id: int | str) -> dict[str, Any]:  # noqa: A002
    return {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id}}
