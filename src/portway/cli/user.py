"""`portway user`: add, rotate, list and revoke those who push to apps and clone them."""

import click

from portway.cli.chosen_host import Host, host_options, place_of
from portway.cli.control_client import ask_control
from portway.cli.lifetimes import expires_option, overlap_option, shown_expiry
from portway.cli.options import output_option, print_json
from portway.cli.table import print_table, shown_time


@click.group(no_args_is_help=True)
def command() -> None:
    """Add, rotate, list and revoke the users of the host: who pushes to its apps, and clones them."""


@command.command()
@click.argument("name")
@click.option(
    "--role",
    type=click.Choice(["viewer", "deployer", "admin"]),
    required=True,
    help="A viewer clones, a deployer pushes too, an admin may do everything.",
)
@click.option("--app", "apps", multiple=True, metavar="APP", help="An app it may use; repeatable. Default: all apps.")
@expires_option
@host_options
@output_option
def add(name: str, role: str, apps: tuple[str, ...], expires: int | None, host: Host, output: str) -> None:
    """Add the user NAME and print its token, which is shown once: git asks for it as the password."""
    from portway.host.management.management_types import NewUser

    asked = {"name": name, "role": role, "apps": list(apps), "expires_in": expires}
    made = ask_control(host, "add_user", asked, NewUser)
    if output == "json":
        print_json(made)
    else:
        click.echo(made.token)
        click.echo(f"git asks for it as the password of {name} at {made.address}", err=True)


@command.command()
@click.argument("name")
@overlap_option
@expires_option
@host_options
@output_option
def rotate(name: str, overlap: int, expires: int | None, host: Host, output: str) -> None:
    """Give the user NAME another token, shown once. It lives as long as the one before, or --expires."""
    from portway.host.management.management_types import NewUser

    made = ask_control(host, "rotate_user", {"name": name, "overlap": overlap, "expires_in": expires}, NewUser)
    if output == "json":
        print_json(made)
    else:
        click.echo(made.token)


@command.command("list")
@host_options
@output_option
def list_(host: Host, output: str) -> None:
    """List the users, without their tokens, which are not kept."""
    from portway.host.management.management_types import UserList

    found = ask_control(host, "list_users", {}, UserList)
    if output == "json":
        print_json(found)
        return
    rows = [
        (user.name, user.role, shown_time(user.created), shown_expiry(user), " ".join(user.apps) or "all")
        for user in found.users
    ]
    print_table([("NAME", "ROLE", "CREATED", "EXPIRES", "APPS"), *rows])


@command.command()
@click.argument("name")
@host_options
@output_option
def revoke(name: str, host: Host, output: str) -> None:
    """Revoke the user NAME: its token is refused from now on."""
    ask_control(host, "revoke_user", {"name": name}, type(None))
    if output == "json":
        print_json({"name": name, "revoked": True})
    else:
        click.echo(f"revoked {name}{place_of(host)}", err=True)
