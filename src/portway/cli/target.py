"""The target of `inspect` and `call`: a file, a URL or a command."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

import click

from portway.cli.load_server import LoadError, require_file, split
from portway.cli.server_login import stored_login

if TYPE_CHECKING:
    from portway.client import Client
    from portway.client.server_requests import OnElicit

T = TypeVar("T")


def connect(
    target: list[str], token: str | None, use: Callable[[Client], Awaitable[T]], on_elicit: OnElicit | None = None
) -> T:
    """Connect to `target` (one FILE, URL or quoted command, or a command's words) and return the result of `use`.

    At a URL, the stored login is used unless there is a token. `on_elicit` answers what the server asks the user.
    Raises ClickException with one sentence for every failure.
    """
    import asyncio

    from portway.client import Client, ClientError
    from portway.protocol.errors import RpcError

    resolved = resolve(target)
    login = stored_login(resolved) if isinstance(resolved, str) and not token else None

    async def session() -> T:
        async with Client(resolved, token=token, auth=login, on_elicit=on_elicit) as client:
            return await use(client)

    try:
        return asyncio.run(session())
    except (ClientError, RpcError) as error:
        raise click.ClickException(str(error)) from None


def resolve(target: list[str]) -> str | list[str]:
    """Return what the client connects to: a URL as it is, or a command; for a Python file, one that serves it."""
    if len(target) > 1:
        return target
    text = target[0]
    if "://" in text or text.startswith("unix:"):
        return text
    path, _ = split(text)
    # What is too long for a path is a command, and so may a .py file that does not exist be: "python server.py".
    if os.path.isdir(path) or (path.suffix == ".py" and (os.path.exists(path) or " " not in text)):
        try:
            require_file(path)
        except LoadError as error:
            raise click.ClickException(str(error)) from None
        # The server writes to our standard error, where only its warnings and errors are of interest.
        os.environ.setdefault("PORTWAY_LOG_LEVEL", "warning")
        return [sys.executable, "-m", "portway", "run", text, "--transport", "stdio"]
    try:
        return shlex.split(text)
    except ValueError:
        raise click.ClickException(f"{text!r} is no command: a quotation is not closed") from None
