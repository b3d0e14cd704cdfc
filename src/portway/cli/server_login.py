"""The browser login of `portway login URL`, `inspect` and `call` at an MCP server: browser or terminal, and the stored
token.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import click

from portway.cli.terminal_text import plain_line

if TYPE_CHECKING:
    from portway.client import Login, OAuthLogin


@dataclass(frozen=True, slots=True)
class Asked:
    """What `portway login` was told of a login."""

    scopes: tuple[str, ...] = ()
    client_id: str = ""
    client_secret: str = field(default="", repr=False)
    issuer: str = ""
    client_metadata_url: str = ""
    callback_port: int = 0
    browser: bool = True


def log_in_to_server(url: str, asked: Asked) -> Login:
    """Log in to the server at `url`, try that, and store it. Raises ClickException."""
    import asyncio

    from portway.client import ClientError, OAuthLogin
    from portway.client.oauth.login_logout import log_in
    from portway.protocol.errors import RpcError

    opens = asked.browser and has_browser()
    pastes = sys.stdin is not None and sys.stdin.isatty()
    if not opens and not pastes:
        raise click.ClickException(
            "a login needs a browser or a terminal, and there is neither: run it where one is, or pass a token by "
            "--token or PORTWAY_TOKEN to the verbs that take it"
        )

    async def visit(page: str) -> str | None:
        click.echo(f"Log in on this page:\n\n  {plain_line(page)}\n", err=True)
        click.echo(
            f"If it says that it does not know the client, end this, run `portway logout {url}`, and log in again.",
            err=True,
        )
        if opens:
            import webbrowser

            await asyncio.to_thread(webbrowser.open, page)
        if not pastes:
            return None
        click.echo("If that browser is on another machine, paste the address it ends at here.", err=True)
        return await _pasted()

    try:
        settings = OAuthLogin(
            asked.scopes,
            asked.client_id,
            asked.client_secret,
            asked.issuer,
            asked.client_metadata_url,
            callback_port=asked.callback_port,
            visit=visit,
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    try:
        return asyncio.run(log_in(url, settings))
    except (ClientError, RpcError) as error:
        raise click.ClickException(str(error)) from None


def stored_login(target: str) -> OAuthLogin | None:
    """Return how a verb uses the login that is stored for a target: nobody is asked. None for one without logins."""
    if not target.startswith(("http://", "https://")):
        return None
    from portway.client import OAuthLogin

    return OAuthLogin(visit=None)


def stored_token_of(url: str) -> str | None:
    """Return the access token of the login that is stored for the server at `url`. Raises ClickException."""
    import asyncio

    from portway.client import ClientError
    from portway.client.oauth.login_logout import stored_token

    try:
        return asyncio.run(stored_token(url)) or None
    except ClientError as error:
        raise click.ClickException(str(error)) from None


def log_out_of_server(url: str) -> bool:
    """Forget the login at the server at `url`. Return False if there is none. Raises ClickException."""
    import asyncio

    from portway.client import ClientError
    from portway.client.oauth.login_logout import log_out

    try:
        return asyncio.run(log_out(url))
    except ClientError as error:
        raise click.ClickException(str(error)) from None


def has_browser() -> bool:
    """Return whether a browser can be shown to the user."""
    if os.environ.get("BROWSER"):
        return True
    is_seen = sys.platform in ("win32", "darwin") or bool({"DISPLAY", "WAYLAND_DISPLAY"} & {*os.environ})
    return is_seen and sys.stderr.isatty()


async def _pasted() -> str | None:
    """Return the first line from the terminal that is the address of a response; tell of each that is none.

    None if the terminal is gone.
    """
    from portway.cli.typed_lines import TypedLines

    lines = TypedLines()
    while (text := await lines.next()) is not None:
        if "://" in text and "state=" in text:
            break
        click.echo(
            "That is not the address the browser ends at, which has `state=` in it: paste the whole of it here.",
            err=True,
        )
    return text
