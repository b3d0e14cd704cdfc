"""What the command line says of a host elsewhere that cannot be reached, is none, or is of another version."""

from __future__ import annotations

import contextlib
import json
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import RunCli
from tests.tls.certificates import write_pair

TOKEN = "pwu_" + "a" * 43


class Stub(ThreadingHTTPServer):
    """An HTTP server that gives the same answer to every request of a method, and keeps what it was asked."""

    def __init__(self, answers: dict[str, tuple[int, Any]], headers: dict[str, str] | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers, self.headers = answers, headers or {}
        self.asked: list[dict[str, str]] = []
        self.url = f"http://127.0.0.1:{self.server_port}"

    @contextlib.contextmanager
    def serving(self) -> Iterator[Stub]:
        thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield self
        finally:
            self.shutdown()
            thread.join()
            self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: Stub

    def do_GET(self) -> None:
        self.answer("GET", 0)

    def do_POST(self) -> None:
        call = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.answer(call["method"], call.get("id"))

    def answer(self, method: str, number: object) -> None:
        self.server.asked.append(dict(self.headers))
        status, answer = self.server.answers.get(method, self.server.answers.get("*", (404, {})))
        if not status:
            self.close_connection = True
            return
        body = json.dumps({"jsonrpc": "2.0", "id": number} | answer if method != "GET" else answer).encode()
        self.send_response(status)
        for name, value in ({"Content-Type": "application/json"} | self.server.headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def ps(run_cli: RunCli, home: Path, url: str, **more: str) -> str:
    """Return what `portway ps` says, which must fail."""
    given = {"HOME": str(home), "XDG_CONFIG_HOME": str(home), "PORTWAY_HOST": url, "PORTWAY_TOKEN": TOKEN, **more}
    done = run_cli("ps", env=given)
    assert (done.returncode, done.stdout) == (1, "")
    assert TOKEN not in done.stderr
    return done.stderr


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (
            401,
            "Error: {url} does not know the token: it is mistyped, or was revoked; `portway login {url}` takes",
        ),
        (
            404,
            "Error: there is no Portway host at {url}, or an old one, which is managed on its own",
        ),
        (503, "Error: {url} did not answer ("),
        (0, "Error: {url} did not answer ("),
    ],
)
def test_an_answer_that_is_none_is_said_in_one_sentence(
    status: int, told: str, run_cli: RunCli, tmp_path: Path
) -> None:
    with Stub({"*": (status, {})}).serving() as stub:
        said = ps(run_cli, tmp_path, stub.url)
    assert said.startswith(told.format(url=stub.url))
    assert status or said.endswith("): try again in a moment\n")
    assert len(said.splitlines()) == 1


def test_a_redirect_to_another_host_or_scheme_is_told_and_not_followed(run_cli: RunCli, tmp_path: Path) -> None:
    with Stub({"*": (200, {})}).serving() as other:
        for place in (f"{other.url}/_portway/mcp", "https://127.0.0.1:{port}/_portway/mcp"):
            stub = Stub({"*": (308, {})})
            stub.headers["Location"] = address = place.format(port=stub.server_port)
            with stub.serving():
                assert f"redirects to {address}: give that address instead" in ps(run_cli, tmp_path, stub.url)
                assert len([each for each in stub.asked if "authorization" in each]) == 1
    assert other.asked == []


def test_a_certificate_must_be_trusted_and_the_file_of_its_authority_makes_it_so(
    run_cli: RunCli, tmp_path: Path
) -> None:
    stub = Stub({"*": (401, {})})
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*(pair := write_pair(tmp_path / "pair", "localhost")))
    stub.socket = context.wrap_socket(stub.socket, server_side=True)
    url = f"https://localhost:{stub.server_port}"
    with stub.serving():
        said = (
            "Error: the certificate of {} is not trusted (self-signed certificate): correct the address, or name "
            "the file of its authority in SSL_CERT_FILE\n"
        )
        assert ps(run_cli, tmp_path, url) == said.format(url)
        assert run_cli("call", f"{url}/mcp", "x").stderr == said.format(f"{url}/mcp")
        assert "does not know the token" in ps(run_cli, tmp_path, url, SSL_CERT_FILE=str(pair[0]))
    with Stub({"*": (401, {})}).serving() as plain:
        place = plain.url.removeprefix("http://")
        said = f"https://{place} does not speak TLS (WRONG_VERSION_NUMBER): try http://{place}, or another port"
        assert said in ps(run_cli, tmp_path, f"https://{place}")


def test_a_host_of_another_version_is_told_when_it_does_not_understand(run_cli: RunCli, tmp_path: Path) -> None:
    about = {"io.modelcontextprotocol/serverInfo": {"name": "portway-control", "version": "9.0.0"}}
    found = {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}, "resultType": "complete"}
    discovered = (200, {"result": found | {"_meta": about}})
    refused = (200, {"error": {"code": -32602, "message": "Unknown tool: list_apps"}})
    with Stub({"server/discover": discovered, "*": refused}).serving() as stub:
        said = ps(run_cli, tmp_path, stub.url)
    assert said.startswith("Error: Unknown tool: list_apps; the host has Portway 9.0.0, and this is ")
    assert said.endswith(": install the same version here\n")
    changed = (200, {"result": {"content": [], "structuredContent": {"apps": 1}, "resultType": "complete"}})
    with Stub({"server/discover": discovered, "*": changed}).serving() as stub:
        said = ps(run_cli, tmp_path, stub.url)
    assert said.startswith(f"Error: the answer of {stub.url} cannot be read; the host has Portway 9.0.0, and this is")
