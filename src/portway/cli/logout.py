"""`portway logout`: forget a host elsewhere, or a login at an MCP server."""

import click

from portway.cli.options import output_option, print_json


@click.command()
@click.argument("name", metavar="NAME|URL")
@output_option
def command(name: str, output: str) -> None:
    """Forget the host NAME, or the login at the MCP server URL.

    The token of a host's user stays valid until `portway user revoke`. A login is also taken back at its provider, if
    that offers it.
    """
    from portway.cli.login_file import read_logins, write_logins
    from portway.cli.server_login import log_out_of_server

    if "://" in name:
        if not log_out_of_server(name):
            raise click.ClickException(f"you are not logged in at {name}")
    else:
        logins = read_logins()
        if name not in logins:
            raise click.ClickException(f"you are not logged in to {name!r}: see `portway hosts`")
        write_logins({other: login for other, login in logins.items() if other != name})
    if output == "json":
        print_json({"name": name, "logged_out": True})
    else:
        click.echo(f"logged out of {name}", err=True)
