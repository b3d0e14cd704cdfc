"""Opens the public ports (443, 80, QUIC), which Caddy inherits."""

import errno
import socket
from dataclasses import dataclass

from portway.host.launcher_handover import Handover
from portway.host.systemd import take_sockets
from portway.host.tls.https_settings import HttpsError
from portway.http.bind import BACKLOG

_NAMES = ("https", "quic", "http")


@dataclass(frozen=True, slots=True)
class PublicPorts:
    """Listening sockets for HTTPS over TCP and QUIC, on the same port, and for HTTP."""

    https: socket.socket
    quic: socket.socket
    http: socket.socket

    @property
    def descriptors(self) -> tuple[int, int, int]:
        return self.https.fileno(), self.quic.fileno(), self.http.fileno()

    @property
    def https_port(self) -> int:
        return int(self.https.getsockname()[1])

    @property
    def http_port(self) -> int:
        return int(self.http.getsockname()[1])

    @property
    def left(self) -> dict[str, int]:
        """What a launcher leaves to its successor."""
        return dict(zip(_NAMES, self.descriptors, strict=True))

    def close(self) -> None:
        """Let no more clients connect."""
        for each in (self.https, self.quic, self.http):
            each.close()


def open_ports(https_port: int, http_port: int, left: Handover | None = None) -> PublicPorts:
    """Open both ports on every address of this machine, unless a launcher or systemd has. Raises `HttpsError`."""
    if left is not None and left.descriptors.keys() >= {*_NAMES}:
        return PublicPorts(*(socket.socket(fileno=left.descriptors[name]) for name in _NAMES))
    if inherited := take_sockets():
        return _of_systemd([socket.socket(fileno=descriptor) for descriptor in inherited], https_port, http_port)
    https = _open(https_port, "--https-port", socket.SOCK_STREAM)
    quic = _open(int(https.getsockname()[1]), "--https-port", socket.SOCK_DGRAM)
    return PublicPorts(https, quic, _open(http_port, "--http-port", socket.SOCK_STREAM))


def _of_systemd(inherited: list[socket.socket], https_port: int, http_port: int) -> PublicPorts:
    kinds = (https_port, socket.SOCK_STREAM), (https_port, socket.SOCK_DGRAM), (http_port, socket.SOCK_STREAM)
    known = {(each.getsockname()[1], each.type): each for each in inherited}
    if len(inherited) != len(kinds) or known.keys() != {*kinds}:
        raise HttpsError(
            f"portway.socket does not have ListenStream={https_port}, ListenDatagram={https_port} and "
            f"ListenStream={http_port}: write it anew by `portway up --install`"
        )
    return PublicPorts(*(known[kind] for kind in kinds))


def _open(port: int, option: str, kind: socket.SocketKind) -> socket.socket:
    """Open a port for IPv6 and IPv4, or for IPv4 alone where the kernel has nothing else."""
    try:
        return _listen(socket.AF_INET6, "::", port, kind)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EADDRINUSE):
            raise HttpsError(_sentence(port, option, kind, error)) from None
    try:
        return _listen(socket.AF_INET, "0.0.0.0", port, kind)  # noqa: S104  # a public port
    except OSError as error:
        raise HttpsError(_sentence(port, option, kind, error)) from None


def _listen(family: socket.AddressFamily, address: str, port: int, kind: socket.SocketKind) -> socket.socket:
    opened = socket.socket(family, kind)
    try:
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        if kind == socket.SOCK_STREAM:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind((address, port))
        if kind == socket.SOCK_STREAM:
            opened.listen(BACKLOG)
    except OSError:
        opened.close()
        raise
    return opened


def _sentence(port: int, option: str, kind: socket.SocketKind, error: OSError) -> str:
    transport = "TCP" if kind == socket.SOCK_STREAM else "UDP"
    if error.errno == errno.EACCES:
        return (
            f"{transport} port {port} needs privileges: run `sudo sysctl -w net.ipv4.ip_unprivileged_port_start=80` "
            f"once, install the host with `portway up --install --system`, or give {option} one above 1023"
        )
    if error.errno == errno.EADDRINUSE:
        return f"{transport} port {port} is in use: free it, or give another {option}"
    return f"{transport} port {port} cannot be opened: {error.strerror}"
