"""An authority for a test: Pebble, on loopback, for which every name leads to 127.0.0.1."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import ssl
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import eventually
from tests.tls.certificates import write_pair
from tests.tls.free_ports import free_ports


class _Door:
    """A port that leads to another as long as it is open."""

    def __init__(self, port: int, to: int) -> None:
        self._port, self._to = port, to
        self._open: list[socket.socket] = []

    def open(self) -> None:
        listener = socket.create_server(("127.0.0.1", self._port))
        self._open = [listener]
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def close(self) -> None:
        for each in self._open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        self._open = []

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                outer = listener.accept()[0]
                inner = socket.create_connection(("127.0.0.1", self._to))
                self._open += [outer, inner]
                for ends in ((outer, inner), (inner, outer)):
                    threading.Thread(target=_copy, args=ends, daemon=True).start()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


class Authority:
    """One Pebble, which asks a host on `http_port` and `https_port` to prove that it has a name.

    `directory` is its URL, `vouching` the certificate that vouches for that URL, `root` that of what it issues. It
    forgets all when it is restarted, so it is away when its `door` is closed.
    """

    def __init__(self, folder: Path, http_port: int, https_port: int, seconds: int) -> None:
        if shutil.which("pebble") is None:
            pytest.fail("this test needs the Debian package pebble")
        folder.mkdir()
        self._folder = folder
        port, inner, management, names = free_ports(4)
        self.door = _Door(port, inner)
        self.directory = f"https://localhost:{port}/dir"
        self.vouching, key = write_pair(folder / "pebble", "localhost")
        self.root = folder / "root.pem"
        self._management = f"https://localhost:{management}"
        self._names = str(names)
        self._log = folder / "log"
        self._processes: list[subprocess.Popen[bytes]] = []
        config = {
            "listenAddress": f"127.0.0.1:{inner}",
            "managementListenAddress": f"127.0.0.1:{management}",
            "certificate": str(self.vouching),
            "privateKey": str(key),
            "httpPort": http_port,
            "tlsPort": https_port,
            "certificateValidityPeriod": seconds,
        }
        (folder / "config.json").write_text(json.dumps({"pebble": config}))

    def start(self) -> None:
        """Start it, and note the root of what it issues."""
        resolver = f"127.0.0.1:{self._names}"
        off = ["-http01", "", "-https01", "", "-tlsalpn01", "", "-management", ""]
        self._run("pebble-challtestsrv", "-dns01", resolver, "-defaultIPv4", "127.0.0.1", "-defaultIPv6", "", *off)
        self._run("pebble", "-config", str(self._folder / "config.json"), "-dnsserver", resolver)
        context = ssl.create_default_context(cafile=str(self.vouching))

        def root() -> bytes:
            with (
                contextlib.suppress(OSError),
                urllib.request.urlopen(f"{self._management}/roots/0", context=context, timeout=5) as answer,
            ):
                return answer.read()
            return b""

        self.root.write_bytes(eventually(root))
        self.door.open()

    def _run(self, *command: str) -> None:
        with self._log.open("ab") as log:
            environment = os.environ | {"PEBBLE_VA_NOSLEEP": "1"}
            self._processes.append(
                subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
            )

    def stop(self) -> None:
        self.door.close()
        for process in self._processes:
            process.kill()
            process.wait()
        self._processes.clear()

    def asked_for(self, name: str) -> bool:
        """Return whether somebody has asked for a certificate of a name."""
        return name.encode() in self._log.read_bytes()


@contextlib.contextmanager
def authority(folder: Path, http_port: int, https_port: int, *, seconds: int = 3600) -> Iterator[Authority]:
    """Give an authority that is not started, whose certificates are valid for so many seconds."""
    made = Authority(folder, http_port, https_port, seconds)
    try:
        yield made
    finally:
        made.stop()
