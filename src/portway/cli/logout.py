"""`portway logout`: forget a host elsewhere."""

import click

from portway.cli.options import output_option, print_json


@click.command()
@click.argument("name")
@output_option
def command(name: str, output: str) -> None:
    """Forget the host NAME and its token, which stays valid until `portway user revoke`."""
    from portway.cli.login_file import read_logins, write_logins

    logins = read_logins()
    if name not in logins:
        raise click.ClickException(f"you are not logged in to {name!r}: see `portway hosts`")
    write_logins({other: login for other, login in logins.items() if other != name})
    if output == "json":
        print_json({"name": name, "logged_out": True})
    else:
        click.echo(f"logged out of {name}", err=True)
