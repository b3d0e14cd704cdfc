"""Prints tables, and times in them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import click

from portway.cli.terminal_text import plain_line


def shown_time(seconds: float) -> str:
    """Return a moment as a cell of a table, in the time of this machine."""
    return datetime.fromtimestamp(seconds).astimezone().isoformat(" ", "seconds")


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Print rows of as many cells each, the first of them the headings, in columns. A cell may be an app's text."""
    rows = [[plain_line(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
