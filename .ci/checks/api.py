"""`api.txt` lists every public name, signature, verb and flag, so that a diff shows each change.

`--write` updates it (`make api`).
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import re
import sys
from typing import TYPE_CHECKING

import click

from source import ROOT, main

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def signature(value: object) -> str:
    """Return `(city: str) -> dict`, without module names and memory addresses; '' if Python has no signature."""
    try:
        text = re.sub(r" at 0x[0-9a-f]+|~|\b(?:[a-z_]+\.)+(?=[A-Z])", "", str(inspect.signature(value)))  # type: ignore[arg-type]
        return re.sub(r"""(: |-> )(['"])(.*?)\2(?=[,) =]|$)""", r"\1\3", text)  # annotations that are text
    except (TypeError, ValueError):
        return ""


def members(name: str, cls: type) -> Iterator[str]:
    """Yield a class with its constructor, then each public attribute that it or a parent in the package defines."""
    yield f"{name}{'' if issubclass(cls, BaseException) else signature(cls)}"
    ours = [parent for parent in cls.__mro__ if parent.__module__.partition(".")[0] == "portway"]
    attributes = {key: value for parent in reversed(ours) for key, value in vars(parent).items()}
    for key in sorted(attributes):
        if key.startswith("_"):
            continue
        plain = inspect.getattr_static(cls, key)
        unbound = plain.__func__ if isinstance(plain, classmethod | staticmethod) else plain
        yield f"{name}.{key}{signature(unbound) if callable(unbound) else ''}"


def names(package: str) -> Iterator[str]:
    module = importlib.import_module(package)
    for name in sorted(module.__all__):
        value = getattr(module, name)
        if inspect.isclass(value):
            yield from members(f"{package}.{name}", value)
        else:
            yield f"{package}.{name}{signature(value) if inspect.isroutine(value) else ''}"


def verbs(path: str, command: click.Command) -> Iterator[str]:
    """Yield a verb with its arguments, its flags, then the verbs below it."""
    context = click.Context(command)
    arguments = [p.make_metavar(context) for p in command.params if isinstance(p, click.Argument)]
    yield " ".join([path, *arguments]) + (" (hidden)" if command.hidden else "")
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            flags = "/".join([*parameter.opts, *parameter.secondary_opts])
            takes = "" if parameter.is_flag or parameter.count else f" {parameter.make_metavar(context)}"
            yield f"{path} {flags}{takes}{' …' if parameter.multiple else ''}"
    if isinstance(command, click.Group):
        for name in sorted(command.list_commands(context)):
            below = command.get_command(context, name)
            if below:
                yield from verbs(f"{path} {name}", below)


def surface() -> str:
    """Return the text of `api.txt` for the installed package."""
    # Imported by name, so that mypy can check this file without the package.
    cli = importlib.import_module("portway.cli.main").cli
    public = [line for package in ("portway", "portway.client", "portway.testing") for line in [*names(package), ""]]
    return "".join(f"{line}\n" for line in [*public, *verbs("portway", cli)])


def violations(root: Path) -> Iterator[str]:
    path = root / "api.txt"
    recorded = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    there = surface().splitlines()
    difference = list(difflib.unified_diff(recorded, there, "api.txt", "the package", lineterm="", n=0))
    if difference:
        yield "api.txt is out of date; if the change is intended, run `make api` and describe it in CHANGELOG.md"
        yield from difference


if __name__ == "__main__":
    if "--write" in sys.argv:
        (ROOT / "api.txt").write_text(surface(), encoding="utf-8")
    else:
        main(violations)
