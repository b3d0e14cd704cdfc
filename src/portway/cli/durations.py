"""Reads a length of time on the command line, such as 90d."""

import re

import click

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def seconds_of(text: str) -> int | None:
    """Return the seconds of a text like 42m, 3h or 2d; None for another text."""
    found = re.fullmatch(r"(\d{1,9})([smhd])", text)
    return None if found is None else int(found[1]) * _SECONDS[found[2]]


def duration(_context: click.Context, _option: click.Parameter, value: str | None) -> int | None:
    """Return the seconds that an option says; None where it is not given."""
    if value is None:
        return None
    seconds = seconds_of(value)
    if seconds is None:
        raise click.BadParameter(f"{value!r} is no length of time: give 30m, 24h or 90d")
    return seconds
