"""`portway login`: remember a host elsewhere, and the token by which this user manages it."""

import os
import re
import sys
from typing import TextIO
from urllib.parse import urlsplit

import click

from portway.cli.chosen_host import RemoteHost, require_user_token
from portway.cli.control_client import ask_control
from portway.cli.options import output_option, print_json

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.:_-]{0,99}")
_MOST = 4096


@click.command()
@click.argument("url")
@click.option("--name", default="", help="What --on and PORTWAY_HOST call it. Default: its host name.")
@click.option("--token-file", type=click.File(errors="replace"), help="A file with the token; - for stdin.")
@click.option("--insecure", is_flag=True, help="Send the token in clear text to an http:// address.")
@output_option
def command(url: str, name: str, token_file: TextIO | None, insecure: bool, output: str) -> None:
    """Log in to the host at URL: from now on, verbs can act on it from this machine.

    The token is that of a user of the host, which `portway user add` prints there. It is asked for, or read from
    --token-file, PORTWAY_TOKEN or stdin, tried, and kept in a file that only you can read.
    """
    from portway.cli.login_file import Login, host_url, login_file, read_logins, refuse_clear_text, write_logins
    from portway.host.management.management_types import Identity

    url = host_url(url)
    if not insecure:
        refuse_clear_text(url)
    name = name or urlsplit(url).netloc.strip("[]")
    if not _NAME.fullmatch(name):
        raise click.UsageError("--name takes letters, digits and any of . : _ -, with a letter or a digit first")
    token = _token(token_file)
    logins = read_logins()
    host = RemoteHost(name, url, token)
    user = ask_control(host, "whoami", {}, Identity)
    write_logins(logins | {name: Login(url, token, insecure)})
    if output == "json":
        print_json({"name": name, "url": url, "user": user.name, "role": user.role, "file": login_file()})
    else:
        role = f"{'an' if user.role == 'admin' else 'a'} {user.role}"
        click.echo(f"logged in to {host} as {user.name}, {role}", err=True)


def _token(file: TextIO | None) -> str:
    """Return the token of a user. Raises `UsageError`."""
    if file is not None:
        token = file.read(_MOST)
    elif not (token := os.environ.get("PORTWAY_TOKEN", "")):
        token = _asked()
    token = token.strip()
    require_user_token(token)
    return token


def _asked() -> str:
    if sys.stdin is not None and sys.stdin.isatty():
        return str(click.prompt("Token of your user (not shown)", hide_input=True, err=True))
    if sys.stdin is None or not (text := sys.stdin.buffer.read(_MOST).decode(errors="replace").strip()):
        raise click.UsageError("there is no terminal to ask on: give the token by --token-file, PORTWAY_TOKEN or stdin")
    return text
