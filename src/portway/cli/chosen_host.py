"""Chooses the host that a verb acts on (--on, --data, PORTWAY_HOST): one of this machine, or one elsewhere that this
user is logged in to.

What is named beats the environment, and that beats what is there: --on, --data, PORTWAY_HOST, PORTWAY_DATA, the host
that runs on this machine by default, the only host elsewhere.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import socket
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from portway.cli.server_login import stored_token_of

if TYPE_CHECKING:
    from portway.host.paths import Paths

MANAGEMENT_PATH = "/_portway/mcp"
USER_TOKEN = "pwu_"  # noqa: S105  # how a user's token begins


@dataclass(frozen=True, slots=True)
class LocalHost:
    """The host of this machine with that data directory, None for the default one."""

    data: str | None = None

    def paths(self) -> Paths:
        """Return where it keeps its sockets. Raises `ClickException`."""
        from portway.host.paths import PathError, locate

        if sys.platform == "win32":
            raise click.ClickException(f"no host runs on Windows: {LOG_IN}")
        try:
            return locate(self.data)
        except PathError as error:
            raise click.ClickException(str(error)) from None

    def runs(self) -> bool:
        """Return whether its control, or at least its gate, answers."""
        try:
            paths = self.paths()
        except click.ClickException:
            return False
        return answers(paths.control_socket) or answers(paths.gate_socket)


@dataclass(frozen=True, slots=True)
class RemoteHost:
    """A host elsewhere, by the address that its users see, and the token of one of them, or of its provider."""

    name: str
    url: str
    token: str = field(repr=False)

    def __str__(self) -> str:
        address = urlsplit(self.url)
        is_told = self.name in (self.url, address.netloc, address.hostname)
        return self.url if is_told else f"{self.name} ({self.url})"


Host = LocalHost | RemoteHost
LOG_IN = "log in to one elsewhere by `portway login URL`"


def answers(path: os.PathLike[str]) -> bool:
    """Return whether someone listens on a Unix socket."""
    with contextlib.suppress(OSError, AttributeError), socket.socket(socket.AF_UNIX) as probe:
        probe.connect(str(path))
        return True
    return False


def choose(on: str | None, data: str | None) -> Host:
    """Return the host that the options or the environment name. Raises `ClickException` when it takes a choice."""
    if on and data:
        raise click.UsageError("--on names a host elsewhere and --data one of this machine: give one of them")
    if on or data:
        return _named(on) if on else LocalHost(data)
    if named := os.environ.get("PORTWAY_HOST"):
        return _named(named)
    local = LocalHost(os.environ.get("PORTWAY_DATA") or None)
    if local.data or local.runs():
        return local
    from portway.cli.host_logins import read_logins

    logins = read_logins()
    if len(logins) > 1:
        raise _several(logins)
    return _named(next(iter(logins))) if logins else local


def _several(names: Iterable[str]) -> click.ClickException:
    return click.ClickException(
        f"there are several hosts ({', '.join(sorted(names))}): name one by --on or PORTWAY_HOST"
    )


def require_user_token(token: str) -> None:
    """Raise `UsageError` unless a text has the form of a user's token."""
    if not token.startswith(USER_TOKEN) or not re.fullmatch(r"[\w-]+", token, re.ASCII):
        raise click.UsageError(
            f"that is no token of a user of a host, which begins with {USER_TOKEN}: `portway user add` makes one there"
        )


def _named(text: str) -> RemoteHost:
    """Return a host by its name or its address; PORTWAY_TOKEN is for one that is given by its address.

    Where there is no token of a user, a login at the host's provider is used.
    """
    from portway.cli.host_logins import host_url, read_logins, refuse_clear_text

    logins = read_logins()
    if "://" not in text:
        if (login := logins.get(text)) is None:
            if _provider_token(f"https://{text}"):
                return _named(f"https://{text}")
            known = f"; there are: {', '.join(sorted(logins))}" if logins else ""
            raise click.ClickException(f"you are not logged in to {text!r}: `portway login URL` does that{known}")
        if not login.insecure:
            refuse_clear_text(login.url)
        return RemoteHost(text, login.url, login.token)
    url = host_url(text)
    there = [name for name, login in logins.items() if login.url == url]
    given = os.environ.get("PORTWAY_TOKEN", "").strip()
    is_given = given.startswith(USER_TOKEN)
    if is_given:
        require_user_token(given)
    elif len(there) > 1:
        raise _several(there)  # of other users, who may do more
    name = there[0] if there else url
    login = logins.get(name)
    token = (login.token if login and not is_given else given) or _provider_token(url)
    if not token:
        raise click.ClickException(f"there is no token for {url}: `portway login {url}`, or set PORTWAY_TOKEN")
    if login is None or not login.insecure:
        refuse_clear_text(url)
    return RemoteHost(name, url, token)


def _provider_token(url: str) -> str:
    """Return the token of a login at the provider of the host at `url`, "" for none. Raises `ClickException`."""
    return stored_token_of(url + MANAGEMENT_PATH) or ""


def place_of(host: Host) -> str:
    """Return the words that say which host something is done on; none for the one of this machine."""
    return "" if isinstance(host, LocalHost) else f" on {host}"


def host_options(function: Callable[..., None]) -> Callable[..., None]:
    """Give a verb the options --on and --data, and the parameter `host` with what they choose."""

    @click.option("--on", metavar="NAME|URL", help="The host elsewhere. Also from PORTWAY_HOST. See `portway login`.")
    @click.option(
        "--data", metavar="DIR", help="The data directory of the host on this machine. Also from PORTWAY_DATA."
    )
    @functools.wraps(function)
    def command(*arguments: object, on: str | None, data: str | None, **options: object) -> None:
        function(*arguments, host=choose(on, data), **options)

    return command
