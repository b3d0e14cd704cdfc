"""The errors of docs/troubleshooting.md: of the command line, and of connections to servers that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import socket
import subprocess
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from portway import Context, Server, testing
from portway.cli.main import cli
from portway.client import Client, ClientError
from portway.http.asgi import LifespanError, Receive, Scope, Send
from portway.http.bind import Bind, ListenError
from portway.http.limits import Limits
from tests.client.scripted_server import Reply, Request, scripted
from tests.conftest import RunCli
from tests.docs.test_wire_errors import pattern
from tests.http.running_listener import Listener, Plain
from tests.support import SCRIPTS, clean_env

SERVER = """
import asyncio
from portway import Server

server = Server(sessions=True)

@server.tool
def f(a: int = 1) -> int:
    return a

@server.tool
async def slow() -> None:
    await asyncio.Event().wait()
"""


CALL = json.dumps(
    {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {
            "name": "slow",
            "_meta": {
                "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientCapabilities": {},
            },
        },
    }
)


def matches(text: str, output: str) -> bool:
    return re.search(pattern(text), output) is not None


@pytest.mark.parametrize(
    ("text", "target", "environment"),
    [
        ("… is not a Python file; give one that ends in .py", "server.txt", {}),
        ("… has no object …; …", "server.py:other", {}),
        (
            "Cannot make the socket …: …. Check that its directory exists and is writable.",
            "",
            {"PORTWAY_SOCKET": "no/s"},
        ),
        ("… exists and is not a socket. Remove it, or choose another path.", "", {"PORTWAY_SOCKET": "server.txt"}),
        ("Cannot listen on …:…: …. Use another --host or --port.", "--host=192.0.2.1", {}),
        ("no PORTWAY_TOKENS is set: anyone who reaches …:… may call every tool", "--host=192.0.2.1", {}),
        ("PORTWAY_TOKENS entry … is not name:token[:scope+scope].", "", {"PORTWAY_TOKENS": "planted"}),
        ("PORTWAY_TOKENS entry … has a token no header can carry: use ASCII.", "", {"PORTWAY_TOKENS": "a:plantéd"}),
        ("PORTWAY_TOKENS entry … repeats the token of an earlier one.", "", {"PORTWAY_TOKENS": "a:planted,b:planted"}),
        ("PORT=… is not a port number; use 0 to 65535", "", {"PORT": "99999"}),
        (
            (
                "this server gives legacy clients sessions, which one process must hold: leave --workers out, or write "
                "Server(sessions=False)"
            ),
            "--workers=2",
            {},
        ),
        ("…=… is not known; use one of …", "", {"PORTWAY_LOG_LEVEL": "loud"}),
    ],
)
def test_a_server_that_cannot_run_prints_the_documented_text(
    run_cli: RunCli, tmp_path: Path, text: str, target: str, environment: dict[str, str]
) -> None:
    (tmp_path / "server.py").write_text(SERVER)
    (tmp_path / "server.txt").write_text(SERVER)
    words = [target] if target.startswith("server") else [*filter(None, [target]), "server.py"]
    done = run_cli("run", *words, "--transport", "http", env=environment)
    assert done.returncode == 1
    assert matches(text, done.stderr)
    assert "planted" not in done.stderr


def test_stdio_without_standard_output_prints_the_documented_text(tmp_path: Path) -> None:
    (tmp_path / "server.py").write_text(SERVER)
    command = f"{SCRIPTS / 'portway'} run server.py --transport stdio >&-"
    done = subprocess.run(
        ["sh", "-c", command],
        cwd=tmp_path,
        env=clean_env(),
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        timeout=120,
        check=False,
    )
    assert "stdio needs standard input and output, and one of them is closed" in done.stderr


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("A message is longer than … bytes.", "x" * 17_000_000),
        (
            'params._meta lacks "io.modelcontextprotocol/protocolVersion" (…), and no initialize came before.',
            '{"jsonrpc":"2.0","id":1,"method":"tools/list"}',
        ),
        ("A request with this id is still being answered.", f"{CALL}\n{CALL}"),
    ],
)
def test_a_wrong_line_over_stdio_is_answered_with_the_documented_text(
    run_cli: RunCli, tmp_path: Path, text: str, line: str
) -> None:
    (tmp_path / "server.py").write_text(SERVER)
    done = run_cli("run", "server.py", "--transport", "stdio", stdin=line + "\n")
    assert re.fullmatch(pattern(text), json.loads(done.stdout.splitlines()[0])["error"]["message"])


def test_a_server_that_asks_the_client_for_something_is_answered_with_the_documented_text(tmp_path: Path) -> None:
    asks = '{"jsonrpc":"2.0","id":7,"method":"roots/list"}'
    command = ["sh", "-c", f"read -r initialize; echo '{asks}'; read -r answer; echo \"$answer\" > {tmp_path}/answer"]

    async def main() -> None:
        async with Client(command, era="legacy", timeout=10):
            pytest.fail("it connected")

    with pytest.raises(ClientError, match="ended with exit code 0"):
        asyncio.run(main())
    answer = json.loads((tmp_path / "answer").read_text())
    assert re.fullmatch(pattern("This client does not serve …."), answer["error"]["message"])


def test_an_application_that_fails_is_logged_with_the_documented_text(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def failing(scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError

    listener = Listener(failing, Limits())
    listener.talk(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    listener.stop()
    listener.join()
    assert "The application failed." in caplog.messages


@pytest.mark.parametrize("ends", [True, False])
def test_an_application_that_does_not_shut_down_is_logged_with_the_documented_text(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, ends: bool
) -> None:
    if not ends:
        monkeypatch.setattr("portway.http.serve.LEAVE_SECONDS", 0.05)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        pass

    @contextlib.asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        yield
        if ends:
            raise LifespanError("the reason")
        await asyncio.Event().wait()

    listener = Listener(Plain(app, lifespan), Limits())
    listener.stop()
    listener.join()
    text = "the application failed to shut down: …" if ends else "the application did not shut down within … seconds"
    assert re.fullmatch(pattern(text), caplog.messages[-1])


def test_a_failing_function_of_the_caller_is_logged_with_the_documented_text(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = Server()
    changed = threading.Event()

    @server.tool(asks=True)
    async def busy(ctx: Context) -> None:
        await ctx.report_progress(1)
        await ctx.info("working")
        server.remove_tool("busy")
        await ctx.elicit("Go on?")

    def fails(_: object) -> Any:
        raise ValueError("planted")

    def fails_last(_: object) -> None:
        changed.set()
        raise ValueError("planted")

    async def main() -> str:
        options: dict[str, Any] = {"on_elicit": fails, "on_log": fails, "on_change": fails_last}
        async with testing.Client(server, era="legacy", **options) as client:
            return (await client.call_tool("busy", on_progress=fails)).text

    answer = asyncio.run(main())
    assert "The client failed to serve elicitation/create." in answer
    assert "planted" not in answer
    assert changed.is_set()
    for text in ("the handler of … failed", "the function given as … failed"):
        assert any(re.fullmatch(pattern(text), message) for message in caplog.messages)


def test_a_descriptor_that_is_no_socket_gives_the_documented_text() -> None:
    read, write = os.pipe()
    with pytest.raises(ListenError) as refused:
        Bind(fd=read).open()
    assert matches("File descriptor … is not a socket: …. Pass a bound one.", str(refused.value))
    os.close(read)
    os.close(write)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("… is no command: a quotation is not closed", ["'", "f"]),
        ("… is not an address: write http://host:port, https://host:port or unix:/path", ["http://[::1/mcp", "f"]),
        ("… is not a usable URL: percent-encode spaces and non-ASCII characters", ["http://127.0.0.1:1/a b", "f"]),
        (
            "the token has a space, a line break or a non-ASCII character: pass it exactly as it was shown",
            ["http://127.0.0.1:1/mcp", "f", "--token", "a\nb"],
        ),
        ("cannot start …: …", ["no-such-command-anywhere", "f"]),
        ("the server (…) ended with exit code …", ["false", "f"]),
        ("give the arguments as --json or as KEY=VALUE, not both", ["server.py", "f", "a=1", "--json", "{}"]),
        ("… must be … (as JSON), not …", ["server.py", "f", "a=two"]),
    ],
)
def test_a_wrong_call_prints_the_documented_text(
    text: str, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "server.py").write_text(SERVER)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PORTWAY_LOG_LEVEL", "warning")  # which a call of a file sets for its child
    done = CliRunner().invoke(cli, ["call", *words])
    assert done.exit_code in (1, 2)
    assert matches(text, done.output)
    assert isinstance(done.exception, SystemExit), "no other exception got out"


Answer = Callable[[Request], object]


def answering(discover: Answer, method: str = "", answer: Answer = dict) -> Callable[[Request], Awaitable[Reply]]:
    """Run a server that answers `server/discover` and `method` with the results of the given functions."""

    async def script(request: Request) -> Reply:
        method_sent = request.message.get("method")
        if "mcp-session-id" in request.headers and method_sent != "initialize":
            return Reply({}, 404)
        made = (
            discover(request) if method_sent == "server/discover" else answer(request) if method_sent == method else {}
        )
        if isinstance(made, Reply):
            return made
        return Reply({"jsonrpc": "2.0", "id": request.message["id"], "result": made})

    return script


def modern(request: Request) -> dict[str, Any]:
    return {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}, "resultType": "complete"}


def session(request: Request) -> Reply:
    found = {
        "protocolVersion": "2025-11-25",
        "capabilities": {"tools": {}},
        "serverInfo": {"name": "s", "version": "1"},
    }
    message = {"jsonrpc": "2.0", "id": request.message["id"], "result": found}
    return Reply(message, headers={"mcp-session-id": "one"})


ASKED = {"where": {"method": "roots/list"}}


def redirected(to: str) -> Answer:
    return lambda _: Reply(None, 307, {"location": to})


@pytest.mark.parametrize(
    ("text", "script", "era"),
    [
        ("… answered … with HTTP status …", answering(lambda _: Reply(None, 500)), "modern"),
        ("… redirects to …://…: give that address instead", answering(redirected("http://else.test/")), "auto"),
        ("… redirects too often", answering(redirected("/mcp")), "auto"),
        (
            "the server speaks no version of the modern era (…)",
            answering(lambda _: {"supportedVersions": ["2025-11-25"], "resultType": "complete"}),
            "modern",
        ),
        (
            "the server speaks only version …, which this client does not know",
            answering(modern, "initialize", lambda _: {"protocolVersion": "2020-01-01", "capabilities": {}}),
            "legacy",
        ),
        (
            "… has ended the session",
            answering(modern, "initialize", session),
            "legacy",
        ),
        (
            "the server's answer to … is malformed: …",
            answering(modern, "tools/list", lambda _: {"resultType": "complete", "tools": 5}),
            "auto",
        ),
        (
            "the server asks something that this client cannot answer: …",
            answering(modern, "tools/list", lambda _: {"resultType": "input_required", "inputRequests": ASKED}),
            "auto",
        ),
        (
            "the server's pages of … do not end: it sent one cursor twice",
            answering(modern, "tools/list", lambda _: {"resultType": "complete", "tools": [], "nextCursor": "x"}),
            "auto",
        ),
    ],
)
def test_a_server_that_misbehaves_is_reported_with_the_documented_text(text: str, script: Any, era: Any) -> None:
    async def main() -> None:
        async with scripted(script) as url, Client(url, era=era, timeout=5) as client:
            await client.list_tools()

    with pytest.raises(ClientError) as refused:
        asyncio.run(main())
    assert matches(text, str(refused.value))


@pytest.mark.parametrize(
    ("text", "reply"),
    [
        (
            "…: the connection ended before the reply came; if the server speaks HTTPS only, give https://127.0.0.1:…/mcp",
            b"",
        ),
        ("the reply is not valid HTTP: …", b"SSH-2.0-OpenSSH_9.7\r\n"),
        (
            "… speaks HTTPS only: give its https:// address",
            b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n",
        ),
        ("the head of the reply is too large…", b"HTTP/1.1 200 OK\r\nx: " + b"x" * 70_000),
        (
            "the reply is longer than … bytes",
            b"HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n" + b" " * 2_000_000,
        ),
        (
            "the server's answer to …: …",
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: " + b" " * 2_000_000,
        ),
    ],
)
def test_a_peer_that_is_no_mcp_server_is_reported_with_the_documented_text(text: str, reply: bytes) -> None:
    async def main() -> None:
        async with sending(reply) as url, Client(url, era="modern", message_bytes=1_000_000):
            pytest.fail("it connected")

    with pytest.raises(ClientError) as refused:
        asyncio.run(main())
    assert matches(text, str(refused.value))


@contextlib.asynccontextmanager
async def sending(data: bytes) -> AsyncIterator[str]:
    """Run a server that sends these bytes to every client and disconnects; give its URL."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(data)
            await writer.drain()
        writer.close()

    listener = socket.create_server(("127.0.0.1", 0))
    async with await asyncio.start_server(serve, sock=listener):
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/mcp"


def test_a_server_that_does_not_answer_is_reported_with_the_documented_text() -> None:
    async def script(request: Request) -> Reply:
        await asyncio.Event().wait()
        raise AssertionError

    async def main() -> None:
        async with scripted(script) as url, Client(url, era="modern", timeout=0.05):
            pytest.fail("it answered")

    with pytest.raises(ClientError) as refused:
        asyncio.run(main())
    assert matches("the server did not answer … in … seconds", str(refused.value))
