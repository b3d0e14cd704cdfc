"""Certificates by ACME, from Pebble: `portway up --domain NAME`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import ssl
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from portway.http.http_client import HttpClient
from tests.host.running_host import Host, host
from tests.support import ROOT, eventually
from tests.tls.authority import Authority, authority
from tests.tls.free_ports import free_ports
from tests.tls.https_client import get
from tests.tls.https_load import https_load

pytestmark = pytest.mark.slow
DOMAIN = "mcp.example.com"
WEATHER = ROOT / "examples" / "weather"


@contextlib.contextmanager
def certified_host(
    tmp_path: Path, folders: Sequence[Path] = (), *, seconds: int = 3600, starts: bool = True
) -> Iterator[tuple[Host, Authority, int]]:
    """Run a host with an authority, started or not; give both and the HTTPS port."""
    https_port, http_port = free_ports(2)
    with authority(tmp_path / "authority", http_port, https_port, seconds=seconds) as ca:
        if starts:
            ca.start()
        ports = ["--https-port", str(https_port), "--http-port", str(http_port)]
        acme = ["--acme-server", ca.directory, "--acme-ca", str(ca.vouching), "--acme-email", "ops@example.com"]
        with host(tmp_path / "data", folders, options=["--domain", DOMAIN, *ports, *acme]) as running:
            yield running, ca, https_port


def kind(failure: str) -> str:
    return failure.partition(":")[0]


def is_served(name: str, port: int, ca: Authority) -> bool:
    with contextlib.suppress(OSError):
        return get(name, port, "/_portway/health", ca.root)[0] in (200, 401)
    return False


def test_domain_and_apps_get_certificates_and_a_name_of_nobody_asks_for_none(tmp_path: Path) -> None:
    with certified_host(tmp_path, [WEATHER]) as (running, ca, port):
        assert running.ready["url"] == f"https://{DOMAIN}:{port}"
        eventually(lambda: is_served(DOMAIN, port, ca))
        with https_load(DOMAIN, port, ca.root, "/weather/mcp", running.ready["token"]) as load:
            eventually(lambda: is_served(f"weather.{DOMAIN}", port, ca))
            with pytest.raises(ssl.SSLError):
                get(f"nobody.{DOMAIN}", port, "/", ca.root)
            load.more()
        assert load.failures == {}
        assert ca.asked_for("weather")
        assert not ca.asked_for("nobody")
        others = [line for line in running.child.lines if not line.startswith("ready ")]
        assert running.ready["token"] not in "".join(others)


def test_certificates_are_renewed_under_load_without_a_lost_call(tmp_path: Path) -> None:
    with certified_host(tmp_path, [WEATHER], seconds=300) as (running, ca, port):
        renew_early(running)
        eventually(lambda: is_served(DOMAIN, port, ca))
        eventually(lambda: is_served(f"weather.{DOMAIN}", port, ca))
        token = running.ready["token"]
        with (
            https_load(DOMAIN, port, ca.root, "/weather/mcp", token) as of_domain,
            https_load(f"weather.{DOMAIN}", port, ca.root, "/mcp", token) as of_app,
        ):
            eventually(lambda: len(of_domain.serials) > 1 and len(of_app.serials) > 1)
            of_domain.more()
            of_app.more()
        assert of_domain.failures == of_app.failures == {}


def test_an_authority_that_is_away_at_the_start_is_asked_again(tmp_path: Path) -> None:
    with certified_host(tmp_path, [WEATHER], starts=False) as (running, ca, port):
        running.child.wait_for(f"portway: caddy: .*{DOMAIN}.*connection refused")
        ca.root.write_bytes(ca.vouching.read_bytes())
        with pytest.raises(OSError):
            get(f"weather.{DOMAIN}", port, "/", ca.root)
        ca.start()
        eventually(lambda: is_served(DOMAIN, port, ca))  # Caddy tries again after a minute
        eventually(lambda: is_served(f"weather.{DOMAIN}", port, ca))


def test_an_authority_that_is_away_at_a_renewal_is_asked_again_and_no_call_is_lost(tmp_path: Path) -> None:
    name = f"weather.{DOMAIN}"
    with certified_host(tmp_path, [WEATHER], seconds=300) as (running, ca, port):
        renew_early(running)
        eventually(lambda: is_served(name, port, ca))
        with https_load(name, port, ca.root, "/mcp", running.ready["token"]) as load:
            ca.door.close()
            running.child.wait_for(f"portway: caddy: .*{name}.*connection refused")
            load.more()
            assert len(load.serials) == 1
            ca.door.open()
            eventually(lambda: len(load.serials) > 1)  # Caddy tries again after a minute
            load.more()
        assert load.failures == {}


def test_calls_go_on_after_caddy_is_killed(tmp_path: Path) -> None:
    with certified_host(tmp_path, [WEATHER]) as (running, ca, port):
        eventually(lambda: is_served(DOMAIN, port, ca))
        with https_load(DOMAIN, port, ca.root, "/weather/mcp", running.ready["token"]) as load:
            for _ in range(3):
                os.kill(next(pid for pid, line in running.processes().items() if "caddy run" in line), signal.SIGKILL)
                load.more()
        assert set(map(kind, load.failures)) <= {"RemoteDisconnected", "ConnectionResetError", "SSLEOFError"}, (
            "in flight"
        )
        assert sum(load.failures.values()) <= 3 * 4, "at most one of each client"


def test_a_custom_domain_is_added_and_removed_under_load(tmp_path: Path) -> None:
    name = "api.example.org"
    with certified_host(tmp_path, [WEATHER]) as (running, ca, port):
        eventually(lambda: is_served(DOMAIN, port, ca))
        with https_load(DOMAIN, port, ca.root, "/weather/mcp", running.ready["token"]) as load:
            with pytest.raises(ssl.SSLError):
                get(name, port, "/", ca.root)
            assert not ca.asked_for(name)
            added = running.portway("domain", "add", "weather", name)
            assert added.returncode == 0, added.stderr
            eventually(lambda: ca.asked_for(name))  # before a client has
            with https_load(name, port, ca.root, "/mcp", running.ready["token"]) as of_name:
                of_name.more()
            assert of_name.failures == {}
            assert running.portway("domain", "remove", "weather", name).returncode == 0
            assert eventually(lambda: get(name, port, "/", ca.root)[0] == 421)
            load.more()
        assert load.failures == {}


def renew_early(running: Host) -> None:
    """Have Caddy renew a certificate when it has lived a twentieth of its time, not two thirds.

    It renews at once, too, what ends within five of its rounds, which are ten minutes long by themselves.
    """

    async def change() -> list[int]:
        async with HttpClient(f"unix:{running.paths.caddy_socket}") as client:
            found = []
            for name, value in (("renew_interval", b"1000000000"), ("policies/0/renewal_window_ratio", b"0.95")):
                target = f"/config/apps/tls/automation/{name}"
                response = await client.request("POST", target, [(b"content-type", b"application/json")], value)
                found.append(response.status)
        return found

    assert asyncio.run(change()) == [200, 200]
