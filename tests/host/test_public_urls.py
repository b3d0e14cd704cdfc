"""A host behind another's TLS: each URL that it prints or tells an app is the one that clients use."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from portway.host.public_address import PublicAddress
from portway.http.http_client import HttpClient
from tests.conftest import RunCli
from tests.gate.running_gate import modern
from tests.host.git_client import commit_all, run_git
from tests.host.git_upstream import upstream
from tests.host.running_host import Host, host
from tests.host.test_start_commands import SERVER
from tests.support import eventually

SDK = """
import os
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.transport_security import TransportSecuritySettings

server = MCPServer("sdk")
security = TransportSecuritySettings(allowed_hosts=[os.environ["RENDER_EXTERNAL_HOSTNAME"]])


@server.tool()
def whoami(ctx: Context) -> dict[str, str]:
    request = ctx.request_context.request
    return {"url": str(request.url), "client": request.client.host}


server.run("streamable-http", host="127.0.0.1", port=int(os.environ["PORT"]), transport_security=security)
"""
DOMAIN, URL = "mcp.example.com", "https://mcp.example.com"
BEHIND = ["--domain", "MCP.example.com", "--behind-proxy", "127.0.0.0/8", "--behind-proxy", "10.1.2.3"]
SERVICE = "services: [{type: web, name: plain, runtime: python, startCommand: python main.py}]\n"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    options = [*BEHIND, "--host", "127.0.0.1", "--trust-all-apps", "--allow-private-sources"]
    with host(tmp_path_factory.mktemp("public") / "data", options=options) as started:
        yield started


@pytest.mark.parametrize(
    ("url", "port", "own"),
    [
        ("http://127.0.0.1:8080", 8080, "http://a.test:8080"),
        ("https://test", 443, "https://a.test"),
        ("https://test:8443", 8443, "https://a.test:8443"),
    ],
)
def test_an_apps_own_url_has_scheme_and_port_of_the_hosts(url: str, port: int, own: str) -> None:
    address = PublicAddress(url, "test")
    assert (address.port, address.origin(address.hostname("a"))) == (port, own)


def plain(folder: Path) -> Path:
    """Write an app whose one tool answers with what it is told of itself and of its caller."""
    folder.mkdir()
    (folder / "main.py").write_text(SERVER)
    (folder / "render.yaml").write_text(SERVICE)
    (folder / "requirements.txt").write_text("")
    return folder


def listening(running: Host) -> str:
    """Return where the gate itself listens, for who is on this machine."""
    return running.child.wait_for(r"the gate listens on (http://\S+)")[1]


def through_a_proxy(running: Host, path: str, token: str, *sent: tuple[str, str], named: str = DOMAIN) -> Any:
    """Call the app's tool as a proxy passes a call on; return the result, or the status of a refusal."""
    body, of_call = modern(name="whoami")
    headers = {"content-type": "application/json", "authorization": f"Bearer {token}"} | dict(sent)

    async def post() -> Any:
        async with HttpClient(listening(running), named) as client:
            given = [*of_call, *((name.encode(), value.encode()) for name, value in headers.items())]
            response = await client.request("POST", path, given, body)
            answer = await response.read(1_000_000)
        return json.loads(answer)["result"]["structuredContent"] if response.status == 200 else response.status

    return asyncio.run(post())


@pytest.mark.slow
def test_every_url_that_a_host_behind_a_proxy_prints_or_tells_is_the_public_one(running: Host, tmp_path: Path) -> None:
    assert running.ready["url"] == URL
    assert listening(running).startswith("http://127.0.0.1:")
    folder = plain(tmp_path / "plain")

    deployed = running.portway("deploy", folder)
    assert f"{URL}/plain/mcp" in deployed.stdout
    assert f"{URL}/plain/mcp" in running.portway("ps").stdout
    made = json.loads(running.portway("token", "create", "plain", "ada", "-o", "json").stdout)
    assert made["url"] == f"{URL}/plain/mcp"
    user = json.loads(running.portway("user", "add", "dora", "--role", "deployer", "-o", "json").stdout)
    assert user["address"] == f"{URL}/APP.git"

    commit_all(folder, "A change")
    local = user["address"].replace(URL, listening(running).replace("//", "//dora:{token}@")).replace("APP", "plain")
    pushed = run_git(folder, "push", "-f", "-o", "force", local.format(token=user["token"]), "HEAD:main")
    assert f"=====> {URL}/plain/mcp   release 2" in pushed.stderr

    told = through_a_proxy(running, "/plain/mcp", made["token"])["environment"]
    assert {name: told[name] for name in ("RENDER_EXTERNAL_URL", "RENDER_EXTERNAL_HOSTNAME")} == {
        "RENDER_EXTERNAL_URL": f"https://plain.{DOMAIN}",
        "RENDER_EXTERNAL_HOSTNAME": f"plain.{DOMAIN}",
    }
    assert told["PORTWAY_ALLOWED_ORIGINS"] == f"https://plain.{DOMAIN}"
    with upstream(tmp_path / "elsewhere") as elsewhere:
        elsewhere.commit("linked", {path.name: path.read_text() for path in folder.iterdir() if path.is_file()})
        linked = json.loads(running.portway("link", "linked", elsewhere.address("linked"), "-o", "json").stdout)
    assert linked["webhook"] == f"{URL}/_portway/hooks/linked"
    assert linked["deploy_hook"] == f"{URL}/_portway/hooks/linked?key={linked['secret']}"
    assert [app["url"] for app in linked["apps"]] == [f"{URL}/linked/mcp"]


