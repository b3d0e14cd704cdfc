"""Escapes what an app or a server wrote so that it cannot steer a terminal, and wraps it in marked rows."""

from __future__ import annotations

import json
import os
import re
import sys
import unicodedata
from collections.abc import Callable, Iterator

import click

from portway.host.contracts.hidden_characters import hidden_places

_COLOUR = re.compile(r"(\x1b\[[0-9;]{0,40}m)")
_PLAIN = "\x1b[0m"
_MARK = "  | "
_COLUMNS = 80  # of a terminal that does not say how many it has


def plain_line(text: str) -> str:
    """Return a text as one line, with escapes for what a terminal would act on or not show."""
    return _escaped(text, lambda character: character.encode("unicode_escape").decode())


def plain_lines(text: str) -> str:
    """Return a text with its lines, each as by `plain_line`."""
    return "\n".join(plain_line(line.removesuffix("\r")) for line in text.split("\n"))


def coloured_line(text: str) -> str:
    """Return a text as by `plain_line`, but with its colours, which end with it."""
    pieces = _COLOUR.split(text)
    pieces[::2] = map(plain_line, pieces[::2])
    return "".join([*pieces, _PLAIN] if len(pieces) > 1 else pieces)


def marked_rows(text: str, first: str = _MARK) -> list[str]:
    """Return a text as rows that fit the terminal at standard error, each with a mark before it; `first` the first."""
    lines = plain_lines(text).split("\n")
    rows = [row for line in lines for row in _rows(line.expandtabs(), _columns() - len(_MARK) - 1)]
    return [f"{first if number == 0 else _MARK}{row}" for number, row in enumerate(rows)]


def echo_foreign(text: str, *, err: bool = False) -> None:
    """Print a text that is not ours: as by `plain_lines` on a terminal, elsewhere as it is, for scripts."""
    stream = sys.stderr if err else sys.stdout
    click.echo(plain_lines(text) if stream.isatty() else text, err=err, color=True)


def echo_foreign_json(document: bytes) -> None:
    """Print a JSON document of one line, on a terminal with escapes of JSON for what it would act on or not show."""
    is_shown = sys.stdout.isatty()
    click.echo(_escaped(document.decode(), lambda each: json.dumps(each)[1:-1]) if is_shown else document)


def _escaped(text: str, escape: Callable[[str], str]) -> str:
    if text.isascii() and text.isprintable():
        return text
    hidden = {*hidden_places(text)}
    return "".join(
        character if _is_shown(character) and at not in hidden else escape(character)
        for at, character in enumerate(text)
    )


def _is_shown(character: str) -> bool:
    """Return whether a terminal shows a character; format characters (Cf) are left to `hidden_places`."""
    return character.isprintable() or character == "\t" or unicodedata.category(character) in ("Zs", "Cf")


def _columns() -> int:
    try:
        return os.get_terminal_size(2).columns or _COLUMNS
    except OSError:  # standard error is no terminal
        return _COLUMNS


def _rows(line: str, width: int) -> Iterator[str]:
    """Yield a line in rows of at most `width` cells, at spaces where there are any."""
    row, used = "", 0
    for character in line:
        cells = _cells(character)
        if row and used + cells > width:
            end = row.rfind(" ") + 1 or len(row)
            yield row[:end]
            row = row[end:]
            used = sum(map(_cells, row))
        row += character
        used += cells
    yield row


def _cells(character: str) -> int:
    """Return the most cells that a terminal uses for a character."""
    return 2 if unicodedata.east_asian_width(character) in "WFA" else 1
