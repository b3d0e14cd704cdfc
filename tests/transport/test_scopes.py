"""Scopes in the code of a server alone: every path to a component in both eras, and lists without what is closed."""

from __future__ import annotations

import json
from typing import Any, Literal

import pytest

from portway import Server
from portway.auth.tokens import NamedTokens
from portway.http.http_client import HttpClient
from portway.transport.http_app import HttpApp
from tests.oauth.key_publisher import publishing
from tests.oauth.vault import RESOURCE, make_server, scenario
from tests.transport.http_client import LEGACY, MODERN, Legacy, envelope, post, served

TOKENS = "none:none,all:all:read+write"
WAYS: list[tuple[str, dict[str, Any]]] = [
    ("tools/call", {"name": "move"}),
    ("prompts/get", {"name": "plan", "arguments": {"day": "monday"}}),
    ("resources/read", {"uri": "vault://gold"}),
    ("resources/read", {"uri": "vault://room/7"}),
    ("completion/complete", {"ref": {"type": "ref/prompt", "name": "plan"}, "argument": {"name": "day", "value": ""}}),
    ("resources/subscribe", {"uri": "vault://gold"}),
    ("resources/unsubscribe", {"uri": "vault://room/7"}),
    ("subscriptions/listen", {"notifications": {"resourceSubscriptions": ["vault://open", "vault://gold"]}}),
]
LISTS = {
    "tools/list": ("tools", "name", ["look", "move"]),
    "prompts/list": ("prompts", "name", ["plan"]),
    "resources/list": ("resources", "uri", ["vault://open", "vault://gold"]),
    "resources/templates/list": ("resourceTemplates", "uriTemplate", ["vault://room/{number}"]),
}
OPEN = ["look", "vault://open"]


def scoped(**options: Any) -> HttpApp:
    server = Server("vault", sessions=True, cache_scope="public", **options)
    closed = ["read", "write"]

    @server.tool
    def look() -> str:
        return "seen"

    @server.tool(scopes=closed)
    def move() -> str:
        return "moved"

    @server.resource("vault://open")
    def opened() -> str:
        return "open"

    @server.resource("vault://gold", scopes=closed)
    def gold() -> str:
        return "gold"

    @server.resource("vault://room/{number}", scopes=closed)
    def room(number: str) -> str:
        return number

    @server.prompt(scopes=closed)
    def plan(day: Literal["monday", "friday"]) -> str:
        return day

    return HttpApp(server, verifier=NamedTokens(TOKENS))


@pytest.mark.parametrize(
    ("method", "params"), WAYS, ids=[f"{method}-{index}" for index, (method, _) in enumerate(WAYS)]
)
def test_every_path_to_what_needs_scopes_is_a_challenge_that_names_them_all(
    method: str, params: dict[str, Any]
) -> None:
    async def steps(_: str, client: HttpClient) -> None:
        for token in ("none", "all"):
            expected = {"none": 403, "all": 200}[token]
            bearer = f"Bearer {token}"
            asked = []
            if method not in ("resources/subscribe", "resources/unsubscribe"):
                name = params.get("name") or params.get("uri")
                headers = {"mcp_protocol_version": MODERN, "mcp_method": method} | ({"mcp_name": name} if name else {})
                asked.append(await post(client, envelope(method, params), authorization=bearer, **headers))
            if method != "subscriptions/listen":
                session = await Legacy(client, authorization=bearer).initialize()
                asked.append(await session.send(method, params))
                call = {"jsonrpc": "2.0", "id": 2, "method": method, "params": params}
                batch = json.dumps([{"jsonrpc": "2.0", "id": 1, "method": "ping"}, call]).encode()
                session = await Legacy(client, "2025-03-26", authorization=bearer).initialize()
                asked.append(await post(client, batch, **session.headers))
            for response in asked:
                assert response.status == expected
                if token == "none":
                    challenge = response.header(b"www-authenticate").decode()
                    assert challenge == 'Bearer error="insufficient_scope", scope="read write"'
                    said = json.loads(await response.read(9999))
                    assert said["error"]["data"] == {"requiredScopes": ["read", "write"]}
                await response.close()

    served(steps, scoped())


async def listed(client: HttpClient, method: str, token: str, version: str, **params: str) -> dict[str, Any]:
    headers = {"authorization": f"Bearer {token}", "mcp_protocol_version": version}
    if version == MODERN:
        body = envelope(method, params)
        headers["mcp_method"] = method
    else:
        session = await Legacy(client, authorization=f"Bearer {token}").initialize()
        headers = session.headers
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    response = await post(client, body, **headers)
    return json.loads(await response.read(99_999))["result"]


@pytest.mark.parametrize("page_size", [None, 1])
@pytest.mark.parametrize("version", [MODERN, LEGACY])
def test_lists_leave_out_what_the_caller_can_never_use_and_are_private(version: str, page_size: int | None) -> None:
    async def steps(_: str, client: HttpClient) -> None:
        for token in ("none", "all", "none"):
            for method, (member, key, names) in LISTS.items():
                found, cursor = list[str](), {}
                while True:
                    result = await listed(client, method, token, version, **cursor)
                    found += [entry[key] for entry in result[member]]
                    assert result.get("cacheScope", "private") == "private"
                    if "nextCursor" not in result:
                        break
                    cursor = {"cursor": result["nextCursor"]}
                assert found == [name for name in names if token == "all" or name in OPEN]

    served(steps, scoped(page_size=page_size))


def test_what_a_new_token_of_the_provider_could_open_stays_listed() -> None:
    async def names(client: HttpClient, token: str) -> list[str]:
        return [tool["name"] for tool in (await listed(client, "tools/list", token, MODERN))["tools"]]

    with publishing() as provider:

        async def all_offered(client: HttpClient) -> None:
            assert await names(client, provider.token(RESOURCE)) == ["whoami", "move"]

        async def one_offered(client: HttpClient) -> None:
            assert await names(client, provider.token(RESOURCE)) == ["whoami"]
            assert await names(client, provider.token(RESOURCE, scope="write")) == ["whoami", "move"]

        scenario(make_server(provider, scopes=("read", "write")), all_offered)
        scenario(make_server(provider, scopes=("read",)), one_offered)


def test_a_resource_that_needs_scopes_is_for_no_shared_cache() -> None:
    async def steps(_: str, client: HttpClient) -> None:
        for uri, expected in (("vault://open", "public"), ("vault://gold", "private")):
            headers = {"mcp_protocol_version": MODERN, "mcp_method": "resources/read", "mcp_name": uri}
            response = await post(
                client, envelope("resources/read", {"uri": uri}), authorization="Bearer all", **headers
            )
            assert json.loads(await response.read(9999))["result"]["cacheScope"] == expected

    served(steps, scoped())
