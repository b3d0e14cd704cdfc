"""`portway user`: say who may use the host, by a token or as one of a group at its identity provider."""

import click

from portway.cli.chosen_host import Host, host_options, place_of
from portway.cli.control_client import ask_control
from portway.cli.options import output_option, print_json
from portway.cli.table import print_table, shown_time
from portway.cli.token_lifetimes import expires_option, overlap_option, renewed_expires_option, shown_expiry


@click.group(no_args_is_help=True)
def command() -> None:
    """Add, rotate, list and revoke the users of the host; give roles to groups of its identity provider."""


_role_option = click.option(
    "--role",
    type=click.Choice(["viewer", "deployer", "admin"]),
    required=True,
    help="A viewer clones, a deployer pushes too, an admin may do everything.",
)
_apps_option = click.option(
    "--app", "apps", multiple=True, metavar="APP", help="An app it may use; repeatable. Default: all apps."
)


@command.command()
@click.argument("name")
@_role_option
@_apps_option
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
@renewed_expires_option
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
    """List the users, without their tokens, which are not kept, and the groups that have a role."""
    from portway.host.management.management_types import UserList

    found = ask_control(host, "list_users", {}, UserList)
    if output == "json":
        print_json(found)
        return
    rows = [
        (
            f"{group.claim}={group.group} at {group.issuer}",
            group.role,
            shown_time(group.created),
            "-",
            " ".join(group.apps) or "all",
        )
        for group in found.groups
    ]
    rows += [
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


_claim_option = click.option(
    "--claim",
    default="groups",
    show_default=True,
    help="The claim of access tokens that lists the groups, such as roles, or sub for one person.",
)

_issuer_option = click.option("--issuer", metavar="URL", default="", help="The provider, if the host has several.")


@command.command("map")
@click.argument("group")
@_role_option
@_apps_option
@_claim_option
@_issuer_option
@host_options
@output_option
def map_(group: str, role: str, apps: tuple[str, ...], claim: str, issuer: str, host: Host, output: str) -> None:
    """Give a role to those who log in at the identity provider of the host and are in GROUP there."""
    from portway.host.management.management_types import GroupInfo

    asked = {"name": group, "role": role, "apps": list(apps), "claim": claim, "issuer": issuer}
    made = ask_control(host, "map_group", asked, GroupInfo)
    if output == "json":
        print_json(made)
    else:
        click.echo(f"{claim}={group} has the role {role}{place_of(host)}", err=True)


@command.command()
@click.argument("group")
@_claim_option
@_issuer_option
@host_options
@output_option
def unmap(group: str, claim: str, issuer: str, host: Host, output: str) -> None:
    """Take the role of GROUP: what its members have open ends."""
    ask_control(host, "unmap_group", {"name": group, "claim": claim, "issuer": issuer}, type(None))
    if output == "json":
        print_json({"group": group, "claim": claim, "unmapped": True})
    else:
        click.echo(f"{claim}={group} has no role any more{place_of(host)}", err=True)
