"""Apps of a host at which callers log in: `portway up --auth-issuer` and `x-portway.auth`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client

from tests.conftest import RunCli
from tests.host.running_host import host
from tests.oauth.key_publisher import KeyPublisher, publishing
from tests.support import eventually

WELL_KNOWN = "/.well-known/oauth-protected-resource"
SERVER = """
from portway import Context, Server

server = Server("vault")


@server.tool
def whoami(ctx: Context) -> str:
    return f"{ctx.caller.issuer} {ctx.caller.subject} {ctx.headers.get('authorization')}"


@server.tool(scopes=["write", "read"])
def put() -> str:
    return "kept"
"""
BLUEPRINT = """
services:
  - {{type: web, name: vault, runtime: python, x-portway: {{{portway}}}}}
"""


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--auth-audience", "a"], "--auth-audience and --auth-scopes need --auth-issuer, the URL of the provider"),
        (["--auth-issuer", ""], "--auth-issuer names no issuer: give the provider's URL, or leave it out"),
        (["--auth-issuer", "https://a.example, https://a.example"], "the issuer 'https://a.example' is given twice: g"),
        (["--auth-issuer", "http://a.example"], "--auth-issuer: the issuer 'http://a.example' is no https URL without"),
        (["--auth-issuer", "https://a.example https://b.example"], "PORTWAY_AUTH_OPAQUE is for a host with one issuer"),
        (["--auth-issuer", "https://a.example", "--auth-scopes", 'a"b'], "--auth-issuer: 'a\"b' is no scope: it has"),
    ],
)
def test_up_refuses_a_login_that_would_not_be_safe(run_cli: RunCli, options: list[str], said: str) -> None:
    client = {"PORTWAY_AUTH_OPAQUE": "1", "PORTWAY_AUTH_CLIENT_ID": "a", "PORTWAY_AUTH_CLIENT_SECRET": "b"}
    done = run_cli("up", *options, env=client if "OPAQUE" in said else {})
    assert done.returncode == 2
    assert said in done.stderr


def folder(directory: Path, portway: str) -> Path:
    directory.mkdir(exist_ok=True)
    (directory / "server.py").write_text(SERVER)
    (directory / "render.yaml").write_text(BLUEPRINT.format(portway=portway))
    return directory


@pytest.fixture(scope="module")
def provider() -> Iterator[KeyPublisher]:
    with publishing() as publisher:
        yield publisher


@pytest.mark.slow
def test_callers_of_a_hosted_app_log_in_at_the_hosts_provider(tmp_path: Path, provider: KeyPublisher) -> None:
    source = folder(tmp_path / "source", "auth: {scopes: [read]}")
    with host(tmp_path / "data", [source], options=["--auth-issuer", provider.url]) as running:
        running.child.wait_for(f"2 tools; callers log in at {provider.url}$")
        url = f"{running.ready['url']}/vault/mcp"

        async def steps() -> None:
            async with httpx2.AsyncClient() as client:
                refused = await client.post(url, content=b"{}")
                told = refused.headers["www-authenticate"]
                metadata = (await client.get(told.partition('resource_metadata="')[2].rstrip('"'))).json()
            assert (refused.status_code, metadata["resource"], metadata["scopes_supported"]) == (401, url, ["read"])
            token = provider.token(metadata["resource"], scope="read")
            async with (
                httpx2.AsyncClient(headers={"authorization": f"Bearer {token}"}) as client,
                streamable_http_client(url, http_client=client) as (read, write, *_),
                ClientSession(read, write) as session,
            ):
                await session.initialize()
                answer = await session.call_tool("whoami", {})
                assert answer.content[0].text == f"{provider.url} ada None"  # type: ignore[union-attr]
                body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "put", "arguments": {}}}
                more = {"accept": "application/json, text/event-stream"}
                forbidden = await client.post(url, json=body, headers=more)
            assert forbidden.status_code == 403
            assert (
                f'error="insufficient_scope", scope="read write", {told.rpartition(", ")[2]}'
                in (forbidden.headers["www-authenticate"])
            )

        asyncio.run(steps())
        assert f"callers of vault log in at {provider.url}\n" in running.portway("ps").stderr
        assert json.loads(running.portway("ps", "-o", "json").stdout)["apps"][0]["issuers"] == [provider.url]
        assert "nobody can log in now" not in "".join(running.child.lines)
        record, caller = next(running.paths.calls.glob("*.jsonl")), json.dumps(f"{provider.url}|ada")
        eventually(lambda: caller in record.read_text())

        port = running.ready["url"].rpartition(":")[2]
        for name, path in ((f"localhost:{port}", "/vault/mcp"), (f"vault.localhost:{port}", "/mcp")):
            found = httpx2.get(f"{running.ready['url']}{WELL_KNOWN}{path}", headers={"host": name}).json()
            assert found["resource"] == f"http://{name}{path}"
        for portway, said in (
            (
                "auth: {issuer: 'http://localhost:9'}",
                "x-portway.auth of vault: the issuer 'http://localhost:9' is on t",
            ),
            (
                "auth: {issuer: 'http://127.0.0.1'}",
                "is on this machine: start the host with --auth-private to",
            ),
            ("auth: {}, access: public", "with access public, nobody logs in at the gate to call vault: leave x-port"),
            (
                "auth: {issuer: http://a.example}",
                "`issuer` must be an https URL without query and comma, as in `https://login.",
            ),
            (
                "auth: {issuer: 'https://a.example,https://b.example'}",
                "must be an https URL without query and comma, as",
            ),
            (
                "auth: {issuer: ['https://a.example', 'https://a.example']}",
                "x-portway.auth of vault: the issuer 'https://a.example' is given twice: give each provider once",
            ),
            ("auth: {scopes: ['a b']}", "`scopes` must be a list of scopes, as in `[orders:write]`"),
        ):
            refused = running.portway("deploy", folder(source, portway))
            assert (refused.returncode, said in refused.stderr) == (1, True), refused.stderr
        other = folder(source, "auth: {issuer: 'https://none.invalid', audience: a}")
        deployed = running.portway("deploy", other)
        said = "warning  nobody can log in now at https://none.invalid: the host none.invalid is not found"
        assert (deployed.returncode, said in deployed.stderr) == (0, True), deployed.stderr
        ops = "policies: [{tool: put, scopes: [write, read, ops]}], groups: {sre: [ops]}"
        assert running.portway("deploy", folder(source, f"auth: {{audience: 'api://vault'}}, {ops}")).returncode == 0
        assert announced(url) == ["read", "write"], "those of the policies, which the provider gives"
        (source / "render.yaml").unlink()
        assert running.portway("deploy", source, "--name", "vault").returncode == 0
        assert running.call("vault", "whoami", provider.token("api://vault"))["result"].startswith(provider.url), "kept"
    without_provider(tmp_path / "data", source)


@pytest.mark.slow
def test_a_host_says_at_its_start_that_nobody_can_log_in_at_its_provider(
    tmp_path: Path, provider: KeyPublisher
) -> None:
    with host(tmp_path / "data", options=["--auth-issuer", f"{provider.url}/"]) as running:
        said = f"is of the issuer '{provider.url}', not of '{provider.url}/': give it exactly so"
        running.child.wait_for(f"nobody can log in now at {provider.url}/: .* {said}")


def announced(url: str) -> list[str]:
    """Return the scopes in the metadata of an app, which its 401 names, too."""
    told = httpx2.post(url, content=b"{}").headers["www-authenticate"]
    metadata = httpx2.get(told.partition('resource_metadata="')[2].rstrip('"')).json()
    assert told.startswith(f'Bearer scope="{" ".join(metadata["scopes_supported"])}"'), told
    return list(metadata["scopes_supported"])


def without_provider(data: Path, source: Path) -> None:
    """Start the host again without a provider: an app that relies on the host's has no login any more."""
    with host(data) as running:
        running.child.wait_for("nobody can log in at vault: it has no issuer, and the host has none")
        for verb in ("disable", "enable"):  # which writes the gate's table
            assert running.portway("tool", verb, "vault", "put").returncode == 0
        assert "".join(running.child.lines).count("nobody can log in at vault") == 1, "the log says it once"
        refused = running.portway("deploy", folder(source, "auth: {scopes: [read]}"))
        assert "it has no issuer, and the host has none: add issuer, or start the host with" in refused.stderr
        assert running.portway("deploy", folder(source, "auth: {enabled: false}")).returncode == 0
        assert httpx2.get(f"{running.ready['url']}{WELL_KNOWN}/vault/mcp").status_code == 404
