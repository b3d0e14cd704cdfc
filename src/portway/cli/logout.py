"""`portway logout`: forget a host elsewhere, or a login at an MCP server."""

import contextlib

import click

from portway.cli.options import output_option, print_json


@click.command()
@click.argument("name", metavar="NAME|URL")
@output_option
def command(name: str, output: str) -> None:
    """Forget the host NAME, or at the address URL, or the login at the MCP server URL.

    The token of a host's user stays valid until `portway user revoke`. A login is also taken back at its provider, if
    that offers it.
    """
    from portway.cli.host_logins import host_url, read_logins, write_logins
    from portway.cli.server_login import log_out_of_server

    logins, address = read_logins(), ""
    with contextlib.suppress(click.ClickException):  # the URL of a server, with a path
        address = host_url(name)
    forgotten = [name] if name in logins else [each for each, login in logins.items() if login.url == address]
    if forgotten:
        write_logins({each: login for each, login in logins.items() if each not in forgotten})
    elif "://" not in name:
        raise click.ClickException(f"you are not logged in to {name!r}: see `portway hosts`")
    elif not log_out_of_server(name):
        raise click.ClickException(f"you are not logged in at {name}: see `portway login --list`")
    if output == "json":
        print_json({"name": name, "logged_out": True})
    else:
        click.echo(f"logged out of {name}", err=True)
