"""`portway metrics`: print the gate's counters for Prometheus."""

import click

from portway.cli.chosen_host import Host, host_options
from portway.cli.control_client import ask_control
from portway.cli.options import output_option, print_json
from portway.cli.terminal_text import echo_foreign


@click.command()
@host_options
@output_option
def command(host: Host, output: str) -> None:
    """Print the calls, errors and durations of all apps since the gate started, in Prometheus' text format."""
    from portway.host.management.management_types import GateMetrics

    found = ask_control(host, "metrics", {}, GateMetrics)
    if output == "json":
        print_json(found)
    else:
        echo_foreign(found.text.removesuffix("\n"))
