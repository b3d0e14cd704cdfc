"""Escapes what an app wrote so that it cannot steer a terminal."""

from __future__ import annotations

import re

# Control characters but the tab, and what turns the direction of writing.
_STEERS = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_COLOUR = re.compile(r"(\x1b\[[0-9;]{0,40}m)")
_PLAIN = "\x1b[0m"


def plain_line(text: str) -> str:
    """Return a text as one line, with escapes for what a terminal would act on."""
    return _STEERS.sub(lambda found: repr(found[0])[1:-1], text)


def plain_lines(text: str) -> str:
    """Return a text with its lines, each as by `plain_line`."""
    return "\n".join(map(plain_line, text.split("\n")))


def coloured_line(text: str) -> str:
    """Return a text as by `plain_line`, but with its colours, which end with it."""
    pieces = _COLOUR.split(text)
    pieces[::2] = map(plain_line, pieces[::2])
    return "".join([*pieces, _PLAIN] if len(pieces) > 1 else pieces)
