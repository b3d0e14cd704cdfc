"""`portway deploy`: its flags, and a folder, template or repository given to the host."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from portway.cli.chosen_host import Host, RemoteHost, host_options
from portway.cli.control_client import ask_control
from portway.cli.deploy_output import SupersededError, print_deployment, print_step
from portway.cli.options import output_option, print_json, require_folder
from portway.cli.variable_arguments import read_values

if TYPE_CHECKING:
    from portway.host.management.management_types import Deployments

_SECONDS = 1800.0


def _source(context: click.Context, argument: click.Parameter, value: str) -> str:
    """Return a source as the host finds it: a folder, which must exist, by its absolute path."""
    from portway.host.sources.named_source import is_folder

    if not is_folder(value):
        return value
    if not os.path.lexists(value):
        raise click.BadParameter(
            f"there is no folder {value!r}: give one, template:NAME, or a repository as https://HOST/PATH or "
            "git@HOST:PATH"
        )
    require_folder(value, argument, context)
    return os.path.abspath(value)


def _origins(_context: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    from portway.exceptions import SettingError
    from portway.http.cors import Cors

    try:
        Cors(value for value in values if value)
    except SettingError as error:
        raise click.BadParameter(str(error)) from None
    return values


@click.command()
@click.argument("source", callback=_source)
@click.option("--name", help="The app's name, a part of its URL. Default: the folder's.")
@click.option(
    "--public/--private",
    default=None,
    help="Let anybody call it, or only callers with a token. Default: as it is; a new app is private.",
)
@click.option(
    "--access",
    type=click.Choice(["gate", "public", "app"]),
    help="Who may call it: callers with a token (--private), anybody (--public), or whom the app itself lets in.",
)
@click.option(
    "--allow-origin",
    "origins",
    multiple=True,
    metavar="ORIGIN",
    callback=_origins,
    help="A web page that may call it, by scheme, host and port; repeatable, '' for none. Default: as it is.",
)
@click.option("--runtime", type=click.Choice(["python", "node"]), help="Default: by the files of the folder.")
@click.option("--root", "root_dir", metavar="DIR", help="The folder of the source that holds the app.")
@click.option("--build", "build_command", metavar="COMMAND", help="Default: install what the folder requires.")
@click.option("--start", "start_command", metavar="COMMAND", help="Serves MCP over HTTP on the port PORT.")
@click.option("--server", metavar="FILE[:OBJECT]", help="The server to start. Default: it is looked for.")
@click.option("--instances", "num_instances", type=click.IntRange(1, 100), help="How many run at once. Default: 1.")
@click.option(
    "--storage",
    "storage_gb",
    type=click.IntRange(0, 100_000),
    metavar="GB",
    help="The size of the folder PORTWAY_STORAGE, which outlives releases; 0 for none, but its data stays.",
)
@click.option(
    "--env",
    "variables",
    multiple=True,
    metavar="KEY=VALUE",
    help="Set a variable first, as `env set` does; repeatable.",
)
@click.option(
    "--allow-file",
    "allowed",
    multiple=True,
    metavar="FILE",
    help="A file, or pattern, that may hold a secret; repeatable.",
)
@click.option(
    "--upstream-token",
    metavar="VARIABLE",
    help="The variable with the token that the app's own server asks its callers for; the gate gives it.",
)
@click.option(
    "--contract",
    type=click.Choice(["report", "breaking", "locked"]),
    help="What stops a deploy: nothing, a change that callers may fail by, or any change of what the server shows.",
)
@click.option(
    "--accept", metavar="ID", multiple=True, help="A change of the contract that does not stop the deploy; repeatable."
)
@click.option("--skip", is_flag=True, help="Leave out what of its render.yaml is not hosted here.")
@host_options
@output_option
def command(
    source: str,
    name: str | None,
    public: bool | None,
    access: str | None,
    origins: tuple[str, ...],
    variables: tuple[str, ...],
    allowed: tuple[str, ...],
    skip: bool,
    accept: tuple[str, ...],
    host: Host,
    output: str,
    **given: object,
) -> None:
    """Deploy SOURCE to the running host: a folder, template:NAME or GIT-URL[#REF].

    A folder holds a server in server.py, main.py or app.py, or anything that --start serves. The templates are
    those of `portway init`. A git repository is fetched by https or ssh, its default branch unless #REF names another
    branch, a tag or a commit. An option that is not given has the value in the source's render.yaml; without one, it
    stays as it was in the live release. The value '' resets an option. A new private app's token is shown once.
    When the deploy fails, the previous release goes on serving, and the exit code is 1. It waits while another
    deploy or change of the app is under way; when a newer deploy comes meanwhile, that one is done instead: exit
    code 3.
    """
    from portway.host.management.management_types import Deployments
    from portway.host.sources.named_source import is_folder

    if public is not None:
        if access is not None:
            raise click.UsageError("--public and --private are short for --access: give one of them")
        access = "public" if public else "gate"
    pages = [origin for origin in origins if origin] if origins else None
    arguments = given | {
        "source": source,
        "name": name,
        "access": access,
        "origins": pages,
        "variables": read_values(variables),
        "allowed": list(allowed),
        "skip": skip,
        "accept": list(accept),
    }
    if isinstance(host, RemoteHost) and is_folder(source):
        done = _push(host, Path(source), arguments)
    else:
        done = ask_control(host, "deploy", arguments, Deployments, on_step=print_step, seconds=_SECONDS)
    if done.superseded:
        raise SupersededError(done.superseded)
    if output == "json":
        print_json(done.apps[0] if len(done.apps) == 1 else done)
        return
    for app in done.apps:
        print_deployment(app)


def _push(host: RemoteHost, folder: Path, arguments: dict[str, object]) -> Deployments:
    """Deploy a folder to a host elsewhere: its variables go first, then its files as a push."""
    from portway.cli.folder_push import push_folder
    from portway.host.git.push_options import write_options
    from portway.host.management.management_types import Deployments, VariableChange

    apps = _apps(folder, arguments)
    if variables := arguments["variables"]:
        if len(apps) > 1:
            raise click.ClickException("--env is for one app, and the blueprint has several: use `portway env set`")
        change = {"app": apps[0], "variables": variables, "restart": False}
        ask_control(host, "set_variables", change, VariableChange)
    outcome = push_folder(folder, apps[0], host, write_options(arguments | {"deploy": True}))
    if outcome.error:
        raise click.ClickException(outcome.error)
    return Deployments(outcome.apps, outcome.superseded)


def _apps(folder: Path, arguments: dict[str, object]) -> list[str]:
    """Return the names of the apps in a folder. Raises `ClickException`."""
    from portway.host.blueprint.blueprint import read_blueprint
    from portway.host.blueprint.problems import BlueprintError
    from portway.host.sources.source import SourceError, app_name

    name = arguments["name"]
    try:
        if isinstance(name, str):
            return [app_name("", name)]
        blueprint = read_blueprint(folder, skip=bool(arguments["skip"]))
        return list(blueprint.apps) if blueprint else [app_name(folder.name, None)]
    except (BlueprintError, SourceError, OSError) as error:
        raise click.ClickException(str(error)) from None
