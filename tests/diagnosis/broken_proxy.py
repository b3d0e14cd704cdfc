"""A proxy that breaks what a rule tells it to, in front of a server that works; and certificates for it."""

from __future__ import annotations

import contextlib
import datetime as dt
import http.client
import ipaddress
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: Mapping[str, str]
    body: str


@dataclass(frozen=True)
class Reply:
    """A reply; one that is `held` ends when the client leaves or the proxy does: before its head, if that is empty."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = ""
    held: bool = False


Rule = Callable[[Request], Reply | None]
"""What breaks: the reply to a request, or None to pass it on."""


@contextlib.contextmanager
def broken(
    rule: Rule, upstream: str = "", address: tuple[str, int] = ("127.0.0.1", 0), tls: ssl.SSLContext | None = None
) -> Iterator[str]:
    """Serve while the block lasts; yield host and port."""
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            size = int(self.headers.get("content-length", "0"))
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Request(self.command, self.path, headers, self.rfile.read(size).decode())
            reply = rule(request) or forwarded(request, upstream)
            if reply.held and not reply.status:
                over.wait(120)
                return
            body = reply.body.encode(errors="surrogateescape")
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            if not reply.held:
                self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            if reply.held:
                self.wfile.flush()
                over.wait(120)

        do_GET = do_POST = do_DELETE = do_OPTIONS = answer  # the names that http.server wants

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(address, Handler)
    server.daemon_threads = True
    server.block_on_close = False
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    serving = threading.Thread(target=server.serve_forever, args=(0.05,))
    serving.start()
    try:
        yield "{}:{}".format(*server.server_address[:2])
    finally:
        over.set()
        server.shutdown()
        serving.join()
        server.server_close()


def forwarded(request: Request, upstream: str) -> Reply:
    kept = {name: value for name, value in request.headers.items() if name != "host"}
    with contextlib.closing(http.client.HTTPConnection(urlsplit(upstream).netloc, timeout=120)) as connection:
        connection.request(request.method, request.path, request.body.encode(), kept)
        reply = connection.getresponse()
        dropped = ("content-length", "transfer-encoding", "connection")
        headers = {name: value for name, value in reply.getheaders() if name.lower() not in dropped}
        return Reply(reply.status, headers, reply.read().decode())


@dataclass(frozen=True)
class Authority:
    """A certificate authority; `certificate` is the file by which clients trust it."""

    folder: Path
    key: ec.EllipticCurvePrivateKey
    certificate: Path

    def tls(self, address: str, begins: float, ends: float) -> ssl.SSLContext:
        """Return the TLS settings of a server at an IP address, its certificate valid from and to so many days on."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
        made = built(address, key, self.key, begins, ends).add_extension(names, critical=False)
        file = self.folder / "server.pem"
        file.write_bytes(pem(key) + made.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context


def authority(folder: Path) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    is_authority = x509.BasicConstraints(ca=True, path_length=0)
    made = built("authority", key, key, -1, 100).add_extension(is_authority, critical=True)
    file = folder / "authority.pem"
    file.write_bytes(made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    return Authority(folder, key, file)


def built(
    name: str, key: ec.EllipticCurvePrivateKey, signer: ec.EllipticCurvePrivateKey, begins: float, ends: float
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + dt.timedelta(days=begins))
        .not_valid_after(now + dt.timedelta(days=ends))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )


def pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
