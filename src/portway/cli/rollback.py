"""`portway rollback`: serve an earlier release of an app again."""

import click

from portway.cli.chosen_host import Host, host_options
from portway.cli.control_client import ask_control
from portway.cli.deploy_output import print_deployment, print_step
from portway.cli.options import output_option, print_json

_SECONDS = 1800.0


@click.command()
@click.argument("app")
@click.argument("release", type=click.IntRange(1), required=False, metavar="[N]")
@host_options
@output_option
def command(app: str, release: int | None, host: Host, output: str) -> None:
    """Serve release N of APP again; without N, the one before the live one.

    It becomes a new release with the files, the configuration and the variables of N; nothing is built. What the app
    has stored stays as it is. When it does not start, the live release goes on serving, and the exit code is 1.
    """
    from portway.host.management.management_types import Deployment

    arguments = {"app": app, "release": release}
    done = ask_control(host, "rollback", arguments, Deployment, on_step=print_step, seconds=_SECONDS)
    if output == "json":
        print_json(done)
    else:
        print_deployment(done)
