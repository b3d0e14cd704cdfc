"""`portway restart`: start an app anew without a pause."""

import click

from portway.cli.chosen_host import Host, host_options
from portway.cli.control_client import ask_control
from portway.cli.deploy_output import print_deployment, print_step
from portway.cli.options import output_option, print_json

_SECONDS = 1800.0


@click.command()
@click.argument("app")
@host_options
@output_option
def command(app: str, host: Host, output: str) -> None:
    """Start APP anew: a new release with the files, the configuration and the variables of the live one.

    The old instances end their calls. When the new ones do not start, the old ones go on serving, and the exit code
    is 1.
    """
    from portway.host.management.management_types import Deployment

    done = ask_control(host, "restart", {"app": app}, Deployment, on_step=print_step, seconds=_SECONDS)
    if output == "json":
        print_json(done)
    else:
        print_deployment(done)
