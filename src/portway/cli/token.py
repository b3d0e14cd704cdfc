"""`portway token`: the credentials of an app."""

import time

import click

from portway.cli.host_connection import ask, data_option, output_option, print_json


@click.group(no_args_is_help=True)
def command() -> None:
    """Create, list and revoke the tokens that callers of an app present."""


@command.command()
@click.argument("app")
@click.argument("name")
@click.option("--scopes", default="", metavar="A,B", help="What the caller may do, for tools that ask for a scope.")
@data_option
@output_option
def create(app: str, name: str, scopes: str, data: str | None, output: str) -> None:
    """Create a token named NAME for APP. It is shown once."""
    from portway.host.management.management_types import NewToken

    wanted = [scope for scope in scopes.replace(",", " ").split() if scope]
    made = ask(data, "create_token", {"app": app, "name": name, "scopes": wanted}, NewToken)
    if output == "json":
        print_json(made)
    else:
        click.echo(made.token)


@command.command("list")
@click.argument("app")
@data_option
@output_option
def list_(app: str, data: str | None, output: str) -> None:
    """List APP's tokens; their secrets are kept nowhere."""
    from portway.host.management.management_types import TokenList

    found = ask(data, "list_tokens", {"app": app}, TokenList)
    if output == "json":
        print_json(found)
        return
    for token in found.tokens:
        created = time.strftime("%Y-%m-%d %H:%M", time.localtime(token.created))
        click.echo(f"{token.name}  {created}  {' '.join(token.scopes)}".rstrip())


@command.command()
@click.argument("app")
@click.argument("name")
@data_option
def revoke(app: str, name: str, data: str | None) -> None:
    """End the token NAME of APP: calls that bear it are refused at once."""
    ask(data, "revoke_token", {"app": app, "name": name}, type(None))
    click.echo(f"revoked {name} of {app}", err=True)
