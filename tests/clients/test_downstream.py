"""A tool calls another server for its caller, with a token that a real identity provider gives in exchange."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.test_logins import vault_alone
from tests.conftest import RunCli
from tests.oauth.providers import Provider, provider
from tests.support import SCRIPTS, started

pytestmark = pytest.mark.clients

SHOP = """
from portway import Context, DownstreamError, Server
from portway.client import Client
from portway.protocol.errors import RpcError

server = Server("shop")


@server.tool
async def buy(ctx: Context, vault: str, audience: str, scope: str, tool: str) -> str:
    try:
        async with Client(vault, token=await ctx.token_for(audience, [scope])) as client:
            return (await client.call_tool(tool)).text
    except (DownstreamError, RpcError) as error:
        return str(error)
"""


@contextlib.contextmanager
def shop_alone(folder: Path, issuer: str) -> Iterator[str]:
    """Serve the shop while the block lasts; give its URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://localhost:{port}/mcp"
    (folder / "shop.py").write_text(SHOP)
    env = {
        "PORTWAY_AUTH_ISSUER": issuer,
        "PORTWAY_AUTH_AUDIENCE": url,
        "PORTWAY_AUTH_CLIENT_ID": "a shop",
        "PORTWAY_AUTH_CLIENT_SECRET": "of:a/shop+%",
        "PORTWAY_AUTH_DOWNSTREAM": "exchange",
    }
    command = (SCRIPTS / "portway", "run", folder / "shop.py", "--transport", "http", "--port", str(port))
    with started(*command, env=env, ready=r"shop on http"):
        yield url


@pytest.fixture(scope="module")
def real() -> Iterator[Provider]:
    with provider() as running:
        yield running


def test_the_token_of_a_caller_is_exchanged_for_one_that_the_other_server_takes(
    tmp_path: Path, real: Provider, run_cli: RunCli
) -> None:
    with vault_alone(tmp_path, real.issuer) as vault, shop_alone(tmp_path, real.issuer) as shop:
        token = real.machine_token(shop)

        def buy(tool: str, audience: str = vault, scope: str = "read") -> str:
            arguments = (f"vault={vault}", f"audience={audience}", f"scope={scope}", f"tool={tool}")
            return run_cli("call", shop, "buy", *arguments, "--token", token).stdout.strip()

        assert buy("look") == f"machine of {real.issuer}"
        assert buy("fill") == "The token lacks a scope this needs: write.", "it has those that were asked for"
        assert buy("look") == f"machine of {real.issuer}"
        refused = "the provider answers invalid_target: register the audience at the provider"
        assert refused in buy("look", "https://elsewhere.example")
    exchanges = [each for each in real.tell("seen") if each["what"].endswith(":token-exchange")]
    assert [(each["client"], each["resource"]) for each in exchanges] == [("a shop", vault)]
