"""`portway login`: log in to an MCP server by the browser, or to a host elsewhere by the token of its user."""

import os
import re
import sys
import time
from typing import TextIO
from urllib.parse import urlsplit

import click

from portway.cli.chosen_host import MANAGEMENT_PATH, RemoteHost, require_user_token
from portway.cli.control_client import ask_control
from portway.cli.options import output_option, print_json
from portway.cli.server_login import Asked, log_in_to_server
from portway.cli.terminal_text import plain_line

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.:_-]{0,99}")
_MOST = 4096


@click.command()
@click.argument("url", required=False, default="")
@click.option("--list", "lists", is_flag=True, help="List the servers and hosts that you are logged in to.")
@click.option("--name", default="", help="Of a host: what --on and PORTWAY_HOST call it. Default: its host name.")
@click.option("--token-file", type=click.File(errors="replace"), help="Of a host: a file with the token; - for stdin.")
@click.option("--insecure", is_flag=True, help="Of a host: send the token in clear text to an http:// address.")
@click.option("--server", is_flag=True, help="The URL is of an MCP server, although it has no path.")
@click.option("--scope", "scopes", multiple=True, help="Of a server: ask for this scope, too. Can be repeated.")
@click.option("--client-id", default="", help="Of a server: the client that is registered with its provider.")
@click.option("--client-secret-file", type=click.File(errors="replace"), help="Of a server: a file with its secret.")
@click.option("--issuer", default="", help="Of a server: the provider that the client id is for.")
@click.option("--client-metadata-url", default="", help="Of a server: an https URL of a client metadata document.")
@click.option(
    "--callback-port", type=click.IntRange(0, 65_535), default=0, help="Of a server: where the browser comes back to."
)
@click.option("--no-browser", is_flag=True, help="Of a server: print the page, open no browser.")
@output_option
def command(
    url: str,
    lists: bool,
    name: str,
    token_file: TextIO | None,
    insecure: bool,
    server: bool,
    scopes: tuple[str, ...],
    client_id: str,
    client_secret_file: TextIO | None,
    issuer: str,
    client_metadata_url: str,
    callback_port: int,
    no_browser: bool,
    output: str,
) -> None:
    """Log in to the MCP server at URL by its provider's page, or to the host whose address is URL, without a path.

    At a server, `call`, `inspect` and `check` use the login from now on, and refresh it. At a host, verbs can act on it
    from this machine: the token is that of a user of the host, which `portway user add` prints there. It is asked for,
    or read from --token-file, PORTWAY_TOKEN or stdin. Both are tried, and kept in files that only you can read.
    """
    if bool(url) == lists:
        raise click.UsageError("give the URL of a server or a host, or --list alone")
    if lists:
        from portway.cli.login_list import list_logins

        list_logins(output)
        return
    secret = client_secret_file.read(_MOST).strip() if client_secret_file is not None else ""
    asked = Asked(scopes, client_id, secret, issuer, client_metadata_url, callback_port, browser=not no_browser)
    is_server = server or _has_path(url)
    if is_server and (name or token_file is not None or insecure):
        raise click.UsageError("--name, --token-file and --insecure are for a host: give its address, without a path")
    if not is_server and asked != Asked():
        raise click.UsageError("that option is for an MCP server: give its URL with its path, or --server")
    if is_server:
        _log_in_to_server(url, asked, output)
    else:
        _log_in_to_host(url, name, token_file, insecure, output)


def _has_path(url: str) -> bool:
    try:
        return "://" in url and urlsplit(url).path.strip("/") != ""
    except ValueError:  # an open bracket
        return False


def _log_in_to_server(url: str, asked: Asked, output: str) -> None:
    login = log_in_to_server(url, asked)
    if output == "json":
        left = {} if login.expires is None else {"expires_in": round(login.expires - time.time())}
        print_json({"url": url, "issuer": login.issuer, "scopes": login.scopes, **left})
    else:
        told = f", with {' '.join(login.scopes)}" if login.scopes else ""
        click.echo(plain_line(f"logged in at {url} by {login.issuer}{told}"), err=True)


def _log_in_to_host(url: str, name: str, token_file: TextIO | None, insecure: bool, output: str) -> None:
    from portway.cli.host_logins import Login, host_url, login_file, read_logins, refuse_clear_text, write_logins
    from portway.host.management.management_types import Identity

    url = host_url(url)
    if not insecure:
        refuse_clear_text(url)
    name = name or urlsplit(url).netloc.strip("[]")
    if not _NAME.fullmatch(name):
        raise click.UsageError("--name takes letters, digits and any of . : _ -, with a letter or a digit first")
    _require_host(url)
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


def _require_host(url: str) -> None:
    """Raise `ClickException` if what answers at `url` is no host, before anybody looks for a token."""
    import asyncio

    from portway.client import Client, ClientError
    from portway.protocol.errors import RpcError

    async def ask() -> None:
        async with Client(url + MANAGEMENT_PATH, era="modern", timeout=10):
            pass

    try:
        asyncio.run(ask())
    except (ClientError, RpcError) as error:
        if error.status in (404, 405):
            raise click.ClickException(
                f"there is no Portway host at {url}: for an MCP server give its path, too, as in "
                f"`portway login {url}/mcp`"
            ) from None


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
