"""The command line as a client of control: one call to the running host, with its errors as one line."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from portway.host.paths import PathError, Paths, locate

T = TypeVar("T")
_START_SECONDS, _RESTART_SECONDS = 2.0, 10.0
_ANSWER_SECONDS = 4.0  # for control to show that it runs, before the actual request
_PROBE_SECONDS, _PROBES = 10.0, 2  # while it is at work


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
    from portway.host.health_probe import is_alive
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
        address = f"unix:{paths.control_socket}"
        async with asyncio.timeout(_ANSWER_SECONDS):
            await is_alive(address)
        async with Client(address, era="modern", timeout=seconds) as client:
            call = client.call_tool(tool, arguments, on_progress=progress if on_step else None)
            return await _unless_it_hangs(address, call)

    try:
        result = asyncio.run(call())
    except TimeoutError:
        raise HostUnreachable(
            f"the host on {paths.data} does not answer: try again in half a minute, or look at `portway up`"
        ) from None
    except ClientError as error:
        raise HostUnreachable(f"the host on {paths.data} did not answer ({error}): is it still up?") from None
    except RpcError as error:
        raise click.ClickException(error.message) from None
    if result.is_error:
        raise click.ClickException(result.text)
    return msgspec.convert(result.structured, kind) if kind is not type(None) else None


async def _unless_it_hangs(address: str, call: Coroutine[Any, Any, T]) -> T:
    """Return the result of `call`. Raises `TimeoutError` when control stops answering probes."""
    import asyncio

    from portway.host.health_probe import until_silent

    work = asyncio.ensure_future(call)
    silence = asyncio.ensure_future(until_silent(address, _PROBE_SECONDS, _PROBES))
    try:
        await asyncio.wait((work, silence), return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise TimeoutError
        return work.result()
    finally:
        work.cancel()
        silence.cancel()


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
