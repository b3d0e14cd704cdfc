"""A session of an official client outlives a crash, a deploy and the gate: with other servers, and with Portway's."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from tests.host.running_host import host
from tests.support import ROOT, clean_env, eventually

pytestmark = pytest.mark.clients

SERVER = Path(__file__).with_name("foreign_server.py")
OWN_SERVER = Path(__file__).with_name("own_sessions_server.py")
SCRIPT = Path(__file__).parent / "families" / "in_one_session.py"
URI = "test://changing"


@pytest.mark.parametrize("server", ["own", "foreign"])
@pytest.mark.parametrize("kind", ["fastmcp3", "fastmcp4", "mcp1", "mcp2"])
def test_a_session_outlives_a_crash_a_deploy_and_the_gate(kind: str, server: str, tmp_path: Path) -> None:
    python = Path(sys.executable) if kind == "mcp2" else ROOT / ".venv-clients" / kind / "bin" / "python"
    if not python.exists():
        pytest.skip(f".venv-clients/{kind} is missing: run `make test-all`")
    folder = tmp_path / "foreign"
    folder.mkdir()
    shutil.copyfile(SERVER if server == "foreign" else OWN_SERVER, folder / "server.py")
    with host(tmp_path / "data", walls=False) as running:
        start = ("--start", f"exec {python} server.py {kind}") if server == "foreign" else ()
        done = running.portway("deploy", folder, *start, "--instances", "3", "-o", "json")
        assert done.returncode == 0, done.stderr + running.portway("logs", "foreign").stdout
        app = json.loads(done.stdout)
        command = [python, SCRIPT, app["url"], app["token"], kind]
        with subprocess.Popen(
            command, env=clean_env(), text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as client:
            assert client.stdin
            assert client.stdout

            def do(line: str) -> str:
                client.stdin.write(line + "\n")
                client.stdin.flush()
                said = client.stdout.readline().strip()
                assert said, client.communicate()[1][-5000:]
                return said

            def use() -> dict[str, Any]:
                seen = json.loads(do("round"))
                assert (seen["confirm"], seen["work"], seen["updated"]) == ("Oslo: True", "done", URI)
                assert "cancelled" in seen["cancelled"].lower()
                assert (seen["level"], seen["subscribed"]) == ("error", [URI])
                return seen

            try:
                first = use()["pid"]
                os.kill(first, signal.SIGKILL)
                eventually(lambda: not Path(f"/proc/{first}").exists())
                second = use()["pid"]
                assert do("ask") == "asked"
                running.deploy(folder, "foreign")
                assert do("answer") == "Oslo: True", "by the old instance, which drains"
                third = use()["pid"]
                assert len({first, second, third}) == 3
                gate = running.kill("gate")
                eventually(lambda: running.process("gate") != gate)
                assert use()["pid"] == third
                running.deploy(folder, "foreign")
                assert use()["pid"] != third, (
                    "with level and subscription, which the gate has from before it was killed"
                )
                assert client.communicate()[0] == ""
                assert client.returncode == 0
            finally:
                client.kill()


STRICT = """
import os
from mcp.server import MCPServer
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings


class Verifier:
    async def verify_token(self, token):
        if token == os.environ["API_TOKEN"]:
            return AccessToken(token=token, client_id="c", scopes=[], resource=RESOURCE)


RESOURCE = os.environ["RENDER_EXTERNAL_URL"] + "/mcp"
auth = AuthSettings(issuer_url="https://login.example", resource_server_url=RESOURCE)
server = MCPServer("strict", auth=auth, token_verifier=Verifier())


@server.tool()
def enter() -> str:
    return "in"


server.run("streamable-http", host="0.0.0.0", port=int(os.environ["PORT"]))
"""


def test_a_server_with_oauth_is_found_by_its_own_host_name_or_gets_its_token_from_the_gate(tmp_path: Path) -> None:
    folder = tmp_path / "strict"
    folder.mkdir()
    (folder / "server.py").write_text(STRICT)

    async def enter(url: str, token: str) -> str:
        async with (
            httpx2.AsyncClient(headers={"Authorization": f"Bearer {token}"}) as http,
            Client(streamable_http_client(url, http_client=http)) as client,
        ):
            return (await client.call_tool("enter", {})).content[0].text  # type: ignore[union-attr]

    with host(tmp_path / "data", options=("--trust-all-apps",), walls=False) as running:
        start = ("--start", f"exec {sys.executable} server.py", "--env", "API_TOKEN=theirs")
        done = running.portway("deploy", folder, *start, "--access", "app")
        assert done.returncode == 0, done.stderr
        gate, own = running.ready["url"], f"strict.localhost:{running.ready['url'].rpartition(':')[2]}"
        ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
        refused = httpx2.post(f"{gate}/mcp", headers={"Host": own}, json=ping)
        assert refused.status_code == 401
        metadata = f"http://{own}/.well-known/oauth-protected-resource/mcp"
        assert f'resource_metadata="{metadata}"' in refused.headers["www-authenticate"]
        found = httpx2.get(metadata.replace(own, gate.removeprefix("http://")), headers={"Host": own}).json()
        assert (found["resource"], found["authorization_servers"]) == (f"http://{own}/mcp", ["https://login.example"])
        assert asyncio.run(enter(f"{gate}/strict/mcp", "theirs")) == "in"

        again = running.portway("deploy", folder, "--access", "gate", "--upstream-token", "API_TOKEN")
        assert "; the app's own token is API_TOKEN" in again.stderr, again.stderr
        token = again.stdout.split("token ")[1].split()[0]
        assert asyncio.run(enter(f"{gate}/strict/mcp", token)) == "in"
