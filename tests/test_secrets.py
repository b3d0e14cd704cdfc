"""What must not get out: planted tokens, source paths and tracebacks, searched for in all that a server or a host says.

A caller plants secrets wherever a request has room for one; then every reply, every log line, the call record and the
data directory are searched. What a tool itself logs or returns is its author's business; this tool keeps quiet.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.host.running_host import Host, host
from tests.support import SCRIPTS, Started, eventually, started

PLANTED = "pLaNtEd"
MARKS = tuple(f"{PLANTED}-{place}" for place in ("token", "argument", "query", "json", "header", "cookie", "variable"))
TOKEN, ARGUMENT, QUERY, JSON, HEADER, COOKIE, VARIABLE = MARKS
SERVER = """
from portway import Server, ToolError
server = Server("quiet")

@server.tool
def fail(secret: str) -> str:
    raise ValueError("why it failed stays in the log")

@server.tool
async def take(secret: str, count: int = 1) -> int:
    return count

@server.tool(scopes=["admin"])
def guarded() -> None: ...

@server.resource("secret://{name}")
def resource(name: str) -> str:
    raise LookupError("why it failed stays in the log")
"""
META = {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}


@dataclass
class Visitor:
    """Sends what no client should, to one endpoint; `replies` is all that came back, heads and bodies."""

    url: str
    token: str
    replies: list[str] = field(default_factory=list)

    def send(self, body: bytes, *, token: str = "", verb: str = "POST", target: str = "", **headers: str) -> int:
        parts = urlsplit(self.url)
        assert parts.hostname
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=120)
        sent = {"Content-Type": "application/json", "Authorization": f"Bearer {token or self.token}"}
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(verb, target or parts.path, body, sent | {"Cookie": COOKIE, "X-Other": HEADER} | more)
        response = connection.getresponse()
        self.replies.append(f"{response.getheaders()} {response.read().decode(errors='replace')}")
        connection.close()
        return response.status

    def ask(self, method: str, **params: object) -> int:
        return self.send(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode())

    def visit(self) -> None:
        """Plant every mark, in requests that are answered, refused, and not even read."""
        assert self.send(b"{}", token=TOKEN) == 401
        assert self.send(b"{}", token=f"{TOKEN} {TOKEN}") == 401
        assert self.send(b"", Authorization=f"Basic {TOKEN}") == 401
        assert self.send(b'{"%b":' % JSON.encode()) == 400
        assert self.send(b'["%b"]' % JSON.encode()) in (200, 400)
        assert self.send(b"\xff%b" % JSON.encode()) == 400
        assert self.send(b"{}", target=f"{urlsplit(self.url).path}?token={QUERY}") == 400
        assert self.send(b"", verb="GET", target=f"/{QUERY}?token={QUERY}", token=TOKEN) in (401, 404)
        assert self.send(b"", Host=f"{HEADER}.test") == 421
        assert self.send(b"", Origin=f"http://{HEADER}.test") == 403
        assert self.send(b"", Content_Type=HEADER) in (400, 415)
        assert self.ask("tools/call", name="take", arguments={"secret": ARGUMENT}) == 200
        assert self.ask("tools/call", name="fail", arguments={"secret": ARGUMENT}) == 200
        assert self.ask("tools/call", name="guarded", arguments={"secret": ARGUMENT}) == 403
        assert self.ask("resources/read", uri=f"secret://{ARGUMENT}") == 200
        # Its own words may come back to a caller, and nowhere else.
        assert self.ask("tools/call", name="take", arguments={"secret": ARGUMENT, "count": ARGUMENT}) == 200
        assert ARGUMENT in self.replies.pop()
        modern = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "take", "_meta": META}}
        version = {"MCP_Protocol_Version": "2026-07-28", "Mcp_Method": HEADER, "Mcp_Name": HEADER}
        assert self.send(json.dumps(modern).encode(), **version) == 400

    def check(self) -> None:
        """No reply repeats what was planted, names a file of the server's, or holds a traceback."""
        for reply in self.replies:
            assert not found(reply, *MARKS, self.token), reply
            assert not found(reply, "Traceback", "server.py", ".py:", str(Path.home()), "/tmp/", "site-packages"), reply
            assert not found(reply, "stays in the log"), reply


