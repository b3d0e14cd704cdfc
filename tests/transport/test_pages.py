"""Web pages that call a server: which are let in, and what they may read (CORS)."""

from __future__ import annotations

from collections.abc import Iterator

import httpx2
import pytest

from tests.support import WEATHER, served

PAGE = "https://app.example.com"
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "page", "version": "1"}},
}
JSON = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    env = {"PORTWAY_TOKENS": "page:secret", "PORTWAY_ALLOWED_ORIGINS": f"{PAGE}:443, http://localhost:6274"}
    with served(env=env) as url:
        yield url


def preflight(url: str, origin: str, headers: str = "content-type", method: str = "POST") -> httpx2.Response:
    asked = {"Origin": origin, "Access-Control-Request-Method": method, "Access-Control-Request-Headers": headers}
    return httpx2.options(url, headers=asked)


def test_a_preflight_of_a_named_page_is_answered_before_any_token_is_asked_for(url: str) -> None:
    wanted = "authorization,content-type,mcp-method,mcp-param-region,mcp-protocol-version,mcp-session-id,x-other"
    reply = preflight(url, PAGE, wanted)
    assert reply.status_code == 204
    assert reply.headers["access-control-allow-origin"] == PAGE
    assert reply.headers["access-control-allow-methods"] == "GET, POST, DELETE"
    assert reply.headers["access-control-allow-headers"] == wanted.removesuffix(",x-other").replace(",", ", ")
    assert "Origin" in reply.headers["vary"]
    assert "access-control-allow-credentials" not in reply.headers


@pytest.mark.parametrize(
    "origin", ["https://app.example.com:8443", "http://app.example.com", "https://app.example.com.evil.example", "null"]
)
def test_a_page_of_another_scheme_host_or_port_is_refused(url: str, origin: str) -> None:
    for reply in (preflight(url, origin), httpx2.post(url, json=INITIALIZE, headers=JSON | {"Origin": origin})):
        assert reply.status_code == 403
        assert "access-control-allow-origin" not in reply.headers
        assert "PORTWAY_ALLOWED_ORIGINS" in reply.text


@pytest.mark.parametrize(("token", "status"), [("secret", 200), ("wrong", 401), (None, 401)])
def test_a_named_page_reads_every_reply_and_the_headers_that_mcp_needs(
    url: str, token: str | None, status: int
) -> None:
    headers = JSON | {"Origin": "http://localhost:6274"} | ({"Authorization": f"Bearer {token}"} if token else {})
    reply = httpx2.post(url, json=INITIALIZE, headers=headers)
    assert reply.status_code == status
    assert reply.headers["access-control-allow-origin"] == "http://localhost:6274"
    assert {"Mcp-Session-Id", "WWW-Authenticate"} <= set(reply.headers["access-control-expose-headers"].split(", "))
    assert reply.headers["vary"] == "Origin"
    assert "access-control-allow-credentials" not in reply.headers


def test_a_reply_to_no_page_still_tells_caches_that_pages_get_another(url: str) -> None:
    reply = httpx2.post(url, json=INITIALIZE, headers=JSON | {"Authorization": "Bearer secret"})
    assert reply.headers["vary"] == "Origin"
    assert "access-control-allow-origin" not in reply.headers


@pytest.mark.parametrize(
    "path", ["/register", "/.well-known/oauth-authorization-server/mcp", "/.well-known/openid-configuration"]
)
def test_a_client_that_looks_for_a_login_is_told_how_to_call(url: str, path: str) -> None:
    reply = httpx2.get(url.removesuffix("/mcp") + path)
    assert reply.status_code == 404
    assert "it takes a bearer token in the Authorization header" in reply.text
    with served() as open_url:
        reply = httpx2.get(open_url.removesuffix("/mcp") + path)
        assert reply.json()["error"]["message"] == (
            "This server has no OAuth and asks for no token: call it without one."
        )


def test_a_server_without_a_token_is_closed_to_local_pages_that_are_not_named() -> None:
    with served() as url:
        refused = httpx2.post(url, json=INITIALIZE, headers=JSON | {"Origin": "http://localhost:6274"})
        assert refused.status_code == 403
        own = url.removesuffix("/mcp")
        assert httpx2.post(url, json=INITIALIZE, headers=JSON | {"Origin": own}).status_code == 200


@pytest.mark.parametrize("entry", ["app.example.com", "https://app.example.com/path", "*", "ftp://a.example"])
def test_an_entry_that_is_no_origin_is_refused_at_the_start(run_cli, entry: str) -> None:
    done = run_cli("run", WEATHER, "--transport", "http", env={"PORTWAY_ALLOWED_ORIGINS": entry})
    assert done.returncode == 1
    assert f"PORTWAY_ALLOWED_ORIGINS: '{entry}' is not an origin; write scheme, host and port" in done.stderr
