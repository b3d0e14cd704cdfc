"""Readiness by protocol: an instance is up when it answers as an MCP server, and what it then shows is its contract."""

import asyncio
import contextlib
import json
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from portway.client import Client, ClientError
from portway.host.instances.runtime import Instance
from portway.http.http_client import Address, BrokenResponse, ConnectFailed, HttpClient
from portway.protocol.errors import RpcError

READY_SECONDS = 60.0
_RETRY_SECONDS = 0.02
_ERAS: tuple[Literal["modern"], Literal["legacy"]] = ("modern", "legacy")
_LAST_LINES = 20

T = TypeVar("T")


class NotReady(Exception):
    """The instance ended or did not answer. `log` holds the last lines it wrote."""

    def __init__(self, message: str, log: list[str]) -> None:
        super().__init__(message)
        self.log = log

    def __str__(self) -> str:
        return "\n  ".join([f"{self.args[0]}{':' if self.log else ''}", *self.log])


async def answers(instance: Instance, log: Path, seconds: float = READY_SECONDS) -> None:
    """Return once the instance speaks MCP. Raises `NotReady`, at once when it ends."""
    await _unless_it_ends(instance, log, seconds, _hello(instance))


async def read_contract(instance: Instance, log: Path, seconds: float = READY_SECONDS) -> bytes:
    """What a release shows a client without a name: canonical JSON, by each era it speaks. Raises `NotReady`."""
    return await _unless_it_ends(instance, log, seconds, _contract(instance))


async def falls_silent(instance: Instance, seconds: float, times: int) -> None:
    """Return once the instance has left so many questions in a row without an answer for `seconds` each.

    Any answer will do, be it a refusal or a closed connection: whether it is a good one is for its callers to see.
    """
    silences = 0
    while silences < times:
        await asyncio.sleep(seconds)
        client = HttpClient(Address.parse(instance.address))
        try:
            async with asyncio.timeout(seconds):
                with contextlib.suppress(BrokenResponse):
                    await (await client.request("GET", "/health")).close()
            silences = 0
        except (ConnectFailed, TimeoutError):
            silences += 1
        finally:
            await client.close()


def tool_count(contract: bytes) -> int:
    """How many tools a contract shows."""
    return max(len(era["tools"]) for era in json.loads(contract).values())


def last_lines(log: Path, count: int = _LAST_LINES) -> list[str]:
    """The end of a log; an empty list when there is none yet."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 400 * count))
            return file.read().decode(errors="replace").splitlines()[-count:]
    except FileNotFoundError:
        return []


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


async def _hello(instance: Instance) -> None:
    """Ask until there is an answer: the socket appears some time after the start."""
    while True:
        try:
            async with Client(instance.address, timeout=READY_SECONDS) as client:
                await client.list_tools()
        except ClientError as error:
            if error.status is not None:
                raise
            await asyncio.sleep(_RETRY_SECONDS)
        else:
            return


async def _contract(instance: Instance) -> bytes:
    await _hello(instance)
    contract = {}
    for era in _ERAS:
        try:
            async with Client(instance.address, era=era) as client:
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
