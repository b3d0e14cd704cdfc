"""Real clients log in at a real identity provider, and call apps through the gate: ours, FastMCP's, an Express one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest
from joserfc.jwk import import_key

from tests.clients.logins.driven import logging_in
from tests.clients.test_frameworks import PACKAGES1
from tests.clients.test_logins import CLIENTS, VAULT, posted
from tests.host.running_host import Host, host
from tests.oauth.providers import Provider, provider
from tests.support import eventually

pytestmark = [pytest.mark.clients, pytest.mark.install]

FASTMCP = """
from fastmcp import FastMCP

mcp = FastMCP("foreign")


@mcp.tool
def look() -> str:
    return "seen"


@mcp.tool
def fill() -> str:
    return "filled"
"""
OWN_LOGIN = """
import os

from fastmcp import FastMCP
from fastmcp.server.auth import JWTVerifier, RemoteAuthProvider
from fastmcp.server.dependencies import get_access_token

URL = os.environ["RENDER_EXTERNAL_URL"]
checks = JWTVerifier(public_key={key!r}, issuer={issuer!r}, audience=URL + "/mcp", required_scopes=["read"])
mcp = FastMCP("own", auth=RemoteAuthProvider(checks, [{issuer!r}], URL))


@mcp.tool
def look() -> str:
    return get_access_token().claims["sub"]
"""
PROXY = """
import os

os.environ["FASTMCP_HOME"] = os.environ["PORTWAY_STORAGE"]

from fastmcp import FastMCP
from fastmcp.server.auth import JWTVerifier, OAuthProxy
from fastmcp.server.dependencies import get_access_token
from mcp.server.auth import routes

routes.validate_issuer_url = lambda _: None  # without TLS, it takes localhost alone, and no name below
URL = os.environ["RENDER_EXTERNAL_URL"]
ISSUER = {issuer!r}
checks = JWTVerifier(jwks_uri=ISSUER + "/jwks", issuer=ISSUER, audience=URL + "/mcp", required_scopes=["read"])
proxy = OAuthProxy(
    upstream_authorization_endpoint=ISSUER + "/auth",
    upstream_token_endpoint=ISSUER + "/token",
    upstream_client_id={client!r},
    upstream_client_secret={secret!r},
    token_verifier=checks,
    base_url=URL,
)
mcp = FastMCP("proxy", auth=proxy)


@mcp.tool
def look() -> str:
    return get_access_token().claims["sub"]
