"""The official Python client logs in and calls: `python_client.py JSON`, with the arguments of `login`.

With `command` and `env` it speaks over stdio to a program that logs in for it, such as mcp-remote.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from pathlib import Path
from typing import Any

import httpx2
from mcp import Client, StdioServerParameters, stdio_client
from mcp.client.auth import OAuthClientProvider
from mcp.client.auth.extensions.client_credentials import ClientCredentialsOAuthProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import AuthorizationCodeResult, OAuthClientInformationFull, OAuthClientMetadata, OAuthToken

sys.path.insert(0, str(Path(__file__).parents[3]))

from tests.clients.logins.lines import answer_lines
from tests.oauth.browse import answer_of, logged_in, look_up

BACK = "http://localhost:3030/callback"
socket.getaddrinfo = look_up


class Kept:
    """Where the client keeps what it got; it may be known to the provider already."""

    def __init__(self, client_id: str, issuer: str) -> None:
        self.tokens: OAuthToken | None = None
        known = {
            "client_id": client_id,
            "redirect_uris": [BACK],
            "token_endpoint_auth_method": "none",
            "issuer": issuer,
        }
        self.client = OAuthClientInformationFull.model_validate(known) if client_id else None

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self.client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self.client = client_info


def login(url: str, document: str = "", client_id: str = "", issuer: str = "", secret: str = "") -> OAuthClientProvider:
    """Return what logs in: by a browser or, with a secret, as a machine."""
    if secret:
        return ClientCredentialsOAuthProvider(url, Kept("", ""), client_id, secret, scope="read write", issuer=issuer)
    back: dict[str, str] = {}

    async def visit(address: str) -> None:
        back.clear()
        back.update(answer_of(await asyncio.to_thread(logged_in, address)))

    async def came_back() -> AuthorizationCodeResult:
        return AuthorizationCodeResult(code=back.get("code", ""), state=back.get("state"), iss=back.get("iss"))

    about = {
        "client_name": "A test",
        "redirect_uris": [BACK],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": "none",
    }
    metadata = OAuthClientMetadata.model_validate(about)
    return OAuthClientProvider(url, metadata, Kept(client_id, issuer), visit, came_back, document or None)


async def drive(client: Client) -> None:
    async def call(tool: str) -> str:
        result = await client.call_tool(tool, {})
        return str(result.content[0].text)  # type: ignore[union-attr]

    await answer_lines(call)


async def main(given: dict[str, Any]) -> None:
    if "command" in given:
        program = StdioServerParameters(command=given["command"][0], args=given["command"][1:], env=given["env"])
        async with Client(stdio_client(program)) as client:
            await drive(client)
        return
    async with (
        httpx2.AsyncClient(auth=login(**given), timeout=120) as http,
        Client(streamable_http_client(given["url"], http_client=http)) as client,
    ):
        await drive(client)


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
