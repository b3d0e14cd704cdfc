"""A host behind a proxy that serves HTTPS, whose app `vault` takes the tokens of a provider; and what clients send."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from portway.http.http_client import HttpClient
from portway.protocol.versions import LATEST_MODERN
from tests.host.running_host import Host, host
from tests.oauth.key_publisher import KeyPublisher, publishing
from tests.tls.free_ports import free_ports

BLUEPRINT = """
services:
  - type: web
    name: vault
    runtime: python
    rootDir: app
    domains: [vault.example.com]
    x-portway:
      policies: [{tool: guarded, scopes: [read, write]}]
  - {type: web, name: other, runtime: python, rootDir: app}
  - {type: web, name: closed, runtime: python, rootDir: app, x-portway: {auth: {enabled: false}}}
  - {type: web, name: inner, runtime: python, rootDir: app, x-portway: {auth: {issuer: "https://10.255.255.1"}}}
  - {type: web, name: cloud, runtime: python, rootDir: app, x-portway: {auth: {issuer: "https://169.254.169.254"}}}
"""
SERVER = """
import json
import os
import sys

from portway import Context, Server

server = Server("vault")


@server.tool(scopes=["read"])
def look(ctx: Context) -> str:
    return ctx.caller.subject


@server.tool(scopes=["read", "write"])
def fill() -> str:
    return "filled"


@server.tool
def guarded() -> str:
    return "guarded by the blueprint"


@server.tool
def told(ctx: Context) -> str:
    caller = ctx.caller
    about = [caller.issuer, caller.subject, caller.client, sorted(caller.scopes)]
    print("headers", dict(ctx.headers), dict(os.environ), file=sys.stderr, flush=True)
    return json.dumps({"caller": about, "headers": dict(ctx.headers), "environment": dict(os.environ)})


@server.tool
def broken(ctx: Context) -> str:
    raise ValueError(f"{dict(ctx.headers)} {ctx.caller!r}")


@server.resource("vault://gold", scopes=["read", "write"])
def gold() -> str:
    return "gold"


@server.prompt(scopes=["read", "write"])
def plan() -> str:
    return "plan"
"""
WELL_KNOWN = "/.well-known/oauth-protected-resource"
DOMAIN = "mcp.example.com"
BASE = {
    "x-forwarded-proto": "https",
    "x-forwarded-for": "203.0.113.7",
    "content-type": "application/json",
    "accept": "application/json, text/event-stream",
}
INFO = {"name": "matrix", "version": "1"}
ENVELOPE = {
    "io.modelcontextprotocol/protocolVersion": LATEST_MODERN,
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": INFO,
}


@dataclass(frozen=True)
class Place:
    """One of the addresses of the app: the Host header there, and the path of the endpoint."""

    name: str
    path: str

    @property
    def url(self) -> str:
        return f"https://{self.name}{self.path}"


@dataclass(frozen=True)
class Request:
    """A request at the endpoint of a place, or, with a `path`, elsewhere under its name; `needs` are its scopes."""

    method: str
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    path: str = ""
    needs: str = ""
    is_stream: bool = False

    def at(self, target: str) -> Request:
        return Request(self.method, self.body, self.headers, target, is_stream=self.is_stream)


@dataclass(frozen=True)
class Answer:
    status: int
    challenge: str
    session: str
    body: bytes

    def refused(self) -> set[int]:
        """Return the ids of a batch that got an error."""
        return {element["id"] for element in json.loads(self.body) if "error" in element}


def rpc(method: str, request_id: int | None = 1, **params: Any) -> dict[str, Any]:
    message = {"jsonrpc": "2.0", "method": method, "params": params}
    return message if request_id is None else message | {"id": request_id}


def opening(version: str) -> Request:
    return Request("POST", rpc("initialize", protocolVersion=version, capabilities={}, clientInfo=INFO))


def calling(tool: str, needs: str = "") -> Request:
    """Return a modern call of a tool without arguments."""
    headers = {"mcp-protocol-version": LATEST_MODERN, "mcp-method": "tools/call", "mcp-name": tool}
    return Request("POST", rpc("tools/call", name=tool, arguments={}, _meta=ENVELOPE), headers, needs=needs)


class Vault:
    """The host with the apps, the provider, and a client for each address, which says what it is told to."""

    def __init__(self, running: Host, port: int, provider: KeyPublisher) -> None:
        self.running, self.port, self.provider = running, port, provider
        names = {DOMAIN: "/vault/mcp", f"vault.{DOMAIN}": "/mcp", "vault.example.com": "/mcp"}
        self.places = [Place(name, path) for name, path in names.items()]
        self.clients = {name: HttpClient(f"http://127.0.0.1:{port}", name) for name in names}

    def token(self, scope: str = "read write", subject: str = "ada") -> str:
        return self.provider.token(self.places[0].url, scope=scope, sub=subject)

    def challenge(self, place: Place, error: str, scope: str) -> str:
        """Return the WWW-Authenticate that is expected at a place."""
        metadata = f"https://{place.name}{WELL_KNOWN}{place.path}"
        told = {"error": error, "scope": scope, "resource_metadata": metadata}
        return "Bearer " + ", ".join(f'{name}="{value}"' for name, value in told.items() if value)

    def named(self, app: str, scopes: str) -> str:
        options = ("token", "create", app, f"t{secrets.token_hex(4)}", "--scopes", scopes.replace(" ", ","))
        return self.running.portway(*options).stdout.split()[0]

    async def ask(self, place: Place, asked: Request, token: str = "", **headers: str) -> Answer:
        """Return the answer; of a stream that goes on, only its head."""
        sent = BASE | asked.headers | headers
        if token:
            sent["authorization"] = f"Bearer {token}"
        content = b"" if asked.body is None else json.dumps(asked.body).encode()
        fields = [(name.encode(), value.encode()) for name, value in sent.items()]
        response = await self.clients[place.name].request(asked.method, asked.path or place.path, fields, content)
        told = dict(response.headers)
        body = b""
        if asked.is_stream and response.status == 200:
            await response.close()
        else:
            body = await response.read(999_999)
        return Answer(
            response.status,
            told.get(b"www-authenticate", b"").decode(),
            told.get(b"mcp-session-id", b"").decode(),
            body,
        )

    async def session(self, place: Place, version: str, token: str) -> str:
        answer = await self.ask(place, opening(version), token)
        assert answer.status == 200
        return answer.session

    async def close(self) -> None:
        for client in self.clients.values():
            await client.close()


Steps = Callable[[Vault], Awaitable[None]]


@contextlib.contextmanager
def running_vault(folder: Path) -> Iterator[Callable[[Steps], None]]:
    """Run the host while the block lasts; give what runs steps with the vault."""
    (port,) = free_ports(1)
    (folder / "source" / "app").mkdir(parents=True)
    (folder / "source" / "app" / "server.py").write_text(SERVER)
    (folder / "source" / "render.yaml").write_text(BLUEPRINT)
    with publishing() as provider:
        public = ("--port", str(port), "--domain", DOMAIN, "--behind-proxy", "127.0.0.0/8")
        options = (*public, "--auth-issuer", provider.url, "--auth-scopes", "read")
        with host(folder / "data", [folder / "source"], options=options) as running:

            async def scenario(steps: Steps) -> None:
                vault = Vault(running, port, provider)
                try:
                    await steps(vault)
                finally:
                    await vault.close()

            yield lambda steps: asyncio.run(scenario(steps))
