"""A server that takes the tokens of an identity provider, and calls of it that show what a caller is told."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

from portway import Context, OAuth, Server
from portway.http.http_client import HttpClient
from portway.transport.configured_app import configured_app
from tests.oauth.key_publisher import KeyPublisher
from tests.transport.http_client import MODERN, envelope, post, served

RESOURCE = "https://mcp.example.com/mcp"
METADATA = "https://mcp.example.com/.well-known/oauth-protected-resource/mcp"


def in_seconds(seconds: int) -> int:
    return int(time.time()) + seconds


def make_server(*providers: KeyPublisher | str, **settings: Any) -> Server:
    audience = settings.pop("audience", RESOURCE)
    page_size = settings.pop("page_size", None)
    issuers = [each if isinstance(each, str) else each.url for each in providers]
    server = Server("vault", page_size=page_size, auth=[OAuth(each, audience, **settings) for each in issuers])

    @server.tool
    async def whoami(ctx: Context) -> str:
        return f"{ctx.caller.subject} {ctx.caller.client} {' '.join(sorted(ctx.caller.scopes))}".strip()

    @server.tool(scopes=["read", "write"])
    async def move() -> str:
        return "moved"

    return server


async def call(client: HttpClient, token: str, tool: str = "whoami") -> tuple[int, str, dict[bytes, bytes]]:
    headers = {"mcp_protocol_version": MODERN, "mcp_method": "tools/call", "mcp_name": tool}
    if token:
        headers["authorization"] = f"Bearer {token}"
    response = await post(client, envelope("tools/call", {"name": tool, "arguments": {}}), **headers)
    body = json.loads(await response.read(99_999))
    text = body["result"]["content"][0]["text"] if "result" in body else body["error"]["message"]
    return response.status, text, dict(response.headers)


def scenario(server: Server, steps: Callable[[HttpClient], Awaitable[None]]) -> None:
    async def run(_: str, client: HttpClient) -> None:
        await steps(client)

    served(run, configured_app(server))
