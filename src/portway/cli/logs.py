"""`portway logs`: show what an app's instances wrote."""

import contextlib
import time

import click

from portway.cli.control_client import HostUnreachable, ask_control
from portway.cli.options import data_option, output_option, print_json

_POLL_SECONDS = 0.5
_AWAY_SECONDS = 10.0  # control is started again in less


@click.command()
@click.argument("app")
@click.option("-f", "--follow", "--tail", is_flag=True, help="Go on with new lines until Ctrl-C.")
@click.option(
    "-n", "--lines", type=click.IntRange(0), default=100, show_default=True, help="Number of last lines to show."
)
@data_option
@output_option
def command(app: str, follow: bool, lines: int, data: str | None, output: str) -> None:
    """Show the last lines of APP's log; if it never served, those of its last deploy.

    As JSON, each line is an object: {"app": ..., "line": ...}.
    """
    from portway.host.logs.log_reader import LogLines

    cursor, last, shown = "", 0.0, 0
    with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C ends --follow
        while True:
            try:
                found = ask_control(data, "logs", {"app": app, "lines": lines, "cursor": cursor}, LogLines)
            except HostUnreachable:
                if not cursor or time.monotonic() - last > _AWAY_SECONDS:
                    raise
                time.sleep(_POLL_SECONDS)
                continue
            last = time.monotonic()
            cursor = found.cursor
            whole = found.more or follow or not found.unfinished or not lines
            for line in found.lines if whole else [*found.lines, found.unfinished]:
                if output == "json":
                    print_json({"app": app, "line": line})
                else:
                    click.echo(line)
            shown += len(found.lines)
            if not follow and (not found.more or shown >= lines):
                return
            if not found.lines:
                time.sleep(_POLL_SECONDS)
