"""A proxy that leads out of a network (CONNECT), and knows every name as this machine."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass
class ConnectProxy:
    """`url` has the user and password that it asks for; `asked` are the hosts and ports it was asked for."""

    url: str
    asked: list[str] = field(default_factory=list)


@contextlib.contextmanager
def connect_proxy(credential: str = "dXNlcjpwYXNz") -> Iterator[ConnectProxy]:
    """Run the proxy while the block lasts. It wants this credential, which is that of `user:pass`."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            words = self.rfile.readline().decode().split()
            lines = [line.decode().strip() for line in iter(self.rfile.readline, b"\r\n")]
            if f"Proxy-Authorization: Basic {credential}" not in lines:
                wanted = b"Proxy-Authenticate: Basic realm=network\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
                self.wfile.write(b"HTTP/1.1 407 Proxy Authentication Required\r\n" + wanted)
                return
            proxy.asked.append(words[1])
            with socket.create_connection(("127.0.0.1", int(words[1].rpartition(":")[2]))) as there:
                self.wfile.write(b"HTTP/1.1 200 Connected\r\n\r\n")
                back = threading.Thread(target=_pass_on, args=(there, self.connection))
                back.start()
                _pass_on(self.connection, there)
                back.join()

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        proxy = ConnectProxy(f"http://user:pass@127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield proxy
        finally:
            server.shutdown()
            thread.join()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
