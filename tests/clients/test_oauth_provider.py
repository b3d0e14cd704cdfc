"""A server that takes the tokens of a real identity provider, and the official client that gets them there."""

from __future__ import annotations

import asyncio
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from mcp import Client
from mcp.client.auth.extensions.client_credentials import ClientCredentialsOAuthProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import OAuthClientInformationFull, OAuthToken

from tests.support import ROOT, SCRIPTS, clean_env, started

NODE = ROOT / "tests" / "node"
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


class Kept:
    """Where the official client keeps what it got."""

    def __init__(self) -> None:
        self.tokens: OAuthToken | None = None

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return None

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        pass


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Serve the vault for a provider's tokens; yield its URL and the provider's."""
    if not (NODE / "node_modules").exists():
        pytest.skip("tests/node/node_modules is missing: run `make test-all`")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://localhost:{port}/mcp"
    (tmp_path / "vault.py").write_text(VAULT)
    found = subprocess.run(["node", "--print", "process.execPath"], env=clean_env(), capture_output=True, check=True)
    node = found.stdout.decode().strip()  # "node" may be a wrapper, which is not what a signal should end
    with started(node, "provider.mjs", url, ready=r"(http://localhost:\d+)$", cwd=NODE) as provider:
        assert provider.match
        issuer = provider.match[1]
        command = (SCRIPTS / "portway", "run", tmp_path / "vault.py", "--transport", "http", "--port", str(port))
        auth = ("--auth-issuer", issuer, "--auth-audience", url, "--auth-scopes", "read")
        with started(*command, *auth, ready=r"vault on http"):
            yield url, issuer


async def call(url: str, tool: str, kept: Kept, issuer: str) -> str:
    login = ClientCredentialsOAuthProvider(url, kept, "machine", "machine-secret", scope="read write", issuer=issuer)
    async with httpx2.AsyncClient(auth=login) as http, Client(streamable_http_client(url, http_client=http)) as client:
        result = await client.call_tool(tool, {})
        assert not result.is_error
        return str(result.content[0].text)  # type: ignore[union-attr]


@pytest.mark.slow
def test_the_official_client_finds_the_provider_gets_a_token_and_calls(vault: tuple[str, str]) -> None:
    url, issuer = vault
    kept = Kept()
    assert asyncio.run(call(url, "look", kept, issuer)) == f"machine of {issuer}"
    assert asyncio.run(call(url, "fill", kept, issuer)) == "filled"
    assert kept.tokens is not None
    answer = httpx2.post(url, json={}, headers={"authorization": f"Bearer {kept.tokens.access_token}x"})
    assert answer.status_code == 401
