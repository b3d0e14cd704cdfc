"""A server alone: every revision, kind of request and path, with a token in every state.

What a caller without a good token is told depends on the token alone, not on what it asks for.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from portway import Context, OAuth, Server
from portway.http.http_client import HttpClient, Response
from portway.oauth import signing_keys
from portway.protocol.versions import LATEST_MODERN, LEGACY_VERSIONS
from tests.oauth.bad_tokens import in_seconds
from tests.oauth.key_publisher import KeyPublisher
from tests.oauth.vault import METADATA, RESOURCE, scenario
from tests.transport.http_client import BASE, ENVELOPE, Legacy

KNOWS = f'scope="read", resource_metadata="{METADATA}"'
INVALID = f'Bearer error="invalid_token", {KNOWS}'
FORBIDDEN = f'Bearer error="insufficient_scope", scope="read write", resource_metadata="{METADATA}"'
STATES: dict[str, tuple[int, str]] = {
    "none": (401, f"Bearer {KNOWS}"),
    "malformed": (400, f'Bearer error="invalid_request", {KNOWS}'),
    "expired": (401, INVALID),
    "of another issuer": (401, INVALID),
    "for another audience": (401, INVALID),
    "an ID token": (401, INVALID),
    "lacking scope": (403, FORBIDDEN),
    "good": (0, ""),
    "while the provider is down": (503, ""),
}
"""The status, where it is not that of the request, and the challenge."""


def token(provider: KeyPublisher, state: str) -> str:
    everything = "read write"
    return {
        "none": lambda: "",
        "malformed": lambda: "two words",
        "expired": lambda: provider.token(RESOURCE, scope=everything, exp=in_seconds(-60)),
        "of another issuer": lambda: provider.token(RESOURCE, scope=everything, iss="https://evil.example"),
        "for another audience": lambda: provider.token("https://other.example/mcp", scope=everything),
        "an ID token": lambda: provider.token(RESOURCE, scope=everything, nonce="n"),
        "lacking scope": lambda: provider.token(RESOURCE, scope="read"),
        "good": lambda: provider.token(RESOURCE, scope=everything),
        "while the provider is down": lambda: provider.token(RESOURCE, "new", scope=everything),
    }[state]()


@dataclass
class Asked:
    """A request and its status for a good token; `guarded` if the other scope is needed for it."""

    method: str
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    status: int = 200
    guarded: bool = False
    path: str = "/mcp"

    async def send(self, client: HttpClient, bearer: str) -> Response:
        """Return the response, read if it is one that ends."""
        fields = BASE | self.headers | ({"authorization": f"Bearer {bearer}"} if bearer else {})
        content = b"" if self.body is None else json.dumps(self.body).encode()
        named = [(name.encode(), value.encode()) for name, value in fields.items()]
        response = await client.request(self.method, self.path, named, content)
        if dict(response.headers).get(b"content-type") == b"text/event-stream":
            await response.close()
        else:
            await response.read(99_999)
        return response


def rpc(method: str, request_id: object = 1, **params: object) -> dict[str, Any]:
    body = {"jsonrpc": "2.0", "method": method, "params": params}
    return body if request_id is None else body | {"id": request_id}


GUARDED: dict[str, dict[str, Any]] = {
    "tools/call": {"name": "fill", "arguments": {}},
    "resources/read": {"uri": "vault://gold"},
    "prompts/get": {"name": "plan"},
}
OPEN: dict[str, dict[str, Any]] = {"tools/call": {"name": "look", "arguments": {}}, "tools/list": {}}


def legacy(version: str, session: str) -> list[Asked]:
    own = {"mcp-protocol-version": version, "mcp-session-id": session}
    info = {"clientInfo": {"name": "m", "version": "1"}, "capabilities": {}, "protocolVersion": version}
    guarded_batch = [rpc("ping", 1), rpc("tools/call", 2, **GUARDED["tools/call"])]
    return [
        *([Asked("POST", guarded_batch, own, guarded=True)] if version == "2025-03-26" else []),
        Asked("POST", rpc("initialize", **info)),
        Asked("POST", rpc("notifications/initialized", None), own, 202),
        *(Asked("POST", rpc(method, **params), own) for method, params in (OPEN | {"ping": {}}).items()),
        *(Asked("POST", rpc(method, **params), own, guarded=True) for method, params in GUARDED.items()),
        Asked("POST", rpc("resources/subscribe", uri="vault://gold"), own, guarded=True),
        Asked("POST", rpc("no/such"), own),
        Asked("POST", [rpc("ping", 1), rpc("tools/list", 2)], own, 200 if version == "2025-03-26" else 400),
        Asked("POST", rpc("ping"), own | {"mcp-session-id": session[:-4] + "AAAA"}, 404),
        Asked("GET", None, own),
        Asked("GET", None, own | {"last-event-id": "0-0-0"}),
        Asked("DELETE", None, own, 204),
        Asked("GET", None, own, 404),
    ]


def modern() -> list[Asked]:
    def asked(method: str, guarded: bool = False, request_id: object = 1, **params: Any) -> Asked:
        headers = {"mcp-protocol-version": LATEST_MODERN, "mcp-method": method}
        if name := params.get("name", params.get("uri", "")):
            headers["mcp-name"] = name
        status = 202 if request_id is None else 404 if method == "no/such" else 200
        return Asked("POST", rpc(method, request_id, _meta=ENVELOPE, **params), headers, status, guarded)

    return [
        asked("server/discover"),
        *(asked(method, **params) for method, params in OPEN.items()),
        *(asked(method, guarded=True, **params) for method, params in GUARDED.items()),
        asked("subscriptions/listen", notifications={"toolsListChanged": True}),
        asked("subscriptions/listen", guarded=True, notifications={"resourceSubscriptions": ["vault://gold"]}),
        asked("notifications/cancelled", request_id=None, requestId=7),
        asked("no/such"),
        Asked("GET", None, {"mcp-protocol-version": LATEST_MODERN}, 405),
        Asked("DELETE", None, {"mcp-protocol-version": LATEST_MODERN}, 405),
    ]


ANY = [
    *(Asked(method, None, {}, 405) for method in ("PUT", "PATCH", "OPTIONS", "HEAD")),
    Asked("POST", rpc("ping"), {"mcp-protocol-version": "1999-01-01"}, 400),
    Asked("POST", "no message", {}, 400),
    Asked("POST", rpc("ping"), {"content-type": "text/plain"}, 415),
    Asked("POST", rpc("ping"), {"accept": "image/png"}, 406),
    Asked("POST", rpc("tools/list"), path="/mcp/"),
    Asked("POST", rpc("tools/list"), path="/mcp?access_token=x"),
]
PUBLIC = [
    Asked("GET", path="/health"),
    *(Asked(method, path="/.well-known/oauth-protected-resource/mcp") for method in ("GET", "HEAD")),
    Asked("OPTIONS", path="/.well-known/oauth-protected-resource/mcp", status=204),
    Asked("POST", path="/.well-known/oauth-protected-resource/mcp", status=405),
    Asked("GET", path="/.well-known/oauth-protected-resource"),
    Asked("GET", path="/.well-known/oauth-protected-resource/other", status=404),
    Asked("POST", path="/other", status=404),
]


def vault(provider: KeyPublisher) -> Server:
    server = Server("vault", auth=OAuth(provider.url, RESOURCE, scopes=("read",)))
    both = {"scopes": ["read", "write"]}

    @server.tool
    async def look(ctx: Context) -> str:
        return ctx.caller.subject

    server.tool(**both)(fill)
    server.resource("vault://gold", **both)(fill)
    server.prompt("plan", **both)(fill)
    return server


def fill() -> str:
    return "filled"


@pytest.mark.parametrize("state", STATES)
def test_what_a_caller_is_told_depends_on_its_token_alone(
    provider: KeyPublisher, state: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signing_keys, "_PAUSE_SECONDS", 0.0)
    status, told = STATES[state]
    provider.add("new")
    bearer, new = token(provider, state), provider.keys["new"]

    async def steps(client: HttpClient) -> None:
        async def check(asked: Asked, *, is_public: bool = False) -> None:
            response = await asked.send(client, bearer)
            is_refused = bool(status) and not is_public and (state != "lacking scope" or asked.guarded)
            assert response.status == (status if is_refused else asked.status), asked
            headers = dict(response.headers)
            expected = told.replace(METADATA, METADATA + "/") if asked.path == "/mcp/" else told
            assert headers.get(b"www-authenticate", b"").decode() == (expected if is_refused else ""), asked
            assert (b"retry-after" in headers) == (response.status == 503), asked
            if is_public and ".well-known/oauth" in asked.path and response.status < 300:
                assert headers[b"access-control-allow-origin"] == b"*"

        del provider.keys["new"]  # which is not known while the provider is down
        for version in LEGACY_VERSIONS:
            good = f"Bearer {provider.token(RESOURCE, scope='read write')}"
            session = (await Legacy(client, version, authorization=good).initialize()).headers["mcp_session_id"]
            provider.is_down = state == "while the provider is down"
            for asked in legacy(version, session):
                await check(asked)
            provider.is_down = False
        provider.is_down = state == "while the provider is down"
        for asked in [*modern(), *ANY]:
            await check(asked)
        for asked in PUBLIC:
            await check(asked, is_public=True)

    scenario(vault(provider), steps)
    provider.keys["new"] = new
    assert not bearer or bearer not in caplog.text
