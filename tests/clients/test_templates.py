"""Each template, from the packages of the registries: its own tests, alone as on Render, and on a host.

The official client calls it in both eras.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from portway.host.builds.uv_program import find_uv
from portway.host.templates.template import TEMPLATES
from tests.host.running_host import Host, build_environment, host
from tests.support import ROOT, SCRIPTS, clean_env, started

pytestmark = [pytest.mark.clients, pytest.mark.install]

TOKEN = "planted-token"
ON_RENDER = {"RENDER": "true", "RENDER_EXTERNAL_HOSTNAME": "shop.onrender.com", "PORT": "0"}
READY = r"(?:http://[\d.]+:|port )([1-9]\d*)"


def run(command: Sequence[str | Path], folder: Path) -> str:
    done = subprocess.run(
        list(map(str, command)),
        cwd=folder,
        env=clean_env(build_environment()),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(params=list(TEMPLATES))
def template(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def installed(template: str, folder: Path) -> list[str | Path]:
    """Write the template into a folder and install it as its README says. Return the command that starts it."""
    run([SCRIPTS / "portway", "init", folder, "--template", template], folder.parent)
    if template == "node":
        run(["npm", "ci", "--loglevel=error"], folder)
        return [run(["node", "--print", "process.execPath"], folder).strip(), "server.js"]  # "node" may be a wrapper
    checkout = [ROOT] if template == "portway" else []
    run([find_uv(), "venv", "--quiet", ".venv"], folder)
    python = folder / ".venv" / "bin" / "python"
    run([find_uv(), "pip", "install", "--quiet", "--python", python, *checkout, "-r", "requirements-test.txt"], folder)
    return [python, "server.py"]


def offers(url: str, token: str, mode: str, **headers: str) -> list[Any]:
    """Use what a template's server has by the official client: its revision, tools, resource and prompt."""

    async def use() -> list[Any]:
        sent = {"Authorization": f"Bearer {token}"} | headers
        async with (
            httpx2.AsyncClient(headers=sent, timeout=120) as http,
            Client(streamable_http_client(url, http_client=http), mode=mode) as client,
        ):
            [tool] = (await client.list_tools()).tools
            result = await client.call_tool("get_weather", {"city": "Oslo"})
            refused = await client.call_tool("get_weather", {"city": "x" * 101})
            resource = await client.read_resource("weather://forecast/Oslo")
            prompt = await client.get_prompt("packing_list", {"city": "Oslo"})
            assert tool.annotations
            assert tool.annotations.read_only_hint
            assert tool.output_schema
            assert refused.is_error
            assert "Oslo" in str(resource.contents)
            assert "Oslo" in str(prompt.messages)
            return [client.protocol_version, result.structured_content]

    return asyncio.run(use())


WEATHER = {"city": "Oslo", "temperature_c": 25, "conditions": "cloudy"}
REVISIONS = {"auto": "2026-07-28", "legacy": "2025-11-25"}


def status(url: str, headers: Mapping[str, str | bytes], method: str = "POST") -> httpx2.Response:
    ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    content = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
    return httpx2.request(method, url, headers={**content, **headers}, content=json.dumps(ping), timeout=120)


@contextmanager
def alone(command: list[str | Path], folder: Path, **variables: str) -> Iterator[str]:
    """Run the server as a hosting platform does, while the block lasts; give its address."""
    (folder / ".env").unlink(missing_ok=True)  # it is not in the repository that the platform has
    with started(*command, ready=READY, env=ON_RENDER | variables, cwd=folder) as child:
        assert child.match
        yield f"http://127.0.0.1:{child.match[1]}"
    assert child.process.returncode in (0, -signal.SIGTERM)  # uvicorn ends by the signal once it has stopped


def test_a_template_passes_its_own_tests_and_runs_alone_as_on_render(template: str, tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    command = installed(template, folder)
    run(["npm", "test"] if template == "node" else [folder / ".venv" / "bin" / "pytest"], folder)
    own_list = {"portway": "PORTWAY_ALLOWED_HOSTS"}.get(template, "MCP_ALLOWED_HOSTS")
    with alone(command, folder, MCP_API_TOKEN=TOKEN, **{own_list: "a.example, mcp.example.com"}) as server:
        for mode, revision in REVISIONS.items():
            for name in ("shop.onrender.com", "mcp.example.com"):
                assert offers(f"{server}/mcp", TOKEN, mode, Host=name) == [revision, WEATHER]
        assert status(f"{server}/health", {"Host": "shop.onrender.com"}, "GET").status_code == 200
        named: dict[str, str | bytes] = {"Host": "shop.onrender.com"}
        for wrong in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer t\xf6rn".encode("latin-1")}):
            answer = status(f"{server}/mcp", named | wrong)
            assert (answer.status_code, answer.headers["WWW-Authenticate"].split()[0].strip(",")) == (401, "Bearer")
        right = {"Authorization": f"Bearer {TOKEN}"}
        assert status(f"{server}/mcp", {"Host": "elsewhere.example", **right}).status_code in (403, 421)
        page = {"Origin": "https://elsewhere.example"}
        assert status(f"{server}/mcp", named | page | right).status_code == 403
    with started(*command, ready="MCP_API_TOKEN is not set", env=ON_RENDER, cwd=folder) as child:
        assert child.process.wait(120) == 1


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with host(tmp_path_factory.mktemp("templates") / "data") as started:
        yield started


def test_a_template_is_deployed_in_one_step_and_after_an_edit_from_a_folder(
    running: Host, template: str, tmp_path: Path
) -> None:
    done = running.portway("deploy", f"template:{template}", "--name", f"my-{template}", "-o", "json", timeout=300)
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr
    if template != "portway":  # whose server leaves the check of callers to the gate
        assert "the app's own token is MCP_API_TOKEN" in done.stderr
    made = json.loads(done.stdout)
    assert made["app"] == f"my-{template}"
    for mode, revision in REVISIONS.items():
        assert offers(made["url"], made["token"], mode) == [revision, WEATHER]
    assert status(made["url"], {}).status_code == 401
    shop = tmp_path / f"my-{template}"
    run([SCRIPTS / "portway", "init", shop, "--template", template], tmp_path)
    [file] = shop.glob("app.js") if template == "node" else shop.glob("server.py")
    file.write_text(re.sub("cloudy", "foggy", file.read_text()))
    done = running.portway("deploy", shop, "-o", "json", timeout=300)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["release"] == 2
    assert offers(made["url"], made["token"], "auto")[1] == WEATHER | {"conditions": "foggy"}
    assert os.path.exists(shop / ".env")
