"""A host with the operator's own certificate: `portway up --cert FILE --key FILE`."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from tests.host.running_host import Host, host
from tests.host.test_git_push import add_user
from tests.support import ROOT, eventually
from tests.tls.certificates import write_pair
from tests.tls.https_client import HEADERS, NamedConnection, get, serial_of
from tests.tls.https_load import https_load

NAMES = ("localhost", "x.localhost")


@contextmanager
def https_host(
    data: Path, certificate: Path, key: Path, *folders: Path, variables: Mapping[str, str] = {}
) -> Iterator[tuple[Host, int]]:
    """Run a host with this pair on free ports; give it and its HTTPS port."""
    options = ["--cert", str(certificate), "--key", str(key), "--https-port", "0", "--http-port", "0"]
    with host(data, folders, options=options, variables=variables) as running:
        yield running, int(running.ready["url"].removeprefix("https://localhost:"))


def caddy(running: Host) -> int:
    return next((pid for pid, line in running.processes().items() if "caddy run" in line), 0)


def go_settings(running: Host) -> list[str]:
    """Return what the environment of Caddy says to Go."""
    pid = eventually(lambda: caddy(running))
    return sorted(each for each in Path(f"/proc/{pid}/environ").read_text().split("\0") if each.startswith("GO"))


@pytest.mark.slow
def test_a_host_with_its_own_certificate_serves_https_also_after_its_caddy_is_killed(tmp_path: Path) -> None:
    certificate, key = write_pair(tmp_path / "pair", *NAMES)
    with https_host(tmp_path / "data", certificate, key) as (running, port):
        status, headers, body = get("localhost", port, "/_portway/health", certificate)
        assert (status, body) == (200, b"ok\n")
        assert headers["strict-transport-security"] == "max-age=31536000"
        assert headers["alt-svc"].startswith(f'h3=":{port}"')
        assert get("x.localhost", port, "/mcp", certificate)[0] == 401
        assert get("localhost", port, "/", certificate, {"Host": "evil.example"})[0] == 421
        config = running.paths.caddy_config.read_text()
        plain = http.client.HTTPConnection("127.0.0.1", json.loads(config)["apps"]["http"]["http_port"], timeout=10)
        plain.request("GET", "/x/mcp?y=1", headers={"Host": "x.localhost"})
        moved = plain.getresponse()
        assert (moved.status, moved.headers["location"]) == (308, f"https://x.localhost:{port}/x/mcp?y=1")
        plain.request("GET", "/", headers={"Host": "[::1]:8080"})
        assert plain.getresponse().headers["location"] == f"https://[::1]:{port}/"
        plain.close()
        assert any("portway: --port has no effect beside HTTPS" in line for line in running.child.lines)
        assert stat.S_IMODE(running.paths.tls.stat().st_mode) == 0o700
        assert stat.S_IMODE(running.paths.caddy_socket.stat().st_mode) == 0o600
        assert stat.S_IMODE(running.paths.web_socket.stat().st_mode) == 0o600
        threads = min(4, max(1, len(os.sched_getaffinity(0)) // 2))
        assert go_settings(running) == ["GOGC=300", f"GOMAXPROCS={threads}"]
        if os.geteuid() == 0:  # others may not read it
            assert Path(f"/proc/{caddy(running)}/timerslack_ns").read_text() == "1000000\n", "Go wakes threads in vain"
            assert Path(f"/proc/{running.process('gate')}/timerslack_ns").read_text() == "50000\n"
        os.kill(caddy(running), signal.SIGKILL)
        assert get("localhost", port, "/_portway/health", certificate)[0] == 200, (
            "a connection waits for the next Caddy"
        )


@pytest.mark.slow
def test_what_the_user_says_to_go_goes_to_caddy(tmp_path: Path) -> None:
    certificate, key = write_pair(tmp_path / "pair", *NAMES)
    with https_host(tmp_path / "data", certificate, key, variables={"GOMAXPROCS": "7", "GOGC": "50"}) as (running, _):
        assert go_settings(running) == ["GOGC=50", "GOMAXPROCS=7"]


@pytest.mark.slow
def test_a_chunked_body_that_is_no_http_is_the_clients_fault_and_a_gate_that_is_away_is_not(tmp_path: Path) -> None:
    certificate, key = write_pair(tmp_path / "pair", *NAMES)
    with https_host(tmp_path / "data", certificate, key) as (running, port):
        token = add_user(running, "ann", "viewer")
        for body in (
            b"zz\r\n",
            b"\r\n",
            b"3\r\nabcd\r\n",
            b"f" * 20 + b"\r\n",
            b"0\r\nno trailer\r\n\r\n",
            b"1;" + b"x" * 5000,
        ):
            connection = NamedConnection("localhost", port, certificate)
            connection.putrequest("POST", "/_portway/mcp")
            for name, value in (HEADERS | {"Authorization": f"Bearer {token}", "Transfer-Encoding": "chunked"}).items():
                connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            assert (answer.status, answer.read()) == (400, b"The request is not valid HTTP/1.1."), body
            connection.close()
        connection = NamedConnection("localhost", port, certificate)
        connection.connect()  # the certificate comes from the gate
        os.kill(running.child.process.pid, signal.SIGSTOP)  # so that it starts no other gate
        try:
            running.paths.web_socket.unlink()
            running.kill("gate")
            connection.request("GET", "/_portway/health")
            answer = connection.getresponse()
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
            assert b"The host is restarting; try again soon." in answer.read()
        finally:
            os.kill(running.child.process.pid, signal.SIGCONT)
            connection.close()


@pytest.mark.slow
def test_a_new_certificate_is_used_and_one_that_cannot_be_is_refused_in_a_sentence(tmp_path: Path) -> None:
    certificate, key = write_pair(tmp_path / "pair", *NAMES)
    first, other = tmp_path / "first.pem", tmp_path / "other"
    shutil.copy(certificate, first)
    with https_host(tmp_path / "data", certificate, key) as (running, port):
        for names, days, passphrase, sentence in (
            (["example.com"], 3, b"", "is for example.com, not for localhost"),
            (NAMES, -1, b"", "has expired on 2"),
            (NAMES, 3, b"x", "holds no private key in PEM form without a passphrase"),
            ([], 3, b"", "has no alternative names, which clients need"),
        ):
            write_pair(tmp_path / "pair", *names, days=days, passphrase=passphrase)
            running.child.wait_for(f"the new certificate is not used, the one before stays: .* {sentence}")
        write_pair(tmp_path / "pair", *NAMES, begins=1)
        running.child.wait_for("the new certificate is not used, .* is valid from 2.* on: give one")
        write_pair(tmp_path / "pair", *NAMES, curve=ec.SECP256K1())
        running.child.wait_for("the key .* is on the curve secp256k1, which clients do not know")
        shutil.copy(write_pair(other, *NAMES)[0], certificate)
        running.child.wait_for("the key .* does not belong to the certificate")
        certificate.write_text("nothing")
        running.child.wait_for("holds no certificate in PEM form")
        certificate.unlink()
        running.child.wait_for("cannot read .*cert.pem: No such file or directory")
        os.kill(caddy(running), signal.SIGKILL)
        assert get("localhost", port, "/_portway/health", first)[0] == 200
        running.paths.web_socket.unlink()
        eventually(running.paths.web_socket.exists)
        assert get("localhost", port, "/_portway/health", first)[0] == 200
        write_pair(tmp_path / "pair", *NAMES)
        serial = x509.load_pem_x509_certificate(certificate.read_bytes()).serial_number
        running.child.wait_for("the new certificate .* is in use")
        assert int(serial_of("localhost", port, certificate), 16) == serial
        os.kill(caddy(running), signal.SIGKILL)
        assert int(serial_of("localhost", port, certificate), 16) == serial


@pytest.mark.slow
def test_no_call_is_lost_while_the_certificate_changes(tmp_path: Path) -> None:
    certificate, key = write_pair(tmp_path / "pair", *NAMES)
    others = [write_pair(tmp_path / f"pair{number}", *NAMES) for number in range(3)]
    trusted = tmp_path / "trusted.pem"
    trusted.write_bytes(b"".join(pair[0].read_bytes() for pair in ((certificate, key), *others)))
    with https_host(tmp_path / "data", certificate, key, ROOT / "examples" / "weather") as (running, port):
        with https_load("localhost", port, trusted, "/weather/mcp", running.ready["token"]) as load:
            for count, (other, its_key) in enumerate(others, 2):
                shutil.copy(other, certificate)
                shutil.copy(its_key, key)
                eventually(lambda count=count: len(load.serials) == count)
                load.more()
        assert load.failures == {}
