"""`portway config`: print what an app is."""

import click

from portway.cli.chosen_host import Host, host_options
from portway.cli.control_client import ask_control
from portway.cli.options import output_option, print_json
from portway.cli.terminal_text import echo_foreign


@click.command()
@click.argument("app")
@host_options
@output_option
def command(app: str, host: Host, output: str) -> None:
    """Print what APP is, with the names of a render.yaml, into which the text can be pasted.

    Values that `portway env` keeps are not shown.
    """
    from portway.host.blueprint.document import as_yaml
    from portway.host.blueprint.problems import BlueprintError
    from portway.host.management.management_types import AppService

    found = ask_control(host, "config", {"app": app}, AppService)
    if output == "json":
        print_json(found.service)
        return
    try:
        echo_foreign(as_yaml({"services": [found.service]}).removesuffix("\n"))
    except BlueprintError as error:
        raise click.ClickException(str(error)) from None
