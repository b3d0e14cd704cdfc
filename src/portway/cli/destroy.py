"""`portway destroy`: an app goes, with all it had."""

import click

from portway.cli.host_connection import ask, data_option

_SECONDS = 120.0  # its calls may end first, then it itself


@click.command()
@click.argument("app")
@click.option("--yes", is_flag=True, help="Do not ask.")
@data_option
def command(app: str, yes: bool, data: str | None) -> None:
    """Stop APP and delete its releases, logs and tokens. There is no way back."""
    if (
        not yes
        and click.prompt(f"This deletes {app} with its releases, logs and tokens. Type its name to go on") != app
    ):
        raise click.ClickException(f"that is not {app}: nothing was deleted")
    ask(data, "destroy", {"app": app}, type(None), seconds=_SECONDS)
    click.echo(f"destroyed {app}", err=True)
