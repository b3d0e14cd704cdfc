"""`portway ps`: list the apps of the host; its columns."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import click

from portway.cli.chosen_host import Host, host_options
from portway.cli.control_client import ask_control
from portway.cli.options import output_option, print_json
from portway.cli.table import print_table
from portway.cli.terminal_text import plain_line

if TYPE_CHECKING:
    from portway.host.management.management_types import AppStatus


@click.command()
@host_options
@output_option
def command(host: Host, output: str) -> None:
    """List the apps with their state, release, instances that are up, memory, CPU and storage."""
    from portway.host.management.management_types import AppList

    found = ask_control(host, "list_apps", {}, AppList)
    if output == "json":
        print_json(found)
        return
    rows = [("APP", "STATE", "RELEASE", "INSTANCES", "RESTARTS", "MEMORY", "CPU", "STORAGE", "ISOLATION", "URL")]
    for app in found.apps:
        release = "-" if app.release is None else str(app.release)
        up = f"{app.instances}/{app.wanted}"
        use = f"{app.memory / 2**20:.0f} MB", f"{app.cpu:.1f}s", _storage(app)
        rows.append((app.app, app.state, release, up, str(app.restarts), *use, app.isolation, app.url))
    print_table(rows)
    logins: dict[str, list[str]] = {}
    for app in found.apps:
        if app.issuers:
            logins.setdefault(" or ".join(app.issuers), []).append(app.app)
    for issuers, apps in logins.items():
        click.echo(f"\ncallers of {', '.join(apps)} log in at {plain_line(issuers)}", err=True)
    for app in found.apps:
        if app.domains:
            click.echo(f"\n{app.app} is also at {', '.join(app.domains)}", err=True)
        if app.pinned is not None:
            until = datetime.fromtimestamp(app.pinned_until or 0).astimezone().isoformat(" ", "seconds")
            click.echo(f"\n{app.app} keeps release {app.pinned} while it has sessions, until {until} at most", err=True)
        if app.link:
            click.echo(f"\n{app.app} is linked to {app.link}", err=True)
        if app.reason:
            reason = plain_line(app.reason.splitlines()[0].rstrip(":"))
            click.echo(f"\n{app.app}: {reason} (see `portway logs {app.app}`)", err=True)
        for line in app.log:
            click.echo(f"  {plain_line(line)}", err=True)


def _storage(app: AppStatus) -> str:
    """Say how much of its storage an app uses."""
    if app.storage is None and app.stored is None:
        return "-"
    used = "?" if app.stored is None else f"{app.stored / 2**20:.1f} MB"
    return used if app.storage is None else f"{used} of {app.storage / 2**30:.0f} GB"
