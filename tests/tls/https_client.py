"""HTTPS to a host on this machine by any name, without DNS."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Mapping
from pathlib import Path

META = {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}
HEADERS = {
    "Content-Type": "application/json",
    "Accept": "application/json, text/event-stream",
    "MCP-Protocol-Version": "2026-07-28",
    "Mcp-Method": "tools/call",
    "Mcp-Name": "get_weather",
}


class NamedConnection(http.client.HTTPSConnection):
    """A connection to 127.0.0.1 that asks for `name`."""

    def __init__(self, name: str, port: int, ca: Path) -> None:
        super().__init__(name, port, timeout=120)
        self._ca = ca

    def connect(self) -> None:
        context = ssl.create_default_context(cafile=str(self._ca))
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=self.timeout)
        self.sock = context.wrap_socket(plain, server_hostname=self.host)

    @property
    def serial(self) -> str:
        """The number of the certificate that the host has shown."""
        found = self.sock.getpeercert()
        return str(found["serialNumber"]) if found else ""


def call(connection: http.client.HTTPConnection, path: str, token: str, city: str = "Oslo") -> int:
    """Call the tool get_weather; return the status, after a look at the result of a call that succeeds."""
    headers = HEADERS | {"Authorization": f"Bearer {token}"}
    params = {"name": "get_weather", "arguments": {"city": city}, "_meta": META}
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    connection.request("POST", path, json.dumps(message).encode(), headers)
    response = connection.getresponse()
    body = response.read()
    if response.status == 200:
        assert json.loads(body)["result"]["structuredContent"]["city"] == city
    return response.status


def get(
    name: str, port: int, path: str, ca: Path, headers: Mapping[str, str] = {}
) -> tuple[int, http.client.HTTPMessage, bytes]:
    """Ask for a path over a connection of its own; return status, headers and body."""
    connection = NamedConnection(name, port, ca)
    try:
        connection.request("GET", path, headers=dict(headers))
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


def serial_of(name: str, port: int, ca: Path) -> str:
    """Return the number of the certificate that the host shows for a name."""
    connection = NamedConnection(name, port, ca)
    try:
        connection.connect()
        return connection.serial
    finally:
        connection.close()
