"""What an app is told of its clients and of itself when Caddy stands in front of the gate."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.gate.running_gate import modern
from tests.host.running_host import host
from tests.host.test_public_urls import plain
from tests.tls.certificates import write_pair
from tests.tls.https_client import NamedConnection

DOMAIN, CUSTOM = "mcp.example.com", "tools.example.org"


@pytest.mark.slow
def test_an_app_behind_caddy_knows_its_public_url_and_who_calls_whatever_the_client_claims(tmp_path: Path) -> None:
    certificate, key = write_pair(tmp_path / "pair", DOMAIN, f"*.{DOMAIN}", CUSTOM)
    options = ["--domain", DOMAIN, "--cert", certificate, "--key", key, "--https-port", "0", "--http-port", "0"]
    with host(tmp_path / "data", options=[*map(str, options), "--trust-all-apps"]) as running:
        port = int(running.ready["url"].removeprefix(f"https://{DOMAIN}:"))
        assert running.portway("deploy", plain(tmp_path / "plain"), "--public").returncode == 0
        added = running.portway("domain", "add", "plain", CUSTOM)
        assert added.stdout == f"https://{CUSTOM}:{port}/mcp\n"
        claims = {"x-forwarded-for": "203.0.113.7", "x-forwarded-proto": "http", "x-forwarded-host": "evil.example"}
        for name, path in ((DOMAIN, "/plain/mcp"), (f"plain.{DOMAIN}", "/mcp"), (CUSTOM, "/mcp")):
            body, of_call = modern(name="whoami")
            headers = {"content-type": "application/json"} | claims | {k.decode(): v.decode() for k, v in of_call}
            connection = NamedConnection(name, port, certificate)
            connection.request("POST", path, body, headers)
            response = connection.getresponse()
            assert response.status == 200, response.read()
            told = json.loads(response.read())["result"]["structuredContent"]
            connection.close()
            assert told["headers"]["host"] == f"plain.{DOMAIN}"
            assert told["headers"]["x-forwarded-host"] == f"{name}:{port}"
            assert told["headers"]["x-forwarded-proto"] == "https"
            assert told["headers"]["x-forwarded-for"] == "127.0.0.1"
            assert told["environment"]["RENDER_EXTERNAL_URL"] == f"https://plain.{DOMAIN}:{port}"
