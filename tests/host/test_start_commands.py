"""Apps that are not Portway's: started by a command of their own, and serving on PORT."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.test_host_errors import matches
from tests.host.running_host import Host, host
from tests.support import clean_env

SERVER = """
import json, os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

only = os.environ.get("ONLY", "")
TOOL = {"name": "whoami", "inputSchema": {"type": "object"}}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        is_stream = self.path == "/sse" and only == "/sse"
        self.send_response(200 if is_stream else 404)
        self.send_header("content-type", "text/event-stream" if is_stream else "text/plain")
        self.send_header("content-length", "0")
        self.end_headers()

    def do_POST(self):
        elsewhere = "307" if only == self.path + "/" else "404"
        status = os.environ.get("STATUS") or (elsewhere if only not in ("", self.path) else "")
        if status:
            self.rfile.read(int(self.headers["content-length"]))
            said = os.environ.get("SAID", "").encode()
            self.send_response(int(status))
            if status == "307":
                self.send_header("location", f"http://{self.headers['host']}{only}")
            self.send_header("content-length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)
            return
        call = json.loads(self.rfile.read(int(self.headers["content-length"])))
        headers = {name.lower(): value for name, value in self.headers.items()}
        seen = {"headers": headers, "path": self.path, "environment": dict(os.environ)}
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


CUT = r"""
import os, socket
with socket.create_server(("127.0.0.1", int(os.environ["PORT"]))) as server, server.accept()[0] as client:
    client.recv(4096)
    client.sendall(b"HTTP/1.0 200 OK\r\ncontent-type: application/json\r\n\r\n")
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with host(tmp_path_factory.mktemp("start") / "data") as started:
        yield started


@pytest.mark.slow
def test_a_server_of_any_framework_is_built_and_started_by_its_own_commands(running: Host, tmp_path: Path) -> None:
    folder = tmp_path / "plain"
    (folder / "app").mkdir(parents=True)
    (folder / "app" / "main.py").write_text(SERVER)
    for command in (
        "init -qb prod",
        "remote add origin git@forge.example:team/plain.git",
        "commit -qm a --allow-empty",
    ):
        git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.com", *command.split()]
        subprocess.run(git, cwd=folder, env=clean_env(), check=True)
    commands = ["--root", "app", "--build", "echo built > built", "--start", "cat built && exec python main.py"]

    done = running.portway("deploy", folder, *commands)
    assert done.returncode == 0, done.stderr
    assert "built" in running.portway("logs", "plain").stdout

    token = running.portway("token", "create", "plain", "t").stdout.split()[0]
    seen = running.call("plain", "whoami", token)
    headers, environment, url = seen["headers"], seen["environment"], running.ready["url"]
    assert headers["host"] == "plain.localhost"
    assert headers["x-forwarded-host"] == url.removeprefix("http://")
    assert (headers["x-forwarded-for"], headers["x-forwarded-proto"]) == ("127.0.0.1", "http")
    own = f"http://plain.localhost:{url.rpartition(':')[2]}"
    commit = environment.pop("RENDER_GIT_COMMIT")
    assert len(commit) == 40
    assert {name: value for name, value in environment.items() if "RENDER" in name or "ALLOWED" in name} == {
        "RENDER": "true",
        "RENDER_CPU_COUNT": str(os.cpu_count()),
        "RENDER_EXTERNAL_HOSTNAME": "plain.localhost",
        "RENDER_EXTERNAL_URL": own,
        "RENDER_GIT_BRANCH": "prod",
        "RENDER_GIT_REPO_SLUG": "team/plain",
        "RENDER_INSTANCE_ID": f"srv-plain-{environment['PORTWAY_INSTANCE']}",
        "RENDER_SERVICE_ID": "srv-plain",
        "RENDER_SERVICE_NAME": "plain",
        "RENDER_SERVICE_TYPE": "web",
        "RENDER_WEB_CONCURRENCY": "1",
        "PORTWAY_ALLOWED_HOSTS": "plain.localhost,localhost",
        "PORTWAY_ALLOWED_ORIGINS": own,
    }
    assert running.portway("deploy", folder).returncode == 0, "what is not given stays as it was"
    assert running.call("plain", "whoami", token)["path"] == "/mcp"


@pytest.mark.parametrize(
    ("start", "refused"),
    [
        (
            "true",
            "the start command ended (exit code 0): it must stay in the foreground and serve HTTP on …, not stdio",
        ),
        ("setsid python main.py & exit 0", "the start command ended (exit code 0): it must stay in the foreground"),
        (f"python -c '{CUT}'", "the start command ended (exit code 0): it must stay in the foreground"),
        (
            "no-such-program",
            "the server ended (exit code 127) before it answered:\n  /bin/sh: 1: no-such-program: not found",
        ),
        ("PORT=0 exec python main.py", "the server listens on 127.0.0.1:…, not on the port that PORT names"),
        ("STATUS=421 exec python main.py", "the server refuses its own name as Host (421): let it allow RENDER_"),
        (
            "STATUS=403 SAID='Invalid Host: wrong.localhost' exec python main.py",
            "the server refuses its own name as Host (403): let it allow RENDER_EXTERNAL_HOSTNAME, or give its object",
        ),
        (
            "STATUS=403 SAID='Not today.' exec python main.py",
            "the server answers, but not as MCP asks: /mcp answered server/discover with HTTP status 403: Not today.",
        ),
        (
            "ONLY=/x exec python main.py",
            "it has no MCP endpoint at /mcp or /mcp/ or /: serve it at /mcp, or name its path",
        ),
        (
            "STATUS=307 ONLY=/x exec python main.py",
            "the server answers, but not as MCP asks: /mcp redirects to http://wrong.localhost/x: give that address",
        ),
        (
            "ONLY=/sse exec python main.py",
            "it speaks HTTP+SSE at /sse, which is too old: serve Streamable HTTP instead",
        ),
    ],
)
def test_a_start_command_that_does_not_serve_is_answered_with_one_sentence(
    running: Host, tmp_path: Path, start: str, refused: str
) -> None:
    (tmp_path / "main.py").write_text(SERVER)
    done = running.portway("deploy", tmp_path, "--name", "wrong", "--start", start)
    assert done.returncode == 1
    assert matches(refused, done.stderr)


PIPES = """
packages=$(echo "$VIRTUAL_ENV"/lib/python*/site-packages)
mkdir -p "$packages/left-1.dist-info" node_modules/@modelcontextprotocol/sdk
mkfifo left.py left.js "$packages/left-1.dist-info/RECORD" node_modules/@modelcontextprotocol/sdk/package.json
"""
LEFT = "echo 'TypeError: Cannot read properties of undefined'; echo \"at $PWD/left.js:1\"; exit 1"


@pytest.mark.parametrize("runtime", ["python", "node"])
def test_pipes_that_a_build_leaves_hold_up_nobody(running: Host, tmp_path: Path, runtime: str) -> None:
    (tmp_path / "package.json").write_text('{"name": "left", "version": "1"}')
    build = PIPES if runtime == "python" else PIPES.replace("$VIRTUAL_ENV", "$HOME")
    commands = ("--runtime", runtime, "--build", build, "--start", LEFT)
    done = running.portway("deploy", tmp_path, "--name", "left", *commands)
    assert (done.returncode, running.portway("ps").returncode) == (1, 0)
    assert "the server ended (exit code 1) before it answered" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "start", "path"),
    [
        ("late", "sleep 1; exec python main.py", "/mcp"),
        ("root", "ONLY=/ python main.py", "/"),
        ("mounted", "ONLY=/mcp/ python main.py", "/mcp/"),
    ],
)
def test_a_server_may_listen_late_and_have_its_endpoint_at_the_root_or_mounted_at_mcp(
    running: Host, tmp_path: Path, name: str, start: str, path: str
) -> None:
    (tmp_path / "main.py").write_text(SERVER)
    done = running.portway("deploy", tmp_path, "--name", name, "--public", "--start", start)
    assert done.returncode == 0, done.stderr
    assert running.call(name, "whoami", "")["path"] == path


PROJECT = '[project]\nname = "weather"\nversion = "1"\nrequires-python = ">=3.11"\n'
BERRY = """\
# This file is generated by running "yarn install" inside your project.
# Manual changes might be lost - proceed with caution!

__metadata:
  version: 8
  cacheKey: 10c0

"n@workspace:.":
  version: 0.0.0-use.local
  resolution: "n@workspace:."
  languageName: unknown
  linkType: soft
"""
NODE = """
import { createServer } from "node:http";
const results = {
  initialize: { protocolVersion: "2025-11-25", capabilities: { tools: {} }, serverInfo: { name: "n", version: "1" } },
  "tools/list": { tools: [{ name: "whoami", inputSchema: { type: "object" } }] },
  "tools/call": { content: [], structuredContent: { env: process.env.NODE_ENV, by: process.env.BUILT } },
};
createServer(async (request, response) => {
  let body = "";
  for await (const chunk of request) body += chunk;
  const call = JSON.parse(body || "{}");
  const result = results[call.method];
  const error = { code: -32601, message: "no such method" };
  response.writeHead("id" in call ? 200 : 202, { "content-type": "application/json" });
  const reply = { jsonrpc: "2.0", id: call.id, ...(result ? { result } : { error }) };
  response.end("id" in call ? JSON.stringify(reply) : "");
}).listen(process.env.PORT);
"""


@pytest.mark.install
@pytest.mark.parametrize(
    ("files", "config"),
    [
        pytest.param(
            {"pyproject.toml": PROJECT, ".python-version": "3.11.99"},
            {"build_command": "uv lock && uv sync --frozen", "start_command": "uv run main.py"},
            id="uv sync, uv run",
        ),
        pytest.param(
            {"main.py": f"# /// script\n# dependencies = ['idna']\n# ///\nimport idna\n{SERVER}"},
            {"start_command": "python main.py"},
            id="script metadata",
        ),
        pytest.param(
            {"requirements.txt": "idna"},
            {"build_command": "python -m pip install -U pip && pip install -r requirements.txt --no-cache-dir"}
            | {"start_command": "python -c 'import idna' && python main.py"},
            id="pip",
        ),
    ],
)
def test_a_python_project_of_any_tool_is_built(
    running: Host, tmp_path: Path, files: dict[str, str], config: dict[str, str]
) -> None:
    for name, content in ({"main.py": SERVER} | files).items():
        (tmp_path / name).write_text(content)
    running.deploy(tmp_path, "tools", access="public", **{"build_command": ""} | config)
    assert running.call("tools", "whoami", "")["path"] == "/mcp"


@pytest.mark.install
@pytest.mark.parametrize(
    ("package", "lock"),
    [
        ({"packageManager": "pnpm@10.12.1"}, ("pnpm-lock.yaml", "lockfileVersion: '9.0'\nimporters:\n  .: {}\n")),
        ({}, ("yarn.lock", "# yarn lockfile v1\n")),
        ({"name": "n", "packageManager": "yarn@4.9.2"}, ("yarn.lock", BERRY)),
        ({"engines": {"node": "22.x"}, "name": "n", "version": "1"}, ("readme", "")),
    ],
    ids=["pnpm", "yarn", "yarn 4", "another Node"],
)
def test_a_node_project_of_any_package_manager_is_built(
    running: Host, tmp_path: Path, package: dict[str, object], lock: tuple[str, str]
) -> None:
    scripts = {"build": "node -e \"fs.writeFileSync('built', '')\"", "start": "BUILT=$(ls built) node main.js"}
    (tmp_path / "package.json").write_text(json.dumps({"type": "module", "scripts": scripts} | package))
    (tmp_path / "main.js").write_text(NODE)
    (tmp_path / lock[0]).write_text(lock[1])
    running.deploy(tmp_path, "nodes", access="public", start_command="")
    assert running.call("nodes", "whoami", "") == {"env": "production", "by": "built"}
