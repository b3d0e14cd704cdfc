"""`portway tool`: list an app's tools, switch one off and on."""

import click

from portway.cli.chosen_host import Host, host_options, place_of
from portway.cli.control_client import ask_control
from portway.cli.options import output_option, print_json
from portway.cli.table import print_table, shown_time
from portway.cli.terminal_text import plain_line


@click.group(no_args_is_help=True)
def command() -> None:
    """List an app's tools and what its policies ask of callers; switch a tool off and on, without a deploy."""


@command.command("list")
@click.argument("app")
@host_options
@output_option
def list_(app: str, host: Host, output: str) -> None:
    """List APP's tools, the scopes that each needs by the app's policies, and which are switched off."""
    from portway.host.management.management_types import AppTool, AppToolList

    def state(tool: AppTool) -> str:
        off = tool.disabled
        told = "on" if off is None else f"off since {shown_time(off.since)} by {off.by}"
        return told if tool.listed else f"{told}, not in the live release"

    found = ask_control(host, "list_app_tools", {"app": app}, AppToolList)
    if output == "json":
        print_json(found)
        return
    rows = [(tool.name, " ".join(tool.scopes) or "-", state(tool)) for tool in found.tools]
    print_table([("TOOL", "NEEDS", "STATE"), *rows])


@command.command()
@click.argument("app")
@click.argument("tool")
@host_options
@output_option
def disable(app: str, tool: str, host: Host, output: str) -> None:
    """Switch TOOL of APP off, in every release, until it is enabled. Calls that run may end."""
    _switch("disable_tool", f"{tool} of {app} is switched off{place_of(host)}", app, tool, host, output)


@command.command()
@click.argument("app")
@click.argument("tool")
@host_options
@output_option
def enable(app: str, tool: str, host: Host, output: str) -> None:
    """Switch TOOL of APP on again."""
    _switch("enable_tool", f"{tool} of {app} is switched on{place_of(host)}", app, tool, host, output)


def _switch(name: str, done: str, app: str, tool: str, host: Host, output: str) -> None:
    from portway.host.management.management_types import SwitchedTool

    switched = ask_control(host, name, {"app": app, "tool": tool}, SwitchedTool)
    if output == "json":
        print_json(switched)
        return
    click.echo(done, err=True)
    if switched.note:
        click.echo(plain_line(f"note: {switched.note}"), err=True)
