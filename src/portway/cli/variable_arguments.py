"""The KEY=VALUE words of `env set` and `deploy`: given, asked for without echo, or read from stdin."""

import sys
from collections.abc import Sequence

import click


def read_values(words: Sequence[str]) -> dict[str, str]:
    """Return the values of KEY=VALUE words. KEY and KEY=- ask for the value without echo, or read it from stdin."""
    values: dict[str, str] = {}
    asked = ""
    for word in words:
        name, _, value = word.partition("=")
        if word in (name, f"{name}=-"):
            value, asked = _read(name, asked), name
        try:
            f"{name}{value}".encode()  # of a terminal or a file in another encoding
        except UnicodeEncodeError:
            shown = name.encode(errors="replace").decode()
            raise click.UsageError(f"the value of {shown} is not UTF-8") from None
        values[name] = value
    return values


def _read(name: str, asked: str) -> str:
    if sys.stdin.isatty():
        return str(click.prompt(f"{name} (not shown)", hide_input=True, err=True))
    if asked:
        raise click.UsageError(f"stdin holds one value, and that is {asked}'s: set {name} by another command")
    if not (text := sys.stdin.buffer.read().decode(errors="surrogateescape").rstrip("\r\n")):
        raise click.UsageError(f"stdin holds no value for {name}")
    return text
