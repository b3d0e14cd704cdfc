"""`portway token`: create, rotate, list and revoke an app's tokens."""

import click

from portway.cli.chosen_host import Host, host_options, place_of
from portway.cli.control_client import ask_control
from portway.cli.options import output_option, print_json
from portway.cli.table import print_table, shown_time
from portway.cli.token_lifetimes import expires_option, overlap_option, renewed_expires_option, shown_expiry


@click.group(no_args_is_help=True)
def command() -> None:
    """Create, rotate, list and revoke the tokens of an app's callers."""


@command.command()
@click.argument("app")
@click.argument("name")
@click.option("--scopes", default="", metavar="A,B", help="Scopes of the caller, for tools that require one.")
@expires_option
@host_options
@output_option
def create(app: str, name: str, scopes: str, expires: int | None, host: Host, output: str) -> None:
    """Create a token named NAME for APP. It is shown once."""
    from portway.host.management.management_types import NewToken

    wanted = [scope for scope in scopes.replace(",", " ").split() if scope]
    asked = {"app": app, "name": name, "scopes": wanted, "expires_in": expires}
    made = ask_control(host, "create_token", asked, NewToken)
    if output == "json":
        print_json(made)
    else:
        click.echo(made.token)


@command.command()
@click.argument("app")
@click.argument("name")
@overlap_option
@renewed_expires_option
@host_options
@output_option
def rotate(app: str, name: str, overlap: int, expires: int | None, host: Host, output: str) -> None:
    """Give the token NAME of APP another secret, shown once. It lives as long as the one before, or --expires."""
    from portway.host.management.management_types import NewToken

    asked = {"app": app, "name": name, "overlap": overlap, "expires_in": expires}
    made = ask_control(host, "rotate_token", asked, NewToken)
    if output == "json":
        print_json(made)
    else:
        click.echo(made.token)


@command.command("list")
@click.argument("app")
@host_options
@output_option
def list_(app: str, host: Host, output: str) -> None:
    """List APP's tokens, without their secrets, which are not kept."""
    from portway.host.management.management_types import TokenList

    found = ask_control(host, "list_tokens", {"app": app}, TokenList)
    if output == "json":
        print_json(found)
        return
    rows = [
        (token.name, shown_time(token.created), shown_expiry(token), " ".join(token.scopes) or "-")
        for token in found.tokens
    ]
    print_table([("NAME", "CREATED", "EXPIRES", "SCOPES"), *rows])


@command.command()
@click.argument("app")
@click.argument("name")
@host_options
@output_option
def revoke(app: str, name: str, host: Host, output: str) -> None:
    """Revoke the token NAME of APP: calls with it are refused at once."""
    ask_control(host, "revoke_token", {"app": app, "name": name}, type(None))
    if output == "json":
        print_json({"app": app, "name": name, "revoked": True})
    else:
        click.echo(f"revoked {name} of {app}{place_of(host)}", err=True)
