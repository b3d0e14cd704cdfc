"""Real clients log in at real identity providers, and call a server alone by what they got."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx2
import pytest

from tests.clients.logins.driven import BROWSER, logging_in
from tests.conftest import RunCli
from tests.oauth.providers import Provider, node_program, provider
from tests.support import SCRIPTS, eventually, started
from tests.tls.certificates import write_pair

pytestmark = pytest.mark.clients

REFRESH = ["portway", "typescript", "mcp-remote"]  # after a 401; the others log in again
CLIENTS = ["portway", "python", "typescript", "mcp-remote", "fastmcp4", "fastmcp3"]
VAULT = """
from portway import Context, Server

server = Server("vault")


@server.tool(scopes=["read"])
def look(ctx: Context) -> str:
    return f"{ctx.caller.subject} of {ctx.caller.issuer}"


@server.tool(scopes=["read", "write"])
def fill() -> str:
    return "filled"
"""


@contextlib.contextmanager
def vault_alone(folder: Path, issuer: str) -> Iterator[str]:
    """Serve the vault for the tokens of an issuer while the block lasts; give its URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://localhost:{port}/mcp"
    (folder / "vault.py").write_text(VAULT)
    command = (SCRIPTS / "portway", "run", folder / "vault.py", "--transport", "http", "--port", str(port))
    auth = ("--auth-issuer", issuer, "--auth-audience", url, "--auth-scopes", "read")
    with started(*command, *auth, ready=r"vault on http"):
        yield url


def posted(url: str, token: str) -> int:
    """Return the status of a list of the tools."""
    headers = {"accept": "application/json, text/event-stream", "mcp-protocol-version": "2025-11-25"}
    if token:
        headers["authorization"] = f"Bearer {token}"
    return httpx2.post(url, json={"jsonrpc": "2.0", "id": 1, "method": "ping"}, headers=headers).status_code


@contextlib.contextmanager
def client_document(certificate: Path, key: Path) -> Iterator[str]:
    """Serve a client's metadata document by https; give its URL."""
    url = ""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the name that http.server wants
            paths = ("callback", "oauth/callback")
            content = {
                "client_id": url,
                "client_name": "A test",
                "redirect_uris": [f"http://{host}/{path}" for host in ("localhost", "127.0.0.1") for path in paths],
                "token_endpoint_auth_method": "none",
                "grant_types": ["authorization_code", "refresh_token"],
                "application_type": "native",
            }
            body = json.dumps(content).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate, key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        serving = threading.Thread(target=server.serve_forever, args=(0.05,))
        serving.start()
        url = f"https://localhost:{server.server_port}/client.json"
        yield url
        server.shutdown()
        serving.join()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_pair(tmp_path_factory.mktemp("certificate"), "localhost")


@pytest.fixture(scope="module")
def document(certificate: tuple[Path, Path]) -> Iterator[str]:
    with client_document(*certificate) as url:
        yield url


@pytest.fixture(scope="module")
def login(certificate: tuple[Path, Path]) -> Iterator[Provider]:
    with provider(authority=certificate[0]) as running:
        yield running


@pytest.fixture(scope="module")
def vault(login: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with vault_alone(tmp_path_factory.mktemp("vault"), login.issuer) as url:
        yield url


@pytest.fixture(scope="module")
def simple(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Provider]]:
    """The vault for the tokens of the simple provider: its URL, and that provider."""
    folder = tmp_path_factory.mktemp("vault")
    with provider("simple_provider.mjs") as login, vault_alone(folder, login.issuer) as url:
        yield url, login


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_finds_the_provider_registers_logs_in_and_steps_up(client: str, vault: str, login: Provider) -> None:
    before = {what: len(login.seen(what)) for what in ("registration", "authorization_code")}
    with logging_in(client, url=vault) as caller:
        assert caller.call("look") == f"ada of {login.issuer}"
        granted = login.seen("authorization_code")[before["authorization_code"] :]
        assert [each["resource"] for each in granted] == [vault]
        assert caller.call("fill") == "filled"
        assert caller.call("look") == f"ada of {login.issuer}"
    assert len(login.seen("registration")) == before["registration"] + 1
    assert len(login.seen("authorization_code")) == before["authorization_code"] + 2


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_with_a_metadata_document_does_not_register(
    client: str, vault: str, login: Provider, document: str
) -> None:
    before = len(login.seen("registration"))
    with logging_in(client, url=vault, document=document) as caller:
        assert caller.call("look") == f"ada of {login.issuer}"
    assert len(login.seen("registration")) == before
    assert login.seen("authorization_code")[-1]["client"] == document


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_whose_token_has_expired_gets_another_one_and_goes_on(
    client: str, vault: str, login: Provider
) -> None:
    login.tell("set", behind=28)  # the server takes it for two more seconds
    try:
        with logging_in(client, url=vault) as caller:
            assert caller.call("look") == f"ada of {login.issuer}"
            login.tell("set", behind=0)
            before = login.tell("seen")
            eventually(lambda: caller.call("look") and login.tell("seen") != before)
            assert login.tell("seen")[-1]["what"] == ("refresh_token" if client in REFRESH else "authorization_code")
    finally:
        login.tell("set", behind=0)


