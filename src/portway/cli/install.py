"""`portway up --install`: write and check the systemd units of the host as it is called here."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from portway.cli.options import print_json

if TYPE_CHECKING:
    from portway.host.systemd_units import Units
    from portway.host.tls.https_settings import HttpsSettings

_LOG = ("PORTWAY_LOG_FORMAT", "PORTWAY_LOG_LEVEL")
_CLIENT = ("PORTWAY_AUTH_OPAQUE", "PORTWAY_AUTH_CLIENT_ID", "PORTWAY_AUTH_CLIENT_SECRET")  # no options, being secret
_HERE = {"data", "install", "key_file", "output", "system"}  # what the units say otherwise


def install(context: click.Context, host: str, https: HttpsSettings | None, *, for_system: bool) -> None:
    """Write the units for the command of `context`, and print how to start them.

    It listens on `host`, or with `https` on the public ports.
    """
    from portway.host.paths import PathError, data_directory
    from portway.host.systemd_units import STATE, listen_lines, system_units, user_units

    data, key_file = context.params["data"], context.params["key_file"]
    port = context.params["port"]
    ports = [port] if https is None else [https.https_port, https.http_port]
    if 0 in ports:
        raise click.UsageError("--install needs fixed ports: none of them may be 0")
    try:
        directory = STATE if for_system and data is None else data_directory(data)
    except PathError as error:
        raise click.ClickException(str(error)) from None
    key = None if key_file is None else os.path.abspath(key_file)
    command = [sys.executable, "-m", "portway", "up", *_words(context), "--data", str(directory)]
    variables = _variables()
    texts = [*((repr(word), word) for word in (*command, key or "")), *variables.items()]
    if unprintable := next((name for name, text in texts if not text.isprintable()), None):
        raise click.ClickException(f"{unprintable} contains a line break or another character that no unit can hold")
    listen = listen_lines(host, port, https)
    if for_system:
        _require_readable()
        units = system_units(command, directory, listen, key, variables)
    else:
        _require_port(min(ports))
        base = os.environ.get("XDG_CONFIG_HOME")
        units = user_units(Path(base) if base else Path.home() / ".config", command, listen, key, variables)
    _write(units)
    if context.params["output"] == "json":
        files = [str(path) for path in units.files]
        print_json({"units": files, "variables": list(variables), "next": units.commands})
        return
    for path in units.files:
        click.echo(f"wrote {path}")
    if variables:
        click.echo(f"kept of your environment: {', '.join(variables)}")
    click.echo("\n".join(["Now run:", *(f"  {command}" for command in units.commands)]))


def _variables() -> dict[str, str]:
    """Return the variables that change what the host does and are no options. Values may be secrets."""
    from portway.host.builds.build_environment import package_sources

    kept = (*_LOG, *_CLIENT) if os.environ.get("PORTWAY_AUTH_OPAQUE") == "1" else _LOG
    return {name: os.environ[name] for name in kept if os.environ.get(name)} | package_sources()


def _words(context: click.Context) -> list[str]:
    """Return the arguments and options that were given, also by variables, with absolute paths."""
    words: list[str] = []
    for parameter in context.command.params:
        name = parameter.name or ""
        source = context.get_parameter_source(name)
        if name in _HERE or source not in {ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT}:
            continue
        value = context.params[name]
        is_path = isinstance(parameter.type, click.Path)
        several = parameter.multiple or parameter.nargs == -1
        texts = [str(each) for each in (value if isinstance(value, list | tuple) else [value])]
        texts = [os.path.abspath(text) if is_path else text for text in texts]
        if isinstance(parameter, click.Argument):
            words += texts
        elif value is True or value is False:
            words += [parameter.opts[0]] * value
        else:
            for text in texts if several else [",".join(texts)]:
                words += [parameter.opts[0], text]
    return words


def _require_port(port: int) -> None:
    """Refuse a port that the systemd of a user cannot open."""
    first = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    if port < first and os.getuid() != 0:
        raise click.ClickException(f"port {port} needs root: add --system, or choose one from {first} on")


def _require_readable() -> None:
    """Refuse an installation that the user of the service cannot run."""
    import portway
    from portway.host.systemd_units import USER, is_open_to_all

    if os.getuid() != 0:
        raise click.ClickException("--system writes to /etc/systemd/system: run it with root, or leave --system out")
    for path in (Path(sys.executable).resolve(), Path(portway.__file__)):
        if not is_open_to_all(path):
            raise click.ClickException(
                f"the user {USER!r}, who would run the host, cannot read {path}: install portway for all users, "
                "as into /opt/portway"
            )


def _write(units: Units) -> None:
    """Write the files, unless one of them exists with another content, or is a link, by which others could read it."""
    try:
        for path, text in units.files.items():
            if path.is_symlink():
                raise click.ClickException(f"{path} is a symbolic link: look at it, and remove it first")
            if path.exists() and path.read_text(errors="replace") != text:
                raise click.ClickException(f"{path} exists with another content: look at it, and remove it first")
        for path, text in units.files.items():
            is_private = path in units.private
            _make_folder(path.parent, 0o700 if is_private else 0o755)
            path.unlink(missing_ok=True)  # so that it is ours, with no other name
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(text)
                os.fchmod(descriptor, 0o600 if is_private else 0o644)
    except OSError as error:
        raise click.ClickException(f"cannot write {error.filename}: {error.strerror}") from None


def _make_folder(folder: Path, mode: int) -> None:
    """Make a folder and those above it where they are missing, with this mode whatever the umask."""
    if not folder.is_dir():
        _make_folder(folder.parent, mode)
        folder.mkdir(0o700)
        folder.chmod(mode)
