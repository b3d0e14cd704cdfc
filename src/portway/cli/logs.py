"""`portway logs`: its filters, following (`-f`), and how entries are printed."""

from __future__ import annotations

import contextlib
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click

from portway.cli.chosen_host import Host, host_options
from portway.cli.control_client import HostUnreachable, ask_control
from portway.cli.durations import seconds_of
from portway.cli.options import output_option, print_json
from portway.cli.terminal_text import coloured_line, plain_line

if TYPE_CHECKING:
    from portway.host.logs.log_entry import LogEntry

_POLL_SECONDS = 0.25
_AWAY_SECONDS = 10.0  # control is started again in less
_LINES = 100
_MOST_LINES = 10_000_000


def _moment(_context: click.Context, _option: click.Parameter, value: str | None) -> str:
    """Return a moment, as "42m" ago or in the format of RFC 3339, as the logs have it."""
    if value is None:
        return ""
    try:
        if (ago := seconds_of(value)) is not None:
            moment = datetime.now(UTC) - timedelta(seconds=ago)
        else:
            moment = datetime.fromisoformat(value).astimezone(UTC)
    except (ValueError, OverflowError):
        raise click.BadParameter(f"{value!r} is no time: give 42m, 3h or 2d, or one as 2026-01-31T12:00:00Z") from None
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


@click.command()
@click.argument("app")
@click.option("-f", "-t", "--follow", "--tail", is_flag=True, help="Go on with new lines until Ctrl-C.")
@click.option(
    "-n",
    "--lines",
    type=click.IntRange(0, _MOST_LINES),
    help=f"Number of last lines to show. Default: {_LINES}, or all since --since.",
)
@click.option(
    "--since", metavar="TIME", callback=_moment, help="Only what is not older: 42m, 3h, 2d, or a date and time."
)
@click.option(
    "--kind",
    type=click.Choice(["build", "app", "call"]),
    help="Only lines of builds, only those of the app, or only calls.",
)
@click.option("--release", type=click.IntRange(1), metavar="N", help="Only lines of one release.")
@click.option("--instance", default="", metavar="ID", help="Only lines of one instance.")
@click.option("--tool", default="", metavar="NAME", help="Only calls of one tool.")
@click.option("--failed", is_flag=True, help="Only calls that failed or were refused.")
@host_options
@output_option
def command(app: str, follow: bool, lines: int | None, host: Host, output: str, **selected: object) -> None:
    """Show the last lines that APP's builds and instances wrote and the last calls of its tools, by their time.

    As JSON, each is an object with time, kind (build, app or call) and release; the text of a line, or the fields of a
    call.
    """
    from portway.host.logs.log_entry import LogPage

    count = _LINES if lines is None and not selected["since"] else lines
    cursor, last, shown = "", 0.0, 0
    with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C ends --follow
        while True:
            wanted = {"app": app, "lines": count, "cursor": cursor, "follow": follow, **selected}
            try:
                found = ask_control(host, "logs", wanted, LogPage)
            except HostUnreachable:
                if not cursor or time.monotonic() - last > _AWAY_SECONDS:
                    raise
                time.sleep(_POLL_SECONDS)
                continue
            last, cursor = time.monotonic(), found.cursor
            for entry in found.entries:
                if output == "json":
                    print_json(entry)
                else:
                    click.echo(_text(app, entry))
            shown += len(found.entries)
            if not follow and (not found.more or (count is not None and shown >= count)):
                return
            if not found.more:
                time.sleep(_POLL_SECONDS)


def _text(app: str, entry: LogEntry) -> str:
    if entry.kind == "call":
        return f"{entry.time} {app}.call | {_call(entry)}"
    text = (entry.text or "").removesuffix("\r")
    return f"{entry.time} {app}.{entry.instance or entry.kind} | {coloured_line(text)}"


def _call(entry: LogEntry) -> str:
    """Return a call as one line. Its names are the client's."""
    words = [entry.method, entry.name, entry.outcome, entry.status, f"{entry.ms:.0f}ms", entry.caller, entry.instance]
    return plain_line(" ".join(str(word) for word in words if word))