@pytest.mark.parametrize("client", ["portway", "python", "fastmcp4"])
def test_a_client_that_knows_when_its_token_ends_refreshes_it(client: str, vault: str, login: Provider) -> None:
    login.tell("set", seconds=1)
    try:
        with logging_in(client, url=vault) as caller:
            assert caller.call("look") == f"ada of {login.issuer}"
            before = len(login.seen("refresh_token"))
            eventually(lambda: caller.call("look") and len(login.seen("refresh_token")) >= before + 2)
    finally:
        login.tell("set", seconds=300)


def test_the_command_line_logs_in_calls_and_takes_the_login_back(
    vault: str, login: Provider, tmp_path: Path, run_cli: RunCli
) -> None:
    env = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path), "BROWSER": BROWSER}
    told = run_cli("login", vault, env=env)
    assert told.stderr.endswith(f"logged in at {vault} by {login.issuer}, with offline_access read\n")
    assert run_cli("call", vault, "look", env=env).stdout == f"ada of {login.issuer}\n"
    assert f"run `portway login {vault} --scope read --scope write`" in run_cli("call", vault, "fill", env=env).stderr
    assert run_cli("login", vault, "--scope", "write", env=env).returncode == 0
    assert run_cli("call", vault, "fill", env=env).stdout == "filled\n"
    (kept,) = tmp_path.glob("portway/logins/*.json")
    stored = json.loads(kept.read_text())["login"]
    assert run_cli("logout", vault, env=env).returncode == 0
    known = {"grant_type": "refresh_token", "client_id": stored["client"]["client_id"]}
    refused = httpx2.post(f"{login.issuer}/token", data=known | {"refresh_token": stored["refresh_token"]})
    assert refused.json()["error"] == "invalid_grant"


def test_a_machine_logs_in_without_a_user(vault: str, login: Provider) -> None:
    with logging_in("python", url=vault, client_id="machine", secret="machine-secret", issuer=login.issuer) as caller:
        assert caller.call("look") == f"machine of {login.issuer}"
        assert caller.call("fill") == "filled"


def test_a_person_logs_in_by_chromium(vault: str, login: Provider) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is missing: run `.ci/run`, which installs it")
    browser = f"{node_program()} chromium_login.mjs {chromium} %s"
    with logging_in("typescript", browser, url=vault) as caller:
        assert caller.call("look") == f"ada of {login.issuer}"


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_that_a_simple_provider_knows_logs_in_there(client: str, simple: tuple[str, Provider]) -> None:
    url, login = simple
    with logging_in(client, url=url, client_id="known", issuer=login.issuer) as caller:
        assert caller.call("look") == f"johndoe of {login.issuer}"
        assert caller.call("fill") == "filled"
    assert login.seen("authorization_code")[-1] == {"what": "authorization_code", "client": "known", "resource": url}


def test_keys_that_rotate_and_a_provider_that_is_down_end_nobodys_work(tmp_path: Path) -> None:
    with provider() as login, vault_alone(tmp_path, login.issuer) as url, logging_in("python", url=url) as early:
        assert early.call("look") == f"ada of {login.issuer}"
        login.tell("rotate")
        assert early.call("look") == f"ada of {login.issuer}"
        login.tell("down")
        assert early.call("look") == f"ada of {login.issuer}"
        login.tell("up")
        token = login.machine_token(url)
        # Keys are fetched every ten seconds at most.
        eventually(lambda: posted(url, token) == 200)
        with logging_in("typescript", url=url) as late:
            assert late.call("look") == f"ada of {login.issuer}"
        assert early.call("look") == f"ada of {login.issuer}"
        login.tell("rotate", forget=True)  # nothing is signed by the first two keys any more


def test_a_server_that_starts_while_its_provider_is_down_says_so_and_serves_later(tmp_path: Path) -> None:
    with provider() as login, vault_alone(tmp_path, login.issuer) as url:
        token = login.machine_token(url)
        login.tell("down")
        assert posted(url, "") == 401
        refused = httpx2.post(url, json={}, headers={"authorization": f"Bearer {token}"})
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "30")
        with logging_in("python", url=url) as caller:
            assert "error" in caller.ask("look")
        login.tell("up")
        eventually(lambda: posted(url, token) == 200)
        with logging_in("python", url=url) as caller:
            assert caller.call("look") == f"ada of {login.issuer}"


def test_check_finds_that_every_known_client_comes_to_the_browser_there(
    run_cli: RunCli, vault: str, login: Provider
) -> None:
    before = login.seen("registration")
    done = run_cli("check", vault, "--auth", "-o", "json")
    report = json.loads(done.stdout)
    assert (done.returncode, report["findings"]) == (0, [])
    assert {each["issuer"] for each in report["clients"]} == {login.issuer}
    ways = {each["client"]: each["way"] for each in report["clients"]}
    assert (ways.pop("Cursor"), {*ways.values()}) == ("registration", {"document"})
    assert login.seen("registration") == before, "nothing is left at the provider"
