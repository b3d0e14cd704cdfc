"""`portway login --list`: what this user is logged in to, servers and hosts, without any token."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from portway.cli.options import print_json
from portway.cli.table import print_table, shown_time

if TYPE_CHECKING:
    from portway.client import Login


def list_logins(output: str) -> None:
    """Print the logins. Raises ClickException for a file that is damaged, or open to others."""
    import asyncio

    from portway.cli.host_logins import read_logins
    from portway.client import ClientError, FileStorage

    try:
        servers = asyncio.run(FileStorage().logins())
    except ClientError as error:
        raise click.ClickException(str(error)) from None
    hosts = sorted((login.url, name) for name, login in read_logins().items())
    if output == "json":
        print_json(
            {
                "servers": [_as_json(url, login) for url, login in sorted(servers.items())],
                "hosts": [{"url": url, "name": name} for url, name in hosts],
            }
        )
        return
    rows = [("URL", "KIND", "NAME", "BY", "SCOPES", "ENDS")]
    rows += [
        (url, "server", "", each.issuer, " ".join(each.scopes), _end(each)) for url, each in sorted(servers.items())
    ]
    rows += [(url, "host", name, "", "", "") for url, name in hosts]
    print_table(rows)


def _as_json(url: str, login: Login) -> dict[str, object]:
    left = {} if login.expires is None else {"expires_in": round(login.expires - time.time())}
    return {"url": url, "issuer": login.issuer, "scopes": login.scopes, "renewed": bool(login.refresh_token), **left}


def _end(login: Login) -> str:
    """Return when the login is over, as a cell of the table."""
    if login.refresh_token:
        return "is renewed"
    if not login.access_token or login.is_over:
        return "over"
    return "" if login.expires is None else shown_time(login.expires)
