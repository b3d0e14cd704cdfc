"""`portway init`: write a small complete project."""

import os
import shlex
from pathlib import Path

import click

from portway.cli.options import output_option, print_json
from portway.host.templates.template import TEMPLATES


@click.command()
@click.argument("folder", metavar="[DIR]", default=".", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--template",
    "kind",
    type=click.Choice(list(TEMPLATES)),
    default="fastmcp",
    show_default=True,
    help="FastMCP or Portway in Python, or the official SDK with Express in Node.",
)
@click.option("--name", help="The app's name. Default: the folder's.")
@output_option
def command(folder: Path, kind: str, name: str | None, output: str) -> None:
    """Write a small complete MCP server into DIR, by default this folder.

    It has a tool, a resource and a prompt, tests, a render.yaml, and a .env with a new token for its callers. It runs
    alone, on Render and on this host. A file that exists is never overwritten.
    """
    from portway.host.sources.source import SourceError, app_name
    from portway.host.templates.template import local_environment

    template = TEMPLATES[kind]
    place = Path(os.path.abspath(folder))
    try:
        app = app_name(place.name, name)
        files = template.files(app)
        files[".env"] = local_environment(files[".env.example"])
        folders = {str(parent) for path in files for parent in Path(path).parents}
        there = [path for path in files if os.path.lexists(place / path)]
        there += [path for path in sorted(folders) if os.path.lexists(place / path) and not (place / path).is_dir()]
        if there:
            raise click.ClickException(f"{place} has {', '.join(there)} already: move that away, or give another DIR")
        for path, content in files.items():
            _write(place / path, content)
    except (SourceError, OSError) as error:
        raise click.ClickException(str(error)) from None
    enter = "" if folder == Path() else f"cd {shlex.quote(click.format_filename(folder))} && "
    steps = {"run": enter + template.run, "test": template.test, "deploy": "portway deploy ."}
    if output == "json":
        print_json({"app": app, "template": kind, "folder": str(place), "files": sorted(files), **steps})
        return
    click.echo(f"{app}: {len(files)} files of the template {kind} in {place}; its token is in .env", err=True)
    for step, line in steps.items():
        click.echo(f"{step:<8}{line}")


def _write(path: Path, content: bytes) -> None:
    """Write a new file, of which `.env` is for its owner only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = 0o600 if path.name == ".env" else 0o666
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
