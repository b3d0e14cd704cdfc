"""Options that several verbs have (--data, -o json, --token), and how JSON is printed."""

from __future__ import annotations

import os
import shlex
import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

data_option = click.option(
    "--data",
    metavar="DIR",
    envvar="PORTWAY_DATA",
    help="The host's data directory. Also from PORTWAY_DATA. Default: portway under XDG_DATA_HOME.",
)
_OUTPUT = "portway.output"


def _remember(context: click.Context, _option: click.Parameter, value: str) -> str:
    context.meta[_OUTPUT] = value
    return value


output_option = click.option(
    "-o",
    "--output",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    envvar="PORTWAY_OUTPUT",
    is_eager=True,  # before what may be refused
    callback=_remember,
    help="Print text for people, or JSON. Also from PORTWAY_OUTPUT.",
)
token_option = click.option("--token", envvar="PORTWAY_TOKEN", help="Bearer token for a URL. Also from PORTWAY_TOKEN.")


def require_issuer(issuer: str | None, audience: str | None, scopes: str | None) -> None:
    """Raise `UsageError` for what is told of a provider's tokens where no provider is named, or where none is meant."""
    if issuer is not None and not issuer.strip(" ,"):  # as when a script has no value for it
        raise click.UsageError("--auth-issuer names no issuer: give the provider's URL, or leave it out")
    if not issuer and (audience or scopes):
        raise click.UsageError("--auth-audience and --auth-scopes need --auth-issuer, the URL of the provider")


def require_folder(value: str, parameter: click.Parameter, context: click.Context) -> None:
    """Raise `BadParameter` for a path that is not a folder which can be read."""
    if os.path.isfile(value):
        alone = shlex.quote(value)
        raise click.BadParameter(
            f"{value!r} is a file: give its folder {os.path.dirname(value) or '.'!r}, or serve the file alone by "
            f"`portway run {alone}`"
        )
    click.Path(exists=True, file_okay=False).convert(value, parameter, context)


def require_linux() -> None:
    """Raise `ClickException` where no host can be."""
    if sys.platform != "linux":
        raise click.ClickException("the host runs on Linux; `portway run` serves one server anywhere")


def prints_json(context: click.Context) -> bool:
    """Return whether the verb that runs was asked for JSON."""
    return context.meta.get(_OUTPUT) == "json"


def print_json(answer: DataclassInstance | dict[str, object]) -> None:
    """Print an answer as one JSON object; fields that are None are left out."""
    import json
    from dataclasses import asdict

    fields = answer if isinstance(answer, dict) else asdict(answer)
    click.echo(json.dumps({key: value for key, value in fields.items() if value is not None}))
