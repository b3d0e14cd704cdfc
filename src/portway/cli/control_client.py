"""Calls a tool of a host for a verb: how long it waits, and the words for a host that cannot be reached, hangs or is of
another version.

A host of this machine is asked over its socket, one elsewhere over its public address, with the token of a user.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

from portway.cli.chosen_host import LOG_IN, MANAGEMENT_PATH, USER_TOKEN, Host, LocalHost, RemoteHost, answers

if TYPE_CHECKING:
    from portway.client import CallResult, Client, ClientError
    from portway.host.paths import Paths

T = TypeVar("T")
_START_SECONDS, _RESTART_SECONDS = 2.0, 10.0
_ANSWER_SECONDS = 4.0  # for control to show that it runs, before the actual request
_PROBE_SECONDS, _PROBES = 10.0, 2  # while it is at work


class HostUnreachable(click.ClickException):
    """No host is running, or it does not answer."""


def ask_control(
    host: Host,
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

    from portway.client import Client, ClientError, Progress
    from portway.protocol.errors import RpcError

    def progress(done: Progress) -> None:
        if on_step is not None and done.message:
            on_step(done.message)

    if isinstance(host, LocalHost):
        address, token = f"unix:{_listening(host.paths()).control_socket}", None
        name = f"the host on {host.paths().data}"
    else:
        address, token, name = host.url, host.token, str(host)
    target = address if token is None else address + MANAGEMENT_PATH
    client = Client(target, era="modern", token=token, timeout=seconds)

    async def call() -> CallResult:
        if token is None:
            await _require_answer(address)
        async with client:
            call = client.call_tool(tool, arguments, on_progress=progress if on_step else None)
            return await _unless_it_hangs(address, call)

    try:
        result = asyncio.run(call())
    except TimeoutError:
        raise HostUnreachable(f"{name} does not answer: try again in half a minute, or look at `portway up`") from None
    except ClientError as error:
        if isinstance(host, RemoteHost):
            raise _refused(host, error) from None
        raise HostUnreachable(f"{name} did not answer ({error}): is it still up?") from None
    except RpcError as error:
        raise click.ClickException(error.message + _skew(client)) from None
    if result.is_error:
        raise click.ClickException(result.text)
    try:
        return msgspec.convert(result.structured, kind) if kind is not type(None) else None
    except msgspec.ValidationError:
        raise click.ClickException(f"the answer of {name} cannot be read{_skew(client)}") from None


async def _require_answer(address: str) -> None:
    """Raise `TimeoutError` unless control shows soon that it runs."""
    import asyncio

    from portway.host.health_probe import is_alive

    async with asyncio.timeout(_ANSWER_SECONDS):
        await is_alive(address)


async def _unless_it_hangs(address: str, call: Coroutine[Any, Any, T]) -> T:
    """Return the result of `call`. Raises `TimeoutError` when the host stops answering probes."""
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


def _listening(paths: Paths) -> Paths:
    """Return the paths of a host that can be asked. It gets time to start, more when the gate shows that it runs.

    Raises `HostUnreachable`.
    """
    began = time.monotonic()
    while not answers(paths.control_socket):
        waited = time.monotonic() - began
        if waited > _START_SECONDS and (waited > _RESTART_SECONDS or not answers(paths.gate_socket)):
            raise HostUnreachable(
                f"no host is running on {paths.data}: start one with `portway up`, name its --data, or {LOG_IN}"
            )
        time.sleep(0.05)
    return paths


def _refused(host: RemoteHost, error: ClientError) -> click.ClickException:
    """Return what to say when a host elsewhere cannot be reached, or does not let this user in."""
    if error.status == 401:
        place = host.url if host.token.startswith(USER_TOKEN) else host.url + MANAGEMENT_PATH
        return click.ClickException(
            f"{host} does not know the token: it is mistyped, or was revoked; `portway login {place}` takes another"
        )
    if error.status in (404, 405):
        return click.ClickException(
            f"there is no Portway host at {host.url}, or an old one, which is managed on its own machine only: "
            "correct the address, or upgrade it"
        )
    return unreachable(host, error.__cause__ or error)


def unreachable(host: RemoteHost, error: BaseException) -> HostUnreachable:
    """Return what to say of a host elsewhere after an `UpstreamError`, or another reason why it gave no answer."""
    from portway.client.errors import tls_problem
    from portway.http.http_client import ConnectFailed

    if told := tls_problem(host.url, error):
        return HostUnreachable(told)
    if isinstance(error, ConnectFailed):
        return HostUnreachable(f"{host} is not reached ({error}): correct the address, or look at your network")
    return HostUnreachable(f"{host} did not answer ({error}): try again in a moment")


def _skew(client: Client) -> str:
    """Say so when the host is of another version than this command line, which may be why it does not understand."""
    import importlib.metadata

    mine, theirs = importlib.metadata.version("portway"), client.server.version
    if not theirs or theirs == mine:
        return ""
    return f"; the host has Portway {theirs}, and this is {mine}: install the same version here"
