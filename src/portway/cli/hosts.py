"""`portway hosts`: the hosts elsewhere that this user is logged in to."""

import click

from portway.cli.chosen_host import RemoteHost, choose
from portway.cli.options import output_option, print_json
from portway.cli.table import print_table


@click.command()
@output_option
def command(output: str) -> None:
    """List the hosts that you are logged in to; a star is at the one that verbs act on now."""
    from portway.cli.host_logins import read_logins

    try:
        chosen = choose(None, None)
    except click.ClickException:  # it takes a choice
        chosen = None
    used = chosen.url if isinstance(chosen, RemoteHost) else ""
    hosts = [(name, login.url, login.url == used) for name, login in sorted(read_logins().items())]
    if output == "json":
        print_json({"hosts": [{"name": name, "url": url, "used": is_used} for name, url, is_used in hosts]})
    else:
        print_table([("NAME", "URL", "USED"), *((name, url, "*" if is_used else "") for name, url, is_used in hosts)])