def found(text: str, *words: str) -> list[str]:
    return [word for word in words if word in text]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "app" / "server.py"
    path.parent.mkdir()
    path.write_text(SERVER)
    return path


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_server_alone_repeats_no_secret_in_replies_or_log(file: Path, form: str) -> None:
    token = "served-secret"
    command = (SCRIPTS / "portway", "run", file, "--transport", "http", "--port", "0")
    env = {"PORTWAY_TOKENS": f"ada:{token}", "PORTWAY_LOG_LEVEL": "debug", "PORTWAY_LOG_FORMAT": form}
    with started(*command, ready=r"(http://127\.0\.0\.1:\d+/mcp)", env=env) as child:
        assert child.match
        visitor = Visitor(child.match[1], token)
        visitor.visit()
        eventually(lambda: "".join(child.lines).count("stays in the log") >= 2)
    visitor.check()
    log = "".join(child.lines)
    assert "fail failed, error id" in log
    assert not found(log, *MARKS, token)


@pytest.fixture
def running(tmp_path: Path, file: Path) -> Iterator[Host]:
    with host(tmp_path / "data", [file.parent], options=["--trust-all-apps"]) as running:
        yield running


@pytest.mark.slow
def test_a_host_keeps_no_secret_in_replies_logs_record_or_data(running: Host) -> None:
    token = running.ready["token"]
    made = running.portway("token", "create", "app", "second").stdout.strip()
    told = [
        running.portway("env", "set", "app", f"KEY={VARIABLE}", "QUITE=-", stdin=VARIABLE),
        running.portway("env", "set", "--group", "shared", f"KEY={VARIABLE}"),
        running.portway("env", "set", "app", f"PORT={VARIABLE}"),
        running.portway("env", "import", "app", "-", stdin=f"KEY {VARIABLE}"),
        running.portway("env", "rekey"),
        running.portway("env", "list", "app", "-o", "json"),
        running.portway("config", "app"),
        running.portway("ps", "-o", "json"),
    ]
    assert not found("".join(one.stdout + one.stderr for one in told), VARIABLE)
    visitor = Visitor(f"{running.ready['url']}/app/mcp", token)
    visitor.visit()
    assert visitor.ask("tools/call", name="take", arguments={"secret": made}) == 200
    by_name = f"app.localhost:{urlsplit(visitor.url).port}"
    assert visitor.send(b"", verb="GET", target=f"/page?token={QUERY}", Host=by_name) == 404
    log = running.portway("logs", "app", "-n", "1000").stdout
    assert log.count("stays in the log") == 2
    visitor.check()
    # The record has names of tools and URIs of resources: what was asked for, never what was given to it.
    shown = [line for line in log.splitlines() if "| resources/read secret://" not in line]
    assert not found("".join(shown), *MARKS, token, made)
    assert not found(said(running.child), *MARKS, token, made, "Traceback")

    data = Path(running.ready["data"])
    eventually(lambda: '"name":"/page"' in record(data))
    assert running.child.process.poll() is None
    for path in (path for path in data.rglob("*") if path.is_file() and "venv" not in path.parts):
        content = path.read_bytes().decode("latin-1")
        marks = [mark for mark in (*MARKS, token, made) if not (mark == ARGUMENT and path.parent.name == "calls")]
        assert not found(content, *marks), path
    assert "arguments" in record(data)
    assert not found(record(data), *(mark for mark in MARKS if mark != ARGUMENT))
    mine = [line for line in record(data).splitlines() if ARGUMENT in line]
    assert [json.loads(line)["name"] for line in mine] == [f"secret://{ARGUMENT}"]


def said(child: Started) -> str:
    """What `up` printed, but for the ready line: it shows the first app's token."""
    return "".join(line for line in child.lines if not line.startswith("ready "))


def record(data: Path) -> str:
    return "".join(path.read_text() for path in sorted((data / "calls").glob("*.jsonl")))