"""
EXPRESS = """
import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import { StreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/streamableHttp.js";
import express from "express";

const app = express();
app.post("/mcp", express.json(), async (request, response) => {
  const server = new McpServer({ name: "express", version: "1" });
  for (const [name, text] of [["look", "seen"], ["fill", "filled"]])
    server.registerTool(name, {}, async () => ({ content: [{ type: "text", text }] }));
  const transport = new StreamableHTTPServerTransport({ sessionIdGenerator: undefined });
  await server.connect(transport);
  await transport.handleRequest(request, response, request.body);
});
app.listen(process.env.PORT);
"""
BLUEPRINT = """
services:
  - type: web
    name: {name}
    runtime: {runtime}
    x-portway:
      policies:
        - {{tool: look, scopes: [read]}}
        - {{tool: fill, scopes: [read, write]}}
"""


@pytest.fixture(scope="module")
def login() -> Iterator[Provider]:
    with provider() as running:
        yield running


@pytest.fixture(scope="module")
def running(login: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A host whose apps `vault`, `foreign` and `express` take the tokens of the provider."""
    folder = tmp_path_factory.mktemp("apps")
    package = json.dumps({"type": "module", "dependencies": PACKAGES1})
    foreign = BLUEPRINT.format(name="foreign", runtime="python")
    express = BLUEPRINT.format(name="express", runtime="node")
    files = {
        "vault": {"server.py": VAULT},
        "foreign": {"server.py": FASTMCP, "requirements.txt": "fastmcp>=4.1", "render.yaml": foreign},
        "express": {"package.json": package, "server.js": EXPRESS, "render.yaml": express},
    }
    with host(folder / "data", options=("--auth-issuer", login.issuer, "--auth-scopes", "read")) as started:
        for app, content in files.items():
            (folder / app).mkdir()
            for name, text in content.items():
                (folder / app / name).write_text(text)
            started.deploy(folder / app, app)
        yield started


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("app", ["vault", "foreign", "express"])
def test_a_client_logs_in_steps_up_and_calls_an_app(app: str, client: str, running: Host, login: Provider) -> None:
    url = f"{running.ready['url']}/{app}/mcp"
    with logging_in(client, url=url) as caller:
        assert caller.call("look") == (f"ada of {login.issuer}" if app == "vault" else "seen")
        assert login.seen("authorization_code")[-1]["resource"] == url
        assert caller.call("fill") == "filled"


@pytest.mark.parametrize("client", ["python", "typescript"])
def test_expired_tokens_rotated_keys_and_a_provider_that_is_down_end_nobodys_work(
    client: str, running: Host, login: Provider
) -> None:
    url = f"{running.ready['url']}/vault/mcp"
    login.tell("set", behind=28)  # the gate takes it for two more seconds
    try:
        with logging_in(client, url=url) as caller:
            assert caller.call("look") == f"ada of {login.issuer}"
            login.tell("set", behind=0)
            before = login.tell("seen")
            eventually(lambda: caller.call("look") and login.tell("seen") != before)
            login.tell("rotate")
            token = login.machine_token(url)
            login.tell("down")
            assert caller.call("look") == f"ada of {login.issuer}"
            assert posted(url, token) in (401, 503)  # its key is not known yet
            login.tell("up")
            eventually(lambda: posted(url, token) == 200)
            with logging_in(client, url=url) as other:
                assert other.call("fill") == "filled"
    finally:
        login.tell("set", behind=0)


def test_a_server_with_a_login_of_its_own_logs_clients_in_through_the_gate(
    running: Host, login: Provider, tmp_path: Path
) -> None:
    published = httpx2.get(f"{login.issuer}/jwks").json()["keys"][0]
    key = import_key(published).as_pem(private=False).decode()
    (tmp_path / "server.py").write_text(OWN_LOGIN.format(key=key, issuer=login.issuer))
    (tmp_path / "requirements.txt").write_text("fastmcp>=4.1")
    running.deploy(tmp_path, "own", access="app")
    url = f"http://own.localhost:{urlsplit(running.ready['url']).port}/mcp"
    with logging_in("python", url=url) as caller:
        assert caller.call("look") == "ada"
    assert login.seen("authorization_code")[-1]["resource"] == url


def test_a_server_that_is_an_authorization_server_logs_clients_in_through_the_gate(
    login: Provider, tmp_path: Path
) -> None:
    # It asks the provider, which is on this machine, for tokens: from behind a wall it could not.
    with host(tmp_path / "data", options=["--trust-all-apps"], walls=False) as running:
        port = urlsplit(running.ready["url"]).port
        asked = {"redirect_uris": [f"http://proxy.localhost:{port}/auth/callback"]}
        asked |= {"token_endpoint_auth_method": "client_secret_basic"}
        known = httpx2.post(f"{login.issuer}/reg", json=asked).raise_for_status().json()
        (tmp_path / "app").mkdir()
        text = PROXY.format(issuer=login.issuer, client=known["client_id"], secret=known["client_secret"])
        (tmp_path / "app" / "server.py").write_text(text)
        (tmp_path / "app" / "requirements.txt").write_text("fastmcp>=4.1")
        deploy = ["deploy", tmp_path / "app", "--name", "proxy", "--access", "app", "--storage", "1"]
        assert running.portway(*deploy).returncode == 0
        for client in ("portway", "python"):
            with logging_in(client, url=f"http://proxy.localhost:{port}/mcp") as caller:
                assert caller.call("look") == "ada"
                assert running.portway(*deploy).returncode == 0
                assert caller.call("look") == "ada", "it has kept the login"
        assert [each["client"] for each in login.seen("authorization_code")][-2:] == [known["client_id"]] * 2
