"""A repository made for Render, in the shape of its MCP template, is deployed as it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.host.running_host import host

SERVER = '''
import hmac
import os

import uvicorn
from mcp.server.fastmcp import FastMCP
from mcp.server.transport_security import TransportSecuritySettings
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse

hostname = os.environ["RENDER_EXTERNAL_HOSTNAME"]
mcp = FastMCP(
    "Template",
    stateless_http=True,
    transport_security=TransportSecuritySettings(
        enable_dns_rebinding_protection=True, allowed_hosts=[hostname], allowed_origins=[f"https://{hostname}"]
    ),
)


@mcp.tool()
def hello(name: str) -> str:
    """Say hello."""
    return f"Hello, {name}!"


@mcp.custom_route("/health", methods=["GET"])
async def health(request: Request) -> JSONResponse:
    return JSONResponse({"status": "ok"})


class BearerAuth(BaseHTTPMiddleware):
    async def dispatch(self, request, call_next):
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        if request.url.path != "/health" and not hmac.compare_digest(given, os.environ["MCP_API_TOKEN"]):
            return JSONResponse({"error": "Unauthorized"}, 401, headers={"WWW-Authenticate": "Bearer"})
        return await call_next(request)


app = mcp.streamable_http_app()
app.add_middleware(BearerAuth)

if __name__ == "__main__":
    uvicorn.run(app, host="0.0.0.0", port=int(os.environ.get("PORT", "10000")))
'''
BLUEPRINT = """
services:
  - type: web
    name: mcp-server-python
    runtime: python
    plan: free
    buildCommand: pip install -r requirements.txt
    startCommand: python server.py
    healthCheckPath: /health
    autoDeploy: false
    envVars:
      - key: MCP_API_TOKEN
        generateValue: true
      - key: PORT
        value: "10000"
"""


@pytest.mark.install
def test_a_repository_made_for_render_deploys_without_an_edit(tmp_path: Path) -> None:
    folder = tmp_path / "template"
    folder.mkdir()
    files = {"server.py": SERVER, "render.yaml": BLUEPRINT, "requirements.txt": "mcp<2\nuvicorn\n"}
    for name, content in files.items():
        (folder / name).write_text(content)
    with host(tmp_path / "data") as running:
        done = running.portway("deploy", folder, "-o", "json")
        assert done.returncode == 0, done.stderr
        assert "`PORT` has no effect here: the host sets it" in done.stderr
        assert "the app's own token is MCP_API_TOKEN" in done.stderr
        made = json.loads(done.stdout)
        assert made["app"] == "mcp-server-python"
        told = running.call("mcp-server-python", "hello", made["token"], name="Ada")
        assert told["result"] == "Hello, Ada!"
        assert "upstreamToken: MCP_API_TOKEN" in running.portway("config", "mcp-server-python").stdout
