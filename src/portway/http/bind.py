"""Opens the listening socket (TCP, Unix, inherited), or says in one sentence why not: a port in use, no right to it, a
stale socket.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import sys
from dataclasses import dataclass

BACKLOG = 1024
_PATH_LIMIT = 107  # bytes of sun_path on Linux


class ListenError(Exception):
    """The address cannot be listened on. The message names the address and what to do."""


@dataclass(frozen=True, slots=True)
class Bind:
    """Where to listen: a TCP address (`port` 0: any free one), a Unix socket (mode 0600), or an inherited socket."""

    host: str = "127.0.0.1"
    port: int = 8080
    uds: str | None = None
    fd: int | None = None

    def open(self) -> socket.socket:
        """Return a listening socket. Raise ListenError."""
        if self.fd is not None:
            sock = _adopt(self.fd)
        else:
            sock = _open_unix(self.uds) if self.uds is not None else self._open_tcp()
        sock.listen(BACKLOG)
        sock.setblocking(False)
        return sock

    def _open_tcp(self) -> socket.socket:
        try:
            found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        except OSError as error:
            raise ListenError(
                f"Cannot listen on {self.host!r}: it is not an address of this machine. Use 127.0.0.1 or 0.0.0.0."
            ) from error
        family, _, _, _, address = min(found, key=lambda info: info[0] != socket.AF_INET)
        # The protocol is named because asyncio turns off Nagle's algorithm only where it sees TCP.
        sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(address)
        except OSError as error:
            sock.close()
            raise ListenError(self._tcp_sentence(error)) from error
        return sock

    def _tcp_sentence(self, error: OSError) -> str:
        if error.errno == errno.EADDRINUSE:
            return f"Port {self.port} on {self.host} is in use. Choose another with --port or PORT, or free this one."
        if error.errno == errno.EACCES:
            return f"Port {self.port} needs privileges. Choose one above 1023 with --port or PORT."
        return f"Cannot listen on {self.host}:{self.port}: {error.strerror}. Use another --host or --port."


def url_of(sock: socket.socket) -> str:
    """Return the address as a client on this machine writes it: `http://127.0.0.1:8080` or `unix:/run/app.sock`."""
    address = sock.getsockname()
    if isinstance(address, str):
        return f"unix:{address}"
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address[0], address[0])  # noqa: S104 - a comparison, not a bind
    return f"http://[{host}]:{address[1]}" if ":" in host else f"http://{host}:{address[1]}"


def _adopt(fd: int) -> socket.socket:
    try:
        return socket.socket(fileno=fd)
    except OSError as error:
        raise ListenError(f"File descriptor {fd} is not a socket: {error.strerror}. Pass a bound one.") from error


def _open_unix(path: str) -> socket.socket:
    if sys.platform == "win32":
        raise ListenError("Unix sockets are not supported on Windows. Use --host and --port.")
    if len(os.fsencode(path)) > _PATH_LIMIT:
        raise ListenError(f"The socket path {path} is longer than {_PATH_LIMIT} bytes. Choose a shorter directory.")
    _remove_stale(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(path)
        os.chmod(path, 0o600)  # nobody can connect before it listens
    except OSError as error:
        sock.close()
        raise ListenError(
            f"Cannot make the socket {path}: {error.strerror}. Check that its directory exists and is writable."
        ) from error
    return sock


def _remove_stale(path: str) -> None:
    """Remove the socket of a server that was killed. Raise ListenError if something else is at `path`."""
    if sys.platform == "win32":
        return
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise ListenError(f"{path} exists and is not a socket. Remove it, or choose another path.")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except OSError:  # a full backlog: a process listens
            pass
    raise ListenError(f"Another process listens on the socket {path}. Stop it, or choose another path.")
