"""`portway logs`: what an app's instances wrote."""

import contextlib
import time

import click

from portway.cli.host_connection import HostAway, ask, data_option

_POLL_SECONDS = 0.5
_AWAY_SECONDS = 10.0  # control is started again in less


@click.command()
@click.argument("app")
@click.option("-f", "--follow", "--tail", is_flag=True, help="Go on with what is written from now on, until Ctrl-C.")
@click.option(
    "-n", "--lines", type=click.IntRange(0), default=100, show_default=True, help="How many of the last lines."
)
@data_option
def command(app: str, follow: bool, lines: int, data: str | None) -> None:
    """Show the last lines of APP's log; of one that never served, those of its last deploy."""
    from portway.host.management.management_types import Excerpt

    cursor, last = "", 0.0
    with contextlib.suppress(KeyboardInterrupt):  # how a follower leaves
        while True:
            try:
                found = ask(data, "logs", {"app": app, "lines": lines, "cursor": cursor}, Excerpt)
            except HostAway:
                if not cursor or time.monotonic() - last > _AWAY_SECONDS:
                    raise
                time.sleep(_POLL_SECONDS)
                continue
            last = time.monotonic()
            for line in found.lines:
                click.echo(line)
            cursor = found.cursor
            if not follow:
                return
            if not found.lines:
                time.sleep(_POLL_SECONDS)
