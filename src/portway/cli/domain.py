"""`portway domain`: add, list and remove an app's domain names."""

import click

from portway.cli.chosen_host import Host, host_options, place_of
from portway.cli.control_client import ask_control
from portway.cli.options import output_option, print_json
from portway.cli.table import print_table


@click.group(no_args_is_help=True)
def command() -> None:
    """Add, list and remove the domain names at which an app is, beside its own below the host's domain."""


@command.command()
@click.argument("app")
@click.argument("name")
@host_options
@output_option
def add(app: str, name: str, host: Host, output: str) -> None:
    """Serve APP at the domain NAME too, from now on, and print what the DNS must say of it."""
    from portway.host.management.management_types import NewDomain

    made = ask_control(host, "add_domain", {"app": app, "name": name}, NewDomain)
    if output == "json":
        print_json(made)
        return
    click.echo(made.url)
    if made.records:
        click.echo("at your DNS, make the first of these records, or the others where it allows no CNAME:", err=True)
        for record in made.records:
            click.echo(f"  {record.name}  {record.type}  {record.value}", err=True)
    else:
        click.echo("this host is for its own machine: start it with --domain for others to reach it", err=True)


@command.command("list")
@click.argument("app")
@host_options
@output_option
def list_(app: str, host: Host, output: str) -> None:
    """List APP's domain names, who gave them, and where each leads."""
    from portway.host.management.management_types import DomainList

    found = ask_control(host, "list_domains", {"app": app}, DomainList)
    if output == "json":
        print_json(found)
        return
    rows = [(domain.name, domain.source, domain.dns) for domain in found.domains]
    print_table([("NAME", "FROM", "DNS"), *rows])


@command.command()
@click.argument("app")
@click.argument("name")
@host_options
@output_option
def remove(app: str, name: str, host: Host, output: str) -> None:
    """Serve APP at the domain NAME no more."""
    ask_control(host, "remove_domain", {"app": app, "name": name}, type(None))
    if output == "json":
        print_json({"app": app, "name": name, "removed": True})
    else:
        click.echo(f"removed {name} from {app}{place_of(host)}", err=True)
