"""`portway backup`: write the whole host to one file, which gets its name when it is whole, and a copy of its key."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from portway.cli.options import data_option, output_option, print_json, require_linux

if TYPE_CHECKING:
    from portway.host.secrets.key_file import KeyFile

_LOW_PRIORITY = 19  # calls go first


@click.command()
@click.argument("file")
@click.option("--key-to", metavar="FILE", help="Copy the key of the variables there; it is not in the backup.")
@click.option("--key-file", metavar="FILE", help="Where the key is, if `portway up` was given the same option.")
@data_option
@output_option
def command(file: str, key_to: str | None, key_file: str | None, data: str | None, output: str) -> None:
    """Write apps, sources, variables, storage, tokens, users, links and records to FILE, or to stdout for `-`.

    The host may run meanwhile. Variables are encrypted by a key that is not in the backup: without it they are lost.
    """
    require_linux()
    os.nice(_LOW_PRIORITY)
    from portway.host.backup.backup_format import BackupError
    from portway.host.backup.make_backup import make_backup
    from portway.host.paths import PathError, locate
    from portway.host.secrets.key_file import KeyFile, KeyFileError, find_key_file

    if file == "-" and (output == "json" or sys.stdout.isatty()):
        raise click.ClickException("the backup goes to stdout: let it go to a file or a program, without -o json")
    try:
        paths = locate(data)
        key = KeyFile(find_key_file(paths, key_file))
        if key_to is not None:
            _copy_key(key, Path(key_to))
        with _output(file) as stream:
            made = make_backup(paths, key, stream, _print_step)
    except (BackupError, KeyFileError, PathError) as error:
        raise click.ClickException(str(error)) from None
    except OSError as error:
        raise click.ClickException(f"the backup cannot be written: {error.strerror}") from None
    for warning in made.warnings:
        click.echo(f"warning  {warning}", err=True)
    if made.is_encrypted and key_to is None:
        click.echo(
            f"The key of the variables, {key.path}, is not in the backup, which is of no use without it: "
            "keep a copy of it elsewhere (--key-to FILE makes one).",
            err=True,
        )
    if output == "json":
        size = os.stat(file).st_size
        print_json({"file": file, "bytes": size, "apps": made.apps, "key": key_to, "warnings": made.warnings})


@contextlib.contextmanager
def _output(file: str) -> Iterator[BinaryIO]:
    """Open the file that the backup goes to. It gets its name when all of it is on the disk."""
    if file == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    draft = Path(f"{file}.part")
    draft.unlink(missing_ok=True)  # of a backup that was killed
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)


def _copy_key(key: "KeyFile", target: Path) -> None:
    """Copy the key file. Raises `ClickException` when another key is there."""
    content = key.path.read_bytes()
    if target.exists():
        if target.read_bytes() != content:
            raise click.ClickException(f"{target} holds another key: give --key-to another name")
        return
    with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
        os.fsync(file.fileno())


def _print_step(step: str) -> None:
    click.echo(f"-----> {step}", err=True)
