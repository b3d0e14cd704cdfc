"""A host behind another proxy that does TLS: nginx, as docs/https.md configures it, and a program of Express."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from http.client import HTTPResponse, HTTPSConnection
from pathlib import Path

import pytest

from tests.host.running_host import host
from tests.host.test_public_urls import listening
from tests.oauth.providers import NODE, node_program
from tests.support import ROOT, eventually, started
from tests.tls.certificates import write_pair
from tests.tls.https_client import HEADERS, META

pytestmark = pytest.mark.slow
DOMAIN, CLIENT = "mcp.example.com", "127.0.0.2"
SERVER = """
import asyncio
import os

from portway import Context, Server

server = Server("proxied")


@server.tool
async def told(ctx: Context) -> dict[str, str]:
    return {name: value for name, value in ctx.headers.items() if name.startswith("x-forwarded")}


@server.tool
async def count(ctx: Context) -> str:
    await ctx.report_progress(1, 2)
    while not os.path.exists(os.path.expanduser("~/go")):
        await asyncio.sleep(0.01)
    return "counted"
"""
NGINX = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr;
events {{}}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port} ssl;
    ssl_certificate {certificate};
    ssl_certificate_key {key};
    location / {{
      proxy_pass {upstream};
      {documented}
    }}
  }}
}}
"""
Proxy = Callable[[Path, str, Path, Path], AbstractContextManager[int]]


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def nginx(folder: Path, upstream: str, certificate: Path, key: Path) -> Iterator[int]:
    """Run nginx with the lines of the docs; give its port."""
    found = re.search(r"In nginx, that is\n\n +```\n(.*?) +```", (ROOT / "docs" / "https.md").read_text(), re.DOTALL)
    assert found
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    written = folder / "nginx.conf"
    written.write_text(
        NGINX.format(
            folder=folder, port=port, certificate=certificate, key=key, upstream=upstream, documented=found[1].strip()
        )
    )
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    assert program is not None, "install nginx"
    command = ("/bin/sh", "-c", 'echo starts; exec "$@"', "sh", program, "-p", folder, "-c", written)
    with started(*command, ready="starts"):
        eventually(lambda: listens(port))
        yield port


@contextlib.contextmanager
def express(folder: Path, upstream: str, certificate: Path, key: Path) -> Iterator[int]:
    """Run a proxy of Express; give its port."""
    command = (node_program(), "express_proxy.mjs", upstream, certificate, key)
    with started(*command, ready=r"^(\{.*\})$", cwd=NODE) as child:
        assert child.match
        yield json.loads(child.match[1])["port"]


def post(port: int, ca: Path, token: str, tool: str) -> tuple[HTTPSConnection, HTTPResponse]:
    """Call a tool at the proxy, from another address than the proxy's, with claims of another one still."""
    connection = HTTPSConnection("127.0.0.1", port, timeout=120)
    plain = socket.create_connection(("127.0.0.1", port), 30, source_address=(CLIENT, 0))
    connection.sock = ssl.create_default_context(cafile=str(ca)).wrap_socket(plain, server_hostname=DOMAIN)
    params = {"name": tool, "arguments": {}, "_meta": META | {"progressToken": 1}}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
    claims = {"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "http", "X-Forwarded-Host": "evil.example"}
    own = {"Host": DOMAIN, "Authorization": f"Bearer {token}", "Mcp-Name": tool}
    connection.request("POST", "/proxied/mcp", body, HEADERS | claims | own)
    return connection, connection.getresponse()


@pytest.mark.parametrize("proxy", [nginx, express])
def test_calls_streams_and_the_clients_address_come_through_another_proxy(proxy: Proxy, tmp_path: Path) -> None:
    certificate, key = write_pair(tmp_path / "pair", DOMAIN)
    folder = tmp_path / "proxied"
    folder.mkdir()
    (folder / "server.py").write_text(SERVER)
    options = ["--domain", DOMAIN, "--behind-proxy", "127.0.0.1/32"]
    with (
        host(tmp_path / "data", [folder], options=options) as running,
        proxy(tmp_path, listening(running), certificate, key) as port,
    ):
        assert running.ready["url"] == f"https://{DOMAIN}"
        token = running.ready["token"]
        connection, answer = post(port, certificate, token, "told")
        assert answer.status == 200
        told = json.loads(answer.read())["result"]["structuredContent"]
        connection.close()
        assert told["x-forwarded-for"] == CLIENT
        assert told["x-forwarded-proto"] == "https"
        assert told["x-forwarded-host"] == DOMAIN
        connection, answer = post(port, certificate, token, "count")
        first = answer.readline() + answer.readline() + answer.readline()
        assert b"notifications/progress" in first, "an event comes through while the call runs"
        (running.home("proxied") / "go").touch()
        assert b"counted" in answer.read()
        connection.close()
        connection, answer = post(port, certificate, "wrong", "told")
        assert answer.status == 401
        connection.close()
