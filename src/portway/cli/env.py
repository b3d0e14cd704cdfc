"""`portway env`: set, unset, list and import the variables of apps and groups."""

import sys
from pathlib import Path

import click

from portway.cli.chosen_host import Host, host_options
from portway.cli.control_client import ask_control
from portway.cli.deploy_output import print_step
from portway.cli.options import output_option, print_json
from portway.cli.variable_arguments import read_values

_SECONDS = 1800.0
_group_option = click.option("--group", metavar="NAME", help="Of a group, whose apps share them, instead of an app.")
_restart_option = click.option(
    "--restart/--no-restart", default=True, help="Restart the apps that use them, or wait for the next deploy."
)


@click.group(no_args_is_help=True)
def command() -> None:
    """Set, unset, list and import the variables of apps and groups. Values are never shown."""


@command.command("set")
@click.argument("words", metavar="[APP] KEY=VALUE…", nargs=-1)
@_group_option
@_restart_option
@host_options
@output_option
def set_(words: tuple[str, ...], group: str | None, restart: bool, host: Host, output: str) -> None:
    """Set variables of APP, and restart it with them as a new release.

    APP may be one that is not deployed yet. KEY=- or KEY alone asks for the value, or reads it from stdin, so that it
    stays out of the shell's history.
    """
    target, pairs = _target(words, group, "KEY=VALUE")
    if group is not None and "=" not in pairs[0] and any("=" in pair for pair in pairs):
        raise click.UsageError(
            f"give an app or --group, not both; if {pairs[0]} is a variable whose value is asked for, give {pairs[0]}=-"
        )
    _change(host, output, "set_variables", target, {"variables": read_values(pairs), "restart": restart})


@command.command()
@click.argument("words", metavar="[APP] KEY…", nargs=-1)
@_group_option
@_restart_option
@host_options
@output_option
def unset(words: tuple[str, ...], group: str | None, restart: bool, host: Host, output: str) -> None:
    """Remove variables of APP, and restart it without them as a new release."""
    target, names = _target(words, group, "KEY")
    _change(host, output, "unset_variables", target, {"names": names, "restart": restart})


@command.command("import")
@click.argument("words", metavar="[APP] FILE", nargs=-1)
@_group_option
@_restart_option
@host_options
@output_option
def import_(words: tuple[str, ...], group: str | None, restart: bool, host: Host, output: str) -> None:
    """Set the variables in FILE, in the .env format, as variables of APP. FILE may be - for stdin."""
    target, files = _target(words, group, "FILE")
    if len(files) > 1:
        raise click.UsageError("give one FILE, after an app or --group")
    try:
        text = (sys.stdin.buffer.read() if files[0] == "-" else Path(files[0]).read_bytes()).decode()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise click.ClickException(f"{files[0]} cannot be read: {reason}") from None
    _change(host, output, "import_variables", target, {"text": text, "restart": restart})


@command.command("list")
@click.argument("app", required=False)
@_group_option
@host_options
@output_option
def list_(app: str | None, group: str | None, host: Host, output: str) -> None:
    """List APP's variables by name, and where each comes from. Values are not shown."""
    from portway.host.management.management_types import VariableList

    target, _ = _target((app,) if app else (), group)
    found = ask_control(host, "list_variables", target, VariableList)
    if output == "json":
        print_json(found)
        return
    width = max((len(variable.name) for variable in found.variables), default=0)
    for variable in found.variables:
        click.echo(f"{variable.name:{width}}  {variable.source}")


@command.command()
@host_options
@output_option
def rekey(host: Host, output: str) -> None:
    """Replace the key that encrypts variables."""
    from portway.host.management.management_types import Rekeyed

    done = ask_control(host, "rekey", {}, Rekeyed)
    if output == "json":
        print_json(done)
        return
    click.echo("every variable is encrypted by the new key", err=True)
    if not done.old_key_removed:
        click.echo("the key file cannot be written: remove the old key from it", err=True)


def _target(words: tuple[str, ...], group: str | None, needed: str = "") -> tuple[dict[str, object], list[str]]:
    """Split the words into the app, unless a group is given, and the rest, which is one or more of `needed` if any."""
    if group is not None:
        target: dict[str, object] = {"group": group}
        rest = list(words)
    elif not words or "=" in words[0]:
        raise click.UsageError("name the app first, or a group by --group")
    else:
        target, rest = {"app": words[0]}, list(words[1:])
    if rest and not needed:
        raise click.UsageError("give an app or --group, not both")
    if needed and not rest:
        raise click.UsageError(f"give {needed} too, after the app or --group")
    return target, rest


def _change(host: Host, output: str, tool: str, target: dict[str, object], arguments: dict[str, object]) -> None:
    from portway.host.management.management_types import VariableChange

    done = ask_control(host, tool, target | arguments, VariableChange, on_step=print_step, seconds=_SECONDS)
    if output == "json":
        print_json(done)
    for restart in done.restarts:
        if restart.release is not None:
            click.echo(f"=====> {restart.app}: release {restart.release} has the change", err=True)
        else:
            click.echo(f"Error: {restart.app} goes on without the change: {restart.error}", err=True)
    if not done.restarts:
        click.echo("=====> kept; no app was restarted", err=True)
    if any(restart.release is None for restart in done.restarts):
        raise SystemExit(1)
