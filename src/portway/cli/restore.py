"""`portway restore`: make a host of a backup."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import click

from portway.cli.options import data_option, output_option, print_json, require_linux


@click.command()
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option(
    "--key-from",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False),
    help="The key that `portway backup` has written with --key-to.",
)
@click.option("--take-over", is_flag=True, help="The host that was backed up is off, and stays off.")
@data_option
@output_option
def command(file: str | None, key_from: str | None, take_over: bool, data: str | None, output: str) -> None:
    """Restore the backup FILE, or that on stdin for `-`, to a data directory that is empty or not there.

    `portway up` then builds its apps and serves them. Until you say --take-over, now or later without FILE, links are
    not followed, and hooks and pushes are refused: the host that was backed up may still do all this.
    """
    require_linux()
    from portway.host.backup.backup_format import BackupError
    from portway.host.backup.backup_reader import BackupReader
    from portway.host.backup.restore import restore_backup
    from portway.host.paths import PathError, locate
    from portway.host.secrets.key_file import KeyFile

    if file is None and not take_over:
        raise click.UsageError("name the file with the backup")
    try:
        paths = locate(data)
        warnings: list[str] = []
        if file is None:
            if not paths.restored.exists():
                raise click.ClickException(f"{paths.data} has nothing to take over: it is not a restored host")
            paths.restored.unlink()
        else:
            key = KeyFile(Path(key_from)) if key_from else None
            with _input(file) as stream:
                reader = BackupReader(stream, file)
                warnings = restore_backup(reader, paths, key, _print_step, takes_over=take_over)
    except (BackupError, PathError) as error:
        raise click.ClickException(str(error)) from None
    except OSError as error:
        raise click.ClickException(f"the backup cannot be restored: {error.strerror}") from None
    for warning in warnings:
        click.echo(f"warning  {warning}", err=True)
    if output == "json":
        print_json({"data": str(paths.data), "takes_over": take_over, "warnings": warnings})
    elif file is not None:
        click.echo(f"restored to {paths.data}: `portway up --data {paths.data}` builds and serves its apps", err=True)
    else:
        click.echo("links, hooks and pushes are taken over", err=True)


@contextlib.contextmanager
def _input(file: str) -> Iterator[BinaryIO]:
    if file == "-":
        yield sys.stdin.buffer
        return
    with open(file, "rb") as stream:
        yield stream


def _print_step(step: str) -> None:
    click.echo(f"-----> {step}", err=True)
