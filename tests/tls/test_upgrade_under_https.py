"""`portway upgrade` of a host that serves HTTPS."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.host.test_upgrade import changed_wheel, upgrade
from tests.support import ROOT
from tests.tls.certificates import write_pair
from tests.tls.https_load import https_load
from tests.tls.test_own_certificate import caddy, https_host


@pytest.mark.slow
def test_an_upgrade_behind_caddy_loses_no_call_and_keeps_caddy(tmp_path: Path) -> None:
    certificate, key = write_pair(tmp_path / "pair", "localhost")
    with https_host(tmp_path / "data", certificate, key, ROOT / "examples" / "weather") as (running, port):
        before = caddy(running)
        with https_load("localhost", port, certificate, "/weather/mcp", running.ready["token"]) as load:
            done = upgrade(running, changed_wheel(tmp_path, "0.2.0"))
            assert done.returncode == 0, done.stderr + "".join(running.child.lines)
            load.more()
        assert load.failures == {}
        assert caddy(running) == before
