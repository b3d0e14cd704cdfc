"""Waits, 60 s at most, until an instance is ready: its MCP endpoint is found, its health check passes; or says what a
silent server does (another port, SSE).
"""

import asyncio
import contextlib
from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from portway.client import Client, ClientError
from portway.host.health_probe import HealthCheck
from portway.host.instances.runtime import Instance
from portway.host.logs.last_lines import last_lines
from portway.host.releases.release import Release
from portway.http.http_client import HttpClient, UpstreamError
from portway.protocol.errors import RpcError

READY_SECONDS = 60.0
_RETRY_SECONDS = 0.02
_CHECK_SECONDS = 0.2
_END_SECONDS = 1.0  # from a cut answer to the end of the process
_LOOK_SECONDS = 1.0  # between looks for other ports, and for an answer there
_MESSAGE_BYTES = 5 * 2**20  # of what an app answers; control has many apps
_PATHS = ("/mcp", "/mcp/", "/")  # with the second slash: mounted at /mcp in Starlette, which redirects there
_REDIRECTS = (301, 302, 307, 308)
_NOT_HERE = (404, 405, *_REDIRECTS)
_NOT_YET = (502, 503, 504)

T = TypeVar("T")


class NotReady(Exception):
    """The instance ended or did not answer. `log` is the last lines it wrote."""

    def __init__(self, message: str, log: list[str]) -> None:
        super().__init__(message)
        self.log = log

    def __str__(self) -> str:
        return "\n  ".join([f"{self.args[0]}{':' if self.log else ''}", *self.log])


class TokenNeeded(NotReady):
    """The instance asks for a token of its own."""


@dataclass(frozen=True, slots=True)
class Approach:
    """How an instance is called: by which host name, and with which token if the server asks for one of its own."""

    host: str
    token: str = field(default="", repr=False)


async def until_answers(
    instance: Instance, release: Release, approach: Approach, seconds: float = READY_SECONDS
) -> None:
    """Wait until the instance answers as an MCP server. Raises `NotReady`, at once when it ends."""
    endpoint = Endpoint(instance, release, approach, release.config.path)
    await unless_it_ends(endpoint, release.log, seconds, _first_answer(endpoint))


async def until_ready(instance: Instance, release: Release, approach: Approach, seconds: float = READY_SECONDS) -> None:
    """Do what `until_answers` does, and wait until the instance passes its health check, if it has one."""
    await until_answers(instance, release, approach, seconds)
    if (check := health_check(instance, release, approach.host)) is not None:
        endpoint = Endpoint(instance, release, approach, release.config.path)
        await unless_it_ends(endpoint, release.log, None, _first_pass(check, release.log, seconds))


async def find_path(instance: Instance, release: Release, approach: Approach) -> str:
    """Wait like `until_ready`, and return the path of the MCP endpoint: the release's or one of `_PATHS`."""
    endpoint = Endpoint(instance, release, approach, release.config.path)
    return await unless_it_ends(endpoint, release.log, READY_SECONDS, _find_path(endpoint))


def what_it_does(instance: Instance) -> str:
    """Return what a server does that has not answered yet, as far as it is known."""
    if instance.address.startswith("unix:"):
        return "has not begun to serve"
    places = instance.listening()
    if not places:
        return "listens on nothing"
    if int(instance.address.rpartition(":")[2]) in places:
        return "listens on the port PORT"
    return f"listens on {' and '.join(sorted(places.values()))}, not on the port PORT"