@pytest.mark.slow
def test_an_app_is_told_client_scheme_and_host_as_the_proxy_says(running: Host, tmp_path: Path) -> None:
    running.portway("deploy", plain(tmp_path / "plain"))
    token = running.portway("token", "create", "plain", "bob").stdout.strip()
    sent = ("x-forwarded-for", "6.6.6.6, 203.0.113.7, 10.1.2.3"), ("x-forwarded-proto", "https")
    for path, named in (("/plain/mcp", DOMAIN), ("/mcp", f"plain.{DOMAIN}")):
        headers = through_a_proxy(running, path, token, *sent, named=named)["headers"]
        assert headers["host"] == f"plain.{DOMAIN}"
        assert headers["x-forwarded-host"] == named
        assert (headers["x-forwarded-for"], headers["x-forwarded-proto"]) == ("203.0.113.7", "https")
    assert through_a_proxy(running, "/plain/mcp", token, named="mcp.example.org") == 421


@pytest.mark.slow
def test_a_server_of_the_official_sdk_allows_one_name_and_knows_its_url_and_its_callers(tmp_path: Path) -> None:
    (folder := tmp_path / "sdk").mkdir()
    (folder / "server.py").write_text(SDK)
    with host(tmp_path / "data", options=[*BEHIND, "--trust-all-apps"], walls=False) as running:
        done = running.portway("deploy", folder, "--start", f"exec {sys.executable} server.py", "--public")
        assert done.returncode == 0, done.stderr
        assert running.portway("domain", "add", "sdk", "tools.example.org").returncode == 0
        sent = ("x-forwarded-for", "203.0.113.7"), ("accept", "application/json, text/event-stream")
        for path, named in (("/sdk/mcp", DOMAIN), ("/mcp", f"sdk.{DOMAIN}"), ("/mcp", "tools.example.org")):
            told = through_a_proxy(running, path, "", *sent, named=named)
            assert told == {"url": f"https://sdk.{DOMAIN}/mcp", "client": "203.0.113.7"}


@pytest.mark.parametrize(
    ("options", "address"),
    [
        ([], "127.0.0.1"),
        (["--host", "::1"], "[::1]"),
        (BEHIND, "0.0.0.0"),
        (BEHIND[:4], "127.0.0.1"),
        ([*BEHIND[:3], "::1"], "[::1]"),
        ([*BEHIND[:3], "fd00::/8"], "[::]"),
        ([*BEHIND, "--host", "10.0.0.7"], "10.0.0.7"),
    ],
)
def test_the_address_to_listen_on_follows_from_where_the_proxies_are(
    options: list[str], address: str, run_cli: RunCli, tmp_path: Path
) -> None:
    written = run_cli("up", "--install", *options, env={"XDG_CONFIG_HOME": str(tmp_path)})
    assert written.returncode == 0, written.stderr
    assert f"ListenStream={address}:8080" in (tmp_path / "systemd" / "user" / "portway.socket").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(("options", "address"), [([], "127.0.0.1"), (BEHIND, "0.0.0.0"), (["--host", "::1"], "::1")])
def test_other_machines_reach_the_gate_only_if_a_proxy_may_be_there(
    options: list[str], address: str, tmp_path: Path
) -> None:
    with host(tmp_path / "data", options=options) as running:
        port = int(listening(running).rpartition(":")[2])
        bound = eventually(lambda: [line for line in sockets() if line.endswith(f":{port:04X}")])
        assert bound == [f"{hexadecimal(address)}:{port:04X}"]


def sockets() -> list[str]:
    """Return the addresses on which somebody of this machine listens, as Linux writes them."""
    lines = [
        line.split() for file in ("tcp", "tcp6") for line in Path(f"/proc/net/{file}").read_text().splitlines()[1:]
    ]
    return [line[1] for line in lines if line[3] == "0A"]


def hexadecimal(address: str) -> str:
    packed = socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
    return "".join(packed[at : at + 4][::-1].hex() for at in range(0, len(packed), 4)).upper()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--behind-proxy", "proxy.example.com"], "'proxy.example.com' is not a network; give the proxy's, as in"),
        (["--behind-proxy", "10.0.0.1/8"], "'10.0.0.1/8' is not a network; give the proxy's, as in 10.0.0.0/8"),
        (["--behind-proxy", "unix"], "'unix' is not a network; give the proxy's, as in 10.0.0.0/8"),
        (["--behind-proxy", "::/0"], "::/0 is everybody, who could claim any address; give the proxy's network"),
        (
            ["--behind-proxy", "0.0.0.0/1", "--behind-proxy", "::1", "--behind-proxy", "128.0.0.0/1"],
            "0.0.0.0/1 with 128.0.0.0/1 is everybody, who could claim any address; give the proxy's network",
        ),
        (
            ["--behind-proxy", "10.0.0.0/8"],
            "--behind-proxy needs --domain: the name by which the proxy serves the host",
        ),
        (
            ["--domain", "a.example", "--host", "::"],
            "--host is for a host behind a proxy: HTTPS listens on every address",
        ),
        (["--host", "0.0.0.0"], "other machines reach 0.0.0.0, without TLS: give --behind-proxy, or leave --host out"),
    ],
)
def test_a_host_that_would_be_open_or_believe_anybody_does_not_start(
    options: list[str], message: str, run_cli: RunCli, tmp_path: Path
) -> None:
    refused = run_cli("up", "--data", tmp_path / "data", "--port", "0", *options)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert message in refused.stderr
