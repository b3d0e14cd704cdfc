"""The hosts that this user is logged in to: their file (mode 0600), and how an address is read and refused."""

from __future__ import annotations

import contextlib
import os
from ipaddress import ip_address
from urllib.parse import urlsplit

import click
import msgspec

from portway.client.errors import ClientError
from portway.client.private_file import config_folder, read_private, write_private


class Login(msgspec.Struct, frozen=True, omit_defaults=True):
    """A host elsewhere. `url` has no path. `insecure`: its user agreed to send the token in clear text."""

    url: str
    token: str
    insecure: bool = False


class _File(msgspec.Struct):
    hosts: dict[str, Login] = {}


def login_file() -> str:
    """Return the path of the file: under XDG_CONFIG_HOME, or where the system keeps what programs remember."""
    return os.path.join(config_folder(), "hosts.json")


def read_logins() -> dict[str, Login]:
    """Return the logins by name. Raises `ClickException` for a file that others can read, or that is damaged."""
    try:
        found = read_private(login_file(), _File)
    except ClientError as error:
        raise click.ClickException(str(error)) from None
    return {} if found is None else found.hosts


def write_logins(logins: dict[str, Login]) -> None:
    """Replace the file. Raises `ClickException`."""
    try:
        write_private(login_file(), _File(logins))
    except ClientError as error:
        raise click.ClickException(str(error)) from None


def host_url(text: str) -> str:
    """Return the address of a host in its one form, https:// where none is given. Raises `ClickException`."""
    try:
        parts = urlsplit(text if "://" in text else f"https://{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    shown = text if parts.username is None else "that"
    is_address = parts.scheme in ("http", "https") and text.isascii() and text.isprintable() and parts.username is None
    if not host or not is_address or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise click.ClickException(f"{shown} is no address of a host: give it alone, as in https://mcp.example.com")
    name = f"[{host}]" if ":" in host else host
    usual = {"http": 80, "https": 443}[parts.scheme]
    return f"{parts.scheme}://{name}" + (f":{port}" if port and port != usual else "")


def refuse_clear_text(url: str) -> None:
    """Raise `ClickException` unless a token that is sent to `url` is encrypted, or stays on this machine."""
    host = urlsplit(url).hostname or ""
    is_here = host == "localhost" or host.endswith(".localhost")
    with contextlib.suppress(ValueError):
        is_here = is_here or ip_address(host).is_loopback
    if url.startswith("http:") and not is_here:
        raise click.ClickException(
            f"{url} would get the token in clear text: give it as https://, or log in with --insecure where nobody "
            "else is on the network"
        )
