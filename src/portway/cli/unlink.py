"""`portway unlink`: no longer deploy what is new in a repository elsewhere."""

import click

from portway.cli.chosen_host import Host, host_options, place_of
from portway.cli.control_client import ask_control
from portway.cli.options import output_option, print_json


@click.command()
@click.argument("app")
@host_options
@output_option
def command(app: str, host: Host, output: str) -> None:
    """End the link of APP. What is live stays, and its hooks are refused."""
    from portway.host.management.management_types import EndedLink

    ended = ask_control(host, "unlink", {"app": app}, EndedLink)
    if output == "json":
        print_json(ended)
    else:
        click.echo(f"{app}{place_of(host)} is no longer linked to {ended.repository}", err=True)
