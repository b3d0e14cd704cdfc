"""`portway check`: validate a source without deploying it."""

from pathlib import Path

import click

from portway.cli.options import output_option, print_json


@click.command()
@click.argument("path", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--skip", is_flag=True, help="Leave out what is not hosted here, such as databases.")
@output_option
def command(path: Path, skip: bool, output: str) -> None:
    """Validate the folder PATH with its render.yaml, and print what a deploy would do.

    No host needs to run. The exit code is 1 when there is an error.
    """
    from portway.host.blueprint.checked_source import check_source
    from portway.host.blueprint.problems import BlueprintError
    from portway.host.builds.build_error import BuildError
    from portway.host.sources.source import SourceError

    try:
        checked = check_source(path, skip=skip)
    except (BlueprintError, SourceError, BuildError, OSError) as error:
        if output == "json":
            print_json({"errors": str(error).splitlines()})
            raise SystemExit(1) from None
        raise click.ClickException(str(error)) from None
    if output == "json":
        print_json(checked)
        return
    for warning in checked.warnings:
        click.echo(warning, err=True)
    for line in checked.lines():
        click.echo(line)
