"""`portway destroy`: delete an app, after its name was typed."""

import sys

import click

from portway.cli.chosen_host import Host, host_options, place_of
from portway.cli.control_client import ask_control
from portway.cli.options import output_option, print_json
from portway.cli.terminal_text import plain_line

_SECONDS = 120.0  # its calls may end first, then its instance


@click.command()
@click.argument("app")
@click.option("--yes", is_flag=True, help="Do not ask.")
@host_options
@output_option
def command(app: str, yes: bool, host: Host, output: str) -> None:
    """Stop APP and delete its releases, logs, tokens and stored data. This cannot be undone."""
    from portway.host.management.management_types import Destruction

    plan = ask_control(host, "destroy", {"app": app}, Destruction)
    if not yes and _typed_name(f"{app}{place_of(host)}", plan.deletes) != app:
        raise click.ClickException(f"that is not {app}: nothing was deleted")
    ask_control(host, "destroy", {"app": app, "confirm": plan.confirm}, Destruction, seconds=_SECONDS)
    if output == "json":
        print_json({"app": app, "destroyed": True})
    else:
        click.echo(f"destroyed {app}{place_of(host)}", err=True)


def _typed_name(app: str, deletes: list[str]) -> str:
    try:
        told = plain_line(f"This deletes {app}: {', '.join(deletes)}. Type its name to go on")
        return str(click.prompt(told, err=True))
    except click.Abort:
        if sys.stdin is not None and sys.stdin.isatty():
            raise
        click.echo(err=True)  # ends the line of the prompt
        raise click.ClickException("there is no terminal to ask on: give --yes to delete it") from None
