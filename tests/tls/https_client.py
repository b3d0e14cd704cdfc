"""HTTPS to a host on this machine by any name, without DNS."""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Mapping
from pathlib import Path


class NamedConnection(http.client.HTTPSConnection):
    """A connection to 127.0.0.1 that asks for `name`."""

    def __init__(self, name: str, port: int, ca: Path) -> None:
        super().__init__(name, port, timeout=30)
        self._context = ssl.create_default_context(cafile=str(ca))

    def connect(self) -> None:
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=self.timeout)
        self.sock = self._context.wrap_socket(plain, server_hostname=self.host)

    @property
    def serial(self) -> str:
        """The number of the certificate that the host has shown."""
        found = self.sock.getpeercert()
        return str(found["serialNumber"]) if found else ""


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
