"""`portway link`: deploy a branch of a repository elsewhere, and each new commit of it."""

from typing import BinaryIO

import click

from portway.cli.chosen_host import Host, host_options
from portway.cli.control_client import ask_control
from portway.cli.deploy_output import print_deployment, print_step
from portway.cli.options import output_option, print_json

_SECONDS = 1800.0
_LARGEST_KEY = 32_768


@click.command()
@click.argument("app")
@click.argument("repository", metavar="GIT-URL")
@click.option("--branch", default="", help="Default: the repository's own.")
@click.option("--root", "root_dir", metavar="DIR", default="", help="The folder of the repository that holds the app.")
@click.option("--key", type=click.File("rb"), help="The private key by which ssh is let in: a deploy key.")
@click.option(
    "--allow-file",
    "allowed",
    multiple=True,
    metavar="FILE",
    help="A file, or pattern, that may hold a secret, in later commits too; repeatable.",
)
@host_options
@output_option
def command(
    app: str,
    repository: str,
    branch: str,
    root_dir: str,
    key: BinaryIO | None,
    allowed: tuple[str, ...],
    host: Host,
    output: str,
) -> None:
    """Deploy a branch of GIT-URL as APP, and from now on each new commit of it.

    The host looks for new commits each minute, and at once when a webhook tells of a push. The secret of the webhook
    is shown once.
    """
    from portway.host.management.management_types import NewLink

    content = key.read(_LARGEST_KEY).decode("ascii", "replace").replace("\r\n", "\n") if key else ""
    arguments = {"app": app, "repository": repository, "branch": branch, "root_dir": root_dir, "key": content}
    made = ask_control(host, "link", arguments | {"allowed": [*allowed]}, NewLink, on_step=print_step, seconds=_SECONDS)
    if output == "json":
        print_json(made)
        return
    for one in made.apps:
        print_deployment(one)
    click.echo(f"linked to {made.repository}, branch {made.branch}")
    click.echo(f"webhook {made.webhook}")
    click.echo(f"secret {made.secret}   (shown once; link again for another)")
    click.echo(f"deploy hook {made.deploy_hook}")
