"""The hosts that this user is logged in to: a file with the address of each and the token for it, mode 0600."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import tempfile
from ipaddress import ip_address
from urllib.parse import urlsplit

import click
import msgspec

from portway.client.oauth.storage import config_folder

_MOST_BYTES = 1_000_000


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
    path = login_file()
    try:
        with open(path, "rb") as file:
            mode, content = os.fstat(file.fileno()).st_mode, file.read(_MOST_BYTES)
        if sys.platform != "win32" and stat.S_IMODE(mode) & 0o077:
            raise click.ClickException(f"{path} holds tokens and others may read it: run `chmod 600 {path}`")
        return msgspec.json.decode(content, type=_File).hosts
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise click.ClickException(f"{path} cannot be read: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise click.ClickException(f"{path} is damaged: remove it, and log in again by `portway login URL`") from None


def write_logins(logins: dict[str, Login]) -> None:
    """Replace the file. Raises `ClickException`."""
    path = login_file()
    folder = os.path.dirname(path)
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        descriptor, draft = tempfile.mkstemp(dir=folder, prefix="hosts-")  # mode 0600
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(msgspec.json.format(msgspec.json.encode(_File(logins))) + b"\n")
            os.replace(draft, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(draft)
            raise
    except OSError as error:
        raise click.ClickException(f"{path} cannot be written: {error.strerror}") from None


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
