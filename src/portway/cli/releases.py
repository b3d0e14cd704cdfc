"""`portway releases`: the history of an app."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from portway.cli.chosen_host import Host, host_options
from portway.cli.control_client import ask_control
from portway.cli.options import output_option, print_json
from portway.cli.table import print_table, shown_time

if TYPE_CHECKING:
    from portway.host.management.management_types import ReleaseInfo

_COMMIT = 7


@click.command()
@click.argument("app")
@host_options
@output_option
def command(app: str, host: Host, output: str) -> None:
    """List the releases of APP that are kept, newest first: what made each, who asked, its commit, time and size.

    Those that are `ready` have served; `portway rollback` goes back to them.
    """
    from portway.host.management.management_types import ReleaseList

    found = ask_control(host, "list_releases", {"app": app}, ReleaseList)
    if output == "json":
        print_json(found)
        return
    rows = [("RELEASE", "STATUS", "WHAT", "BY", "COMMIT", "CREATED", "SIZE")]
    for release in found.releases:
        created = shown_time(release.created)
        shown = release.asked_by or "-", release.commit[:_COMMIT] or "-", created, _size(release.size)
        rows.append((str(release.release), release.status, _what(release), *shown))
    print_table(rows)
    click.echo(f"{_size(sum(release.size or 0 for release in found.releases))} in all", err=True)


def _what(release: ReleaseInfo) -> str:
    """Say what made a release."""
    match release.cause:
        case "rollback":
            return f"rollback to {release.detail}"
        case "restart":
            return f"restart of {release.detail}"
        case "push":
            return "push"
        case "env":
            return f"env {release.detail}".rstrip()
    return f"{release.cause} {release.source} {release.detail}".rstrip()


def _size(size: int | None) -> str:
    return "?" if size is None else f"{size / 2**20:.1f} MB"
