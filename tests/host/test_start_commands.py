"""Apps that are not Portway's: started by a command of their own, and serving on PORT."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host.running_host import Host, host

SERVER = """
import json, os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOOL = {"name": "whoami", "inputSchema": {"type": "object"}}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        call = json.loads(self.rfile.read(int(self.headers["content-length"])))
        seen = {"host": self.headers["host"], "for": self.headers["x-forwarded-host"], "path": self.path}
        result = {
            "initialize": {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
                           "serverInfo": {"name": "plain", "version": "1"}},
            "tools/list": {"tools": [TOOL]},
            "tools/call": {"content": [], "structuredContent": seen},
        }.get(call["method"])
        reply = {"jsonrpc": "2.0", "id": call.get("id")}
        reply |= {"result": result} if result else {"error": {"code": -32601, "message": "no such method"}}
        body = json.dumps(reply).encode() if "id" in call else b""
        self.send_response(200 if body else 202)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with host(tmp_path_factory.mktemp("start") / "data") as started:
        yield started


def test_a_server_of_any_framework_is_built_and_started_by_its_own_commands(running: Host, tmp_path: Path) -> None:
    folder = tmp_path / "plain"
    (folder / "app").mkdir(parents=True)
    (folder / "app" / "main.py").write_text(SERVER)
    commands = ["--root", "app", "--build", "echo built > built", "--start", "cat built && exec python main.py"]

    done = running.portway("deploy", folder, *commands)
    assert done.returncode == 0, done.stderr
    assert "built" in running.portway("logs", "plain").stdout

    token = running.portway("token", "create", "plain", "t").stdout.split()[0]
    seen = running.call("plain", "whoami", token)
    assert seen["host"] == "plain.localhost"
    assert seen["for"] == running.ready["url"].removeprefix("http://")
    assert running.portway("deploy", folder).returncode == 0, "what is not given stays as it was"
    assert running.call("plain", "whoami", token)["path"] == "/mcp"
