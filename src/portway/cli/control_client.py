"""The command line as a client of control: one call to the running host, with its errors as one line."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import click

from portway.host.paths import PathError, Paths, locate

T = TypeVar("T")
_START_SECONDS, _RESTART_SECONDS = 2.0, 10.0


class HostUnreachable(click.ClickException):
    """No host is running, or it does not answer."""


def ask_control(
    data: str | None,
    tool: str,
    arguments: Mapping[str, object],
    kind: type[T],
    *,
    on_step: Callable[[str], None] | None = None,
    seconds: float = 60.0,
) -> T:
    """Call a tool of the management server and return its result.

    Raises `HostUnreachable`, or `ClickException` when the tool fails.
    """
    import asyncio

    import msgspec

    from portway.client import CallResult, Client, ClientError, Progress
    from portway.protocol.errors import RpcError

    try:
        paths = locate(data)
    except PathError as error:
        raise click.ClickException(str(error)) from None
    if not _listens(paths):
        raise HostUnreachable(f"no host is running on {paths.data}: start one with `portway up`, or name its --data")

    def progress(done: Progress) -> None:
        if on_step is not None and done.message:
            on_step(done.message)

    async def call() -> CallResult:
        async with Client(f"unix:{paths.control_socket}", era="modern", timeout=seconds) as client:
            return await client.call_tool(tool, arguments, on_progress=progress if on_step else None)

    try:
        result = asyncio.run(call())
    except ClientError as error:
        raise HostUnreachable(f"the host on {paths.data} did not answer ({error}): is it still up?") from None
    except RpcError as error:
        raise click.ClickException(error.message) from None
    if result.is_error:
        raise click.ClickException(result.text)
    return msgspec.convert(result.structured, kind) if kind is not type(None) else None


def _listens(paths: Paths) -> bool:
    """Return whether control can be asked. It gets time to start, and more when the gate shows that a host runs."""
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
