"""Whether an instance is ready, and its contract: what it then offers."""

import asyncio
import json
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from portway.client import Client, ClientError
from portway.host.instances.runtime import Instance
from portway.host.logs.log_reader import last_lines
from portway.host.releases.release import Release
from portway.protocol.errors import RpcError

READY_SECONDS = 60.0
_RETRY_SECONDS = 0.02
_ERAS: tuple[Literal["modern"], Literal["legacy"]] = ("modern", "legacy")

T = TypeVar("T")


class NotReady(Exception):
    """The instance ended or did not answer. `log` is the last lines it wrote."""

    def __init__(self, message: str, log: list[str]) -> None:
        super().__init__(message)
        self.log = log

    def __str__(self) -> str:
        return "\n  ".join([f"{self.args[0]}{':' if self.log else ''}", *self.log])


async def until_ready(instance: Instance, release: Release, host: str, seconds: float = READY_SECONDS) -> None:
    """Wait until the instance answers as an MCP server to the name `host`. Raises `NotReady`, at once when it ends."""
    await _unless_it_ends(instance, release.log, seconds, _first_answer(_Endpoint(instance, release, host)))


async def read_contract(instance: Instance, release: Release, host: str) -> bytes:
    """Return its listings as an anonymous caller sees them: canonical JSON, by era. Raises `NotReady`."""
    return await _unless_it_ends(instance, release.log, READY_SECONDS, _contract(_Endpoint(instance, release, host)))


def tool_count(contract: bytes) -> int:
    """Return how many tools a contract lists."""
    return max(len(era["tools"]) for era in json.loads(contract).values())


async def _unless_it_ends(instance: Instance, log: Path, seconds: float, work: Coroutine[Any, Any, T]) -> T:
    task = asyncio.ensure_future(work)
    end = asyncio.ensure_future(instance.wait())
    try:
        await asyncio.wait((task, end), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if end.done():
            raise NotReady(f"the server ended ({end.result()}) before it answered", last_lines(log))
        if not task.done():
            raise NotReady(
                f"the server did not answer server/discover or initialize within {seconds:g} s", last_lines(log)
            )
        try:
            return task.result()
        except (ClientError, RpcError) as error:
            raise NotReady(f"the server answers, but not as MCP asks: {error}", last_lines(log)) from None
    finally:
        task.cancel()
        end.cancel()


class _Endpoint:
    """The MCP endpoint of an instance, as the gate reaches it."""

    def __init__(self, instance: Instance, release: Release, host: str) -> None:
        is_socket = instance.address.startswith("unix:")
        self._target = instance.address if is_socket else instance.address + release.config.path
        self._headers = {"host": host}

    def client(self, era: Literal["auto", "modern", "legacy"] = "auto") -> Client:
        return Client(self._target, era=era, timeout=READY_SECONDS, headers=self._headers)


async def _first_answer(endpoint: _Endpoint) -> None:
    """Ask for the tools until there is an answer: the socket appears some time after the start."""
    while True:
        try:
            async with endpoint.client() as client:
                await client.list_tools()
        except ClientError as error:
            if error.status is not None:
                raise
            await asyncio.sleep(_RETRY_SECONDS)
        else:
            return


async def _contract(endpoint: _Endpoint) -> bytes:
    await _first_answer(endpoint)
    contract = {}
    for era in _ERAS:
        try:
            async with endpoint.client(era) as client:
                contract[era] = {
                    "version": client.version,
                    "capabilities": client.capabilities,
                    "instructions": client.instructions,
                    "tools": msgspec.to_builtins(await client.list_tools()),
                    "resources": msgspec.to_builtins(await client.list_resources()),
                    "resourceTemplates": msgspec.to_builtins(await client.list_resource_templates()),
                    "prompts": msgspec.to_builtins(await client.list_prompts()),
                }
        except (ClientError, RpcError):
            if era == _ERAS[-1] and not contract:
                raise
    for shown in contract.values():
        for key in ("tools", "resources", "resourceTemplates", "prompts"):
            shown[key].sort(key=lambda entry: entry.get("name", ""))
    return json.dumps(contract, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
