"""A scripted MCP server that is protected by OAuth, and its provider, both at one address."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from tests.client.scripted_server import Reply, Request, scripted

METADATA = "/.well-known/oauth-protected-resource/mcp"
PROVIDER = "/.well-known/oauth-authorization-server"
CODE, SECRET = "a-planted-code", "a-planted-secret"


class Protected:
    """Each token that the provider gives is another one; the server takes only the newest, with the scopes of `needs`.

    A test changes what is answered: `resource` and `provider` are members of the metadata (None takes one out),
    `answers` whole answers by path, `response` the fields by which the browser comes back.
    """

    def __init__(self) -> None:
        self.url = self.origin = ""
        self.requests: list[Request] = []
        self.given = 0  # tokens so far
        self.scopes: set[str] = set()  # of the newest token
        self.needs: set[str] = set()
        self.gives = True  # the scopes that are asked for
        self.takes = ""  # a refresh token besides the newest
        self.expires_in: int | None = 3600
        self.resource: dict[str, Any] = {}
        self.provider: dict[str, Any] = {}
        self.answers: dict[str, Reply] = {}
        self.response: dict[str, str | None] = {}
        self.challenge: str | None = None
        self.is_open = False
        self.ending: int | None = None  # how many streams of changes end with their token; None: there are none

    async def __call__(self, request: Request) -> Reply:
        self.requests.append(request)
        path = urlsplit(request.target).path
        if path in self.answers:
            return self.answers[path]
        if path == "/mcp":
            return self._call(request)
        if path == METADATA:
            return Reply(known({"resource": self.url, "authorization_servers": [self.origin]} | self.resource))
        if path == PROVIDER:
            return Reply(known(self._about() | self.provider))
        if path == "/authorize":
            return Reply({}, 302, {"location": await self.visit(request.target)})
        if path == "/register":
            return Reply({"client_id": f"client-{self.count('/register')}"}, 201)
        if path == "/token":
            return self._token(request)
        return Reply({}, 200 if path == "/revoke" else 404)

    def count(self, path: str, **fields: str) -> int:
        """Return how often `path` was asked for with these fields."""
        found = [each.message for each in self.requests if urlsplit(each.target).path == path]
        return sum(fields.items() <= message.items() for message in found)

    async def visit(self, page: str) -> str:
        """Stand for the user and the browser."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(page).query).items()}
        self.scopes = set(asked.get("scope", "").split()) if self.gives else set()
        fields = known({"code": CODE, "state": asked["state"], "iss": self.origin} | self.response)
        return f"{asked['redirect_uri']}?{urlencode(fields)}"

    def _about(self) -> dict[str, Any]:
        return {
            "issuer": self.origin,
            "authorization_endpoint": f"{self.origin}/authorize",
            "token_endpoint": f"{self.origin}/token",
            "registration_endpoint": f"{self.origin}/register",
            "revocation_endpoint": f"{self.origin}/revoke",
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": ["none", "client_secret_basic"],
            "authorization_response_iss_parameter_supported": True,
        }

    def _token(self, request: Request) -> Reply:
        is_new = request.message["grant_type"] == "authorization_code" and request.message["code"] == CODE
        if not is_new and request.message.get("refresh_token") not in (f"refresh-{self.given}", self.takes):
            return Reply({"error": "invalid_grant"}, 400)
        self.takes = ""
        self.given += 1
        answer = {"access_token": f"access-{self.given}", "token_type": "Bearer", "expires_in": self.expires_in}
        return Reply(answer | {"refresh_token": f"refresh-{self.given}"})

    def _call(self, request: Request) -> Reply:
        named = f'resource_metadata="{self.origin}{METADATA}"' if self.challenge is None else self.challenge
        if not self.is_open and request.headers.get("authorization") != f"Bearer access-{self.given}":
            return Reply({}, 401, {"www-authenticate": f"Bearer {named}".rstrip(" ,")})
        message, result = request.message, {"resultType": "complete"}
        if message["method"] == "server/discover":
            tools = {"listChanged": self.ending is not None}
            result |= {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": tools}, "ttlMs": 0}
        elif message["method"] == "subscriptions/listen":
            return self._listen(message)
        elif missing := self.needs - self.scopes:
            scope = f'error="insufficient_scope", scope="{" ".join(missing)}", '
            return Reply({}, 403, {"www-authenticate": f"Bearer {scope}{named}"})
        else:
            result |= {"tools": [], "ttlMs": 0, "cacheScope": "private"}
        return Reply({"jsonrpc": "2.0", "id": message["id"], "result": result})

    def _listen(self, message: dict[str, Any]) -> Reply:
        meta = {"io.modelcontextprotocol/subscriptionId": message["id"]}
        acknowledged = {"method": "notifications/subscriptions/acknowledged", "params": {"_meta": meta}}
        if not self.ending:
            return Reply([{"jsonrpc": "2.0", **acknowledged}, None])
        self.ending -= 1
        self.takes = f"refresh-{self.given}"
        self.given += 1
        return Reply([{"jsonrpc": "2.0", **each} for each in (acknowledged, {"id": message["id"], "result": {}})])


def known(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


@asynccontextmanager
async def protected() -> AsyncIterator[Protected]:
    """Serve such a server while the block lasts."""
    server = Protected()
    async with scripted(server) as url:
        server.url = url
        server.origin = url.removesuffix("/mcp")
        yield server