def health_check(instance: Instance, release: Release, host: str) -> HealthCheck | None:
    """Return the health check of an instance, None when the app names none."""
    path = release.config.health_check_path
    return HealthCheck(instance.address, path, host) if path else None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The MCP endpoint of an instance, as the gate reaches it."""

    instance: Instance
    release: Release
    approach: Approach
    path: str

    @property
    def is_socket(self) -> bool:
        return self.instance.address.startswith("unix:")

    def client(self, era: Literal["auto", "modern", "legacy"] = "auto", port: int | None = None) -> Client:
        address = self.instance.address if port is None else f"{self.instance.address.rpartition(':')[0]}:{port}"
        target = address if self.is_socket else address + self.path
        headers = {"host": self.approach.host}
        token = self.approach.token or None
        return Client(
            target, era=era, token=token, timeout=READY_SECONDS, headers=headers, message_bytes=_MESSAGE_BYTES
        )

    def words(self, error: ClientError | RpcError) -> str:
        """Return the text of an error, with the path in place of the address, which is an inside of the host."""
        return str(error).replace(self.instance.address, self.path if self.is_socket else "")

    def is_closed(self, error: ClientError) -> bool:
        """Whether the server refuses a caller without credentials, as it should if it checks its callers itself."""
        return self.release.config.access == "app" and error.status in (401, 403)


async def unless_it_ends(endpoint: Endpoint, log: Path, seconds: float | None, work: Coroutine[Any, Any, T]) -> T:
    """Return the result of `work`, which has a limit of its own if `seconds` is None.

    Raises `NotReady` when the instance ends before, or `seconds` are over.
    """
    task = asyncio.ensure_future(work)
    end = asyncio.ensure_future(endpoint.instance.wait())
    wrong = asyncio.ensure_future(_wrong_port(endpoint))
    try:
        await asyncio.wait((task, end, wrong), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if end.done():
            raise NotReady(_ended(end.result(), is_own=endpoint.is_socket), last_lines(log))
        if wrong.done():
            raise NotReady(f"the server listens on {wrong.result()}, not on the port that PORT names", last_lines(log))
        if not task.done():
            assert seconds is not None
            raise NotReady(_silent(endpoint, seconds), last_lines(log))
        try:
            return task.result()
        except (ClientError, RpcError) as error:
            if isinstance(error, ClientError) and error.status is None:  # its end may have cut the answer off
                await asyncio.wait((end,), timeout=_END_SECONDS)
            if end.done():
                raise NotReady(_ended(end.result(), is_own=endpoint.is_socket), last_lines(log)) from None
            raise _refused(endpoint, error, last_lines(log)) from None
    finally:
        for each in (task, end, wrong):
            each.cancel()


def _ended(how: str, *, is_own: bool) -> str:
    if how == "exit code 0" and not is_own:
        return (
            "the start command ended (exit code 0): it must stay in the foreground and serve HTTP on the port PORT, "
            "not stdio"
        )
    return f"the server ended ({how}) before it answered"


def _refused(endpoint: Endpoint, error: ClientError | RpcError, log: list[str]) -> NotReady:
    status, said = error.status, endpoint.words(error)
    if status == 421 or (status == 403 and "host" in said.lower()):  # of the TypeScript SDK: "Invalid Host: …"
        return NotReady(
            f"the server refuses its own name as Host ({status}): let it allow RENDER_EXTERNAL_HOSTNAME, or give its "
            "object the host 0.0.0.0",
            log,
        )
    if status == 401 and endpoint.approach.token:
        return NotReady(
            f"the token in {endpoint.release.config.upstream_token} is not the one that the server checks (401): name "
            "another variable by --upstream-token",
            log,
        )
    if status == 401:
        return TokenNeeded(
            "the server asks for a token of its own (401): name the variable that holds it by --upstream-token, or let "
            "the server check its callers by --access app",
            log,
        )
    return NotReady(f"the server answers, but not as MCP asks: {said}", log)


def _silent(endpoint: Endpoint, seconds: float) -> str:
    """Say what an instance does that has not answered in time."""
    if not endpoint.is_socket and not endpoint.instance.listening():
        return f"the server listened on no port within {seconds:g} s: it must serve HTTP on the port PORT, not stdio"
    return f"the server did not answer server/discover or initialize within {seconds:g} s"


async def _wrong_port(endpoint: Endpoint) -> str:
    """Wait until the instance answers as an MCP server on another port than its own; return that address."""
    own = endpoint.instance.address.rpartition(":")[2]
    asked: set[int] = set()
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        if endpoint.is_socket:
            continue
        others = await asyncio.to_thread(endpoint.instance.listening)
        if int(own) in others:
            continue
        for port in others.keys() - asked:
            asked.add(port)
            with contextlib.suppress(ClientError, RpcError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    await _ask(endpoint.client(port=port))
                return others[port]


async def _ask(client: Client) -> None:
    """Ask a server for one page of its tools."""
    async with client:
        if "tools" in client.capabilities:
            await client.request_raw("tools/list")


async def _first_answer(endpoint: Endpoint) -> None:
    """Ask for the tools until there is an answer: the instance listens some time after its start."""
    while True:
        try:
            await _ask(endpoint.client())
        except ClientError as error:
            if endpoint.is_closed(error):
                return
            if not isinstance(error.__cause__, UpstreamError) and error.status not in _NOT_YET:
                raise
            await asyncio.sleep(_RETRY_SECONDS)
        else:
            return


async def _find_path(endpoint: Endpoint) -> str:
    if endpoint.is_socket:
        await _first_answer(endpoint)
        return endpoint.path
    paths = dict.fromkeys((endpoint.path, *_PATHS))
    redirected: ClientError | None = None
    for path in paths:
        try:
            await _first_answer(replace(endpoint, path=path))
        except ClientError as error:
            if error.status not in _NOT_HERE:
                raise
            if error.status in _REDIRECTS:
                redirected = redirected or error
        else:
            return path
    if redirected is not None:
        raise redirected
    async with HttpClient(endpoint.instance.address, endpoint.approach.host) as client:
        response = await client.request("GET", "/sse", [(b"accept", b"text/event-stream")])
        await response.close()
    if response.status == 200 and response.header(b"content-type").startswith(b"text/event-stream"):
        raise ClientError("it speaks HTTP+SSE at /sse, which is too old: serve Streamable HTTP instead")
    raise ClientError(f"it has no MCP endpoint at {' or '.join(paths)}: serve it at /mcp, or name its path")


async def _first_pass(check: HealthCheck, log: Path, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            while not await check.passes():  # noqa: ASYNC110  # an answer of another process sends no event
                await asyncio.sleep(_CHECK_SECONDS)
    except TimeoutError:
        text = f"its health check {check.path} did not pass within {seconds:g} s ({check.fault})"
        raise NotReady(text, last_lines(log)) from None
