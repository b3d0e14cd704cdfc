"""What the host's verbs share: the data directory's option, one call to the running host, its errors as one line."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from portway.host.paths import Paths, locate

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T")
_START_SECONDS, _RESTART_SECONDS = 2.0, 10.0

data_option = click.option(
    "--data",
    metavar="DIR",
    envvar="PORTWAY_DATA",
    help="The host's data directory. Also from PORTWAY_DATA. Default: portway under XDG_DATA_HOME.",
)
output_option = click.option(
    "-o",
    "--output",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="How to print the answer.",
)


class HostAway(click.ClickException):
    """There is no host, or it does not answer just now."""


def ask(
    data: str | None,
    tool: str,
    arguments: Mapping[str, object],
    kind: type[T],
    *,
    on_step: Callable[[str], None] | None = None,
    seconds: float = 60.0,
) -> T:
    """The answer of one of the management server's tools. Raises `HostAway`, or `ClickException` when it refuses."""
    import asyncio

    import msgspec

    from portway.client import CallResult, Client, ClientError, Progress
    from portway.protocol.errors import RpcError

    paths = locate(data)
    if not _listens(paths):
        raise HostAway(f"no host is running on {paths.data}: start one with `portway up`, or name its --data")

    def progress(done: Progress) -> None:
        if on_step is not None and done.message:
            on_step(done.message)

    async def call() -> CallResult:
        async with Client(f"unix:{paths.control_socket}", era="modern", timeout=seconds) as client:
            return await client.call_tool(tool, arguments, on_progress=progress if on_step else None)

    try:
        result = asyncio.run(call())
    except ClientError as error:
        raise HostAway(f"the host on {paths.data} did not answer ({error}): is it still up?") from None
    except RpcError as error:
        raise click.ClickException(error.message) from None
    if result.is_error:
        raise click.ClickException(result.text)
    return msgspec.convert(result.structured, kind) if kind is not type(None) else None


def _listens(paths: Paths) -> bool:
    """Whether control can be asked. It is given time to start, and more where its gate shows that a host runs."""
    began = time.monotonic()
    while not _answers(paths.control_socket):
        waited = time.monotonic() - began
        if waited > _START_SECONDS and (waited > _RESTART_SECONDS or not _answers(paths.gate_socket)):
            return False
        time.sleep(0.05)
    return True


def _answers(path: Path) -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
        probe.connect(str(path))
        return True
    return False


def print_json(answer: DataclassInstance) -> None:
    """An answer as one JSON object; what is None is left out."""
    import json
    from dataclasses import asdict

    click.echo(json.dumps({key: value for key, value in asdict(answer).items() if value is not None}))
