"""Servers of other frameworks, each built from the packages of their registries, called through the gate in both eras.

The official client of the other language calls them: TypeScript's those in Python, Python's those in Node.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest
from mcp import Client

from tests.clients.test_python import through_the_gate
from tests.host.running_host import Host, host
from tests.support import ROOT, clean_env

pytestmark = [pytest.mark.clients, pytest.mark.install]

NODE = ROOT / "tests" / "node"
TOOL = """
@mcp.tool()
def get_weather(city: str) -> str:
    return f"21 in {city}"
"""
FASTMCP = 'from fastmcp import FastMCP\n\nmcp = FastMCP("weather")\n' + TOOL
MCP1 = 'from mcp.server.fastmcp import FastMCP\n\nmcp = FastMCP("weather")\n' + TOOL
MCP2 = 'from mcp.server import MCPServer\n\nmcp = MCPServer("weather")\n' + TOOL
MODERN, LEGACY = "2026-07-28", "2025-11-25"
PYTHON = [
    pytest.param(FASTMCP, "fastmcp>=3.4,<4", LEGACY, id="fastmcp3"),
    pytest.param(FASTMCP, "fastmcp>=4.1", MODERN, id="fastmcp4"),
    pytest.param(MCP1, "mcp>=1.30,<2", LEGACY, id="mcp1"),
    pytest.param(MCP2, "mcp>=2.3", MODERN, id="mcp2"),
]
SDK1 = """
import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import { StreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/streamableHttp.js";
import express from "express";
import { z } from "zod";

const app = express();
app.post("/mcp", express.json(), async (request, response) => {
  const server = new McpServer({ name: "weather", version: "1" });
  server.registerTool("get_weather", { inputSchema: { city: z.string() } }, async ({ city }) => ({
    content: [{ type: "text", text: `21 in ${city}` }],
  }));
  const transport = new StreamableHTTPServerTransport({ sessionIdGenerator: undefined });
  await server.connect(transport);
  await transport.handleRequest(request, response, request.body);
});
app.listen(process.env.PORT);
"""
SDK2 = """
import { createServer } from "node:http";
import { toNodeHandler } from "@modelcontextprotocol/node";
import { createMcpHandler, McpServer } from "@modelcontextprotocol/server";
import { z } from "zod";

const handler = createMcpHandler(() => {
  const server = new McpServer({ name: "weather", version: "1" });
  server.registerTool("get_weather", { inputSchema: z.object({ city: z.string() }) }, async ({ city }) => ({
    content: [{ type: "text", text: `21 in ${city}` }],
  }));
  return server;
});
createServer(toNodeHandler(handler)).listen(process.env.PORT);
"""
MOUNTED = (
    """
import contextlib, os
import uvicorn
from mcp.server.fastmcp import FastMCP
from starlette.applications import Starlette
from starlette.routing import Mount

mcp = FastMCP("weather", host="0.0.0.0", streamable_http_path="/", stateless_http=True, json_response=True)
"""
    + TOOL
    + """
def application(path):
    inner = mcp.streamable_http_app()
    return Starlette(routes=[Mount(path, inner)], lifespan=lambda app: mcp.session_manager.run())

uvicorn.run(application(os.environ["MOUNTED"]), host="0.0.0.0", port=int(os.environ["PORT"]))
"""
)
GUARDED = """
services:
  - type: web
    name: weather
    runtime: {runtime}
    startCommand: {start}
    envVars: [{{key: MOUNTED, value: {path}}}]
    x-portway:
      path: {path}/
      access: {access}
      policies: [{{tool: get_weather, scopes: [weather:read]}}]
"""
PACKAGES1 = {"@modelcontextprotocol/sdk": "^1.25.3", "express": "^5.0.0", "zod": "^3.25.0"}
PACKAGES2 = {"@modelcontextprotocol/server": "^2.4.0", "@modelcontextprotocol/node": "^2.1.0", "zod": "^4.2.0"}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with host(tmp_path_factory.mktemp("frameworks") / "data") as started:
        yield started


def deployed(running: Host, folder: Path, files: dict[str, str], **commands: str) -> dict[str, str]:
    """Deploy a folder of these files and return its URL and token."""
    for name, content in files.items():
        (folder / name).write_text(content)
    running.deploy(folder, "weather", **commands)
    token = running.portway("token", "create", "weather", os.urandom(4).hex()).stdout.split()[0]
    return {"url": f"{running.ready['url']}/weather/mcp", "token": token}


def from_typescript(app: dict[str, str], mode: str) -> list[str]:
    if not (NODE / "node_modules").exists():
        pytest.skip("tests/node/node_modules is missing: run `make test-all`")
    call = json.dumps({"mode": mode, "tool": "get_weather", "arguments": {"city": "Oslo"}} | app)
    command = ["node", "call.mjs", call]
    done = subprocess.run(command, cwd=NODE, env=clean_env(), capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    answer: list[str] = json.loads(done.stdout)
    return answer


def from_python(app: dict[str, str], mode: str) -> list[str]:
    async def call() -> list[str]:
        async with through_the_gate(app) as transport, Client(transport, mode=mode) as client:
            result = await client.call_tool("get_weather", {"city": "Oslo"})
            return [client.protocol_version, result.content[0].text]  # type: ignore[union-attr]

    return asyncio.run(call())


@pytest.mark.parametrize(("server", "requirement", "newest"), PYTHON)
def test_an_object_in_python_is_found_served_and_called_from_typescript(
    running: Host, tmp_path: Path, server: str, requirement: str, newest: str
) -> None:
    app = deployed(running, tmp_path, {"server.py": server, "requirements.txt": requirement})
    assert from_typescript(app, "auto") == [newest, "21 in Oslo"]
    assert from_typescript(app, "legacy") == [LEGACY, "21 in Oslo"]


@pytest.mark.parametrize(
    ("server", "packages", "newest"), [(SDK1, PACKAGES1, LEGACY), (SDK2, PACKAGES2, MODERN)], ids=["sdk1", "server2"]
)
def test_a_server_in_node_is_built_started_and_called_from_python(
    running: Host, tmp_path: Path, server: str, packages: dict[str, str], newest: str
) -> None:
    package = json.dumps({"type": "module", "dependencies": packages})
    app = deployed(running, tmp_path, {"package.json": package, "server.js": server}, start_command="node server.js")
    assert from_python(app, "auto") == [newest, "21 in Oslo"]
    assert from_python(app, "legacy") == [LEGACY, "21 in Oslo"]


@pytest.mark.parametrize(
    ("server", "path", "access", "spellings"),
    [
        ("express", "/mcp", "gate", ["/MCP", "/Mcp/"]),
        ("mount", "/mcp", "public", ["/mcp/x", "/mcp//", "/mcp/%2e"]),
        ("mount", "/api/v1/mcp", "gate", ["/api/v1/mcp/", "/api/v1/mcp/x", "/api/v1/mcp//"]),
    ],
)
def test_a_server_that_takes_mcp_at_other_paths_keeps_to_its_policies_there(
    running: Host, tmp_path: Path, server: str, path: str, access: str, spellings: list[str]
) -> None:
    if server == "express":
        package = json.dumps({"type": "module", "dependencies": PACKAGES1})
        files, start = {"package.json": package, "server.js": SDK1}, "node server.js"
    else:
        files, start = {"server.py": MOUNTED, "requirements.txt": "mcp>=1.30,<2"}, "python server.py"
    runtime = "node" if server == "express" else "python"
    blueprint = GUARDED.format(runtime=runtime, start=start, path=path, access=access)
    if server == "express":
        blueprint = blueprint.replace("path: /mcp/", "path: /mcp")
    app = deployed(running, tmp_path, files | {"render.yaml": blueprint})
    port = int(running.ready["url"].rpartition(":")[2])
    params = {"name": "get_weather", "arguments": {"city": "Oslo"}}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
    headers = {"Host": "weather.localhost", "Content-Type": "application/json"}
    headers |= {"Accept": "application/json, text/event-stream"}
    headers |= {"Authorization": f"Bearer {app['token']}"} if access == "gate" else {}
    for spelling in ["/mcp", *spellings]:
        with contextlib.closing(HTTPConnection("127.0.0.1", port, timeout=120)) as connection:
            connection.request("POST", spelling, body, headers)
            answer = connection.getresponse()
            at_endpoint = spelling.rstrip("/") in ("/mcp", path)
            expected = (403 if access == "gate" else 401) if at_endpoint and "//" not in spelling else 404
            assert (answer.status, b"21 in" in answer.read()) == (expected, False), spelling
