"""Runs the clients of this folder, which log in by themselves, and has them call tools line by line."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.oauth.providers import NODE, node_program
from tests.support import ROOT, clean_env
from tests.tls.free_ports import free_ports

HERE = Path(__file__).parent
BROWSER = f"{sys.executable} {ROOT / 'tests' / 'oauth' / 'browse.py'} %s"


class LoggedIn:
    """A client that runs; the first call that needs it logs in."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def ask(self, tool: str) -> dict[str, str]:
        """Return the `text` of a call, or its `error`."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"{tool}\n")
        self._process.stdin.flush()
        answer: dict[str, str] = json.loads(self._process.stdout.readline() or '{"error": "the client ended"}')
        return answer

    def call(self, tool: str) -> str:
        answer = self.ask(tool)
        assert "text" in answer, answer
        return answer["text"]


@contextlib.contextmanager
def logging_in(client: str, browser: str = BROWSER, **given: Any) -> Iterator[LoggedIn]:
    """Run a client while the block lasts: `portway`, `python`, `typescript`, `mcp-remote` or `fastmcp…`."""
    with tempfile.TemporaryDirectory() as folder:
        env = clean_env({"BROWSER": browser, "MCP_REMOTE_CONFIG_DIR": folder, "HOME": folder})
        with subprocess.Popen(
            [*command(client, given, env), json.dumps(given)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=env,
            cwd=NODE if client == "typescript" else HERE,
        ) as process:
            try:
                yield LoggedIn(process)
            finally:
                assert process.stdin
                with contextlib.suppress(BrokenPipeError):
                    process.stdin.close()
                try:
                    process.wait(120)
                except subprocess.TimeoutExpired:
                    process.kill()


def command(client: str, given: dict[str, Any], env: dict[str, str]) -> list[str]:
    """Return the command of a client; what it must be given is added to `given` and `env`."""
    if client == "typescript":
        return [node_program(), "login.mjs"]
    if client.startswith("fastmcp"):
        python = ROOT / ".venv-clients" / client / "bin" / "python"
        if not python.exists():
            pytest.skip(f".venv-clients/{client} is missing: run `make test-all`")
        env["BROWSER"] += " &"  # this client listens only when the browser's program has been started
        return [str(python), str(HERE / "fastmcp_client.py")]
    if client == "mcp-remote":
        proxy = NODE / "node_modules" / "mcp-remote" / "dist" / "proxy.js"
        given["command"] = [node_program(), str(proxy), given["url"]]
        if "document" in given:
            given["command"] += ["--client-metadata-url", given["document"]]
        if "client_id" in given:
            # It then takes no other port for the way back than the one it is given, or makes of the URL.
            port, known = str(free_ports(1)[0]), json.dumps({"client_id": given["client_id"]})
            given["command"] += [port, "--static-oauth-client-info", known]
        given["env"] = env
    return [sys.executable, str(HERE / ("portway_client.py" if client == "portway" else "python_client.py"))]
