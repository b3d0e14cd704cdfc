"""Reads the contract of a release from its first instance: all lists, pages and eras, within bounds.

{"modern": {"version": …, "capabilities": {…}, "server": {"name": …, "title": …}, "instructions": …,
"tools": […], "resources": […], "resourceTemplates": […], "prompts": […]}, "legacy": {…}}
"""

import asyncio
from typing import Any, Literal

import msgspec

from portway.client import Client, ClientError
from portway.host.contracts.contract_changes import as_json
from portway.host.instances.readiness import READY_SECONDS, Approach, Endpoint, unless_it_ends, until_ready
from portway.host.instances.runtime import Instance
from portway.host.releases.release import Release
from portway.protocol.errors import METHOD_NOT_FOUND, RpcError
from portway.protocol.jsonrpc import UNREADABLE

CLOSED = b"{}"
"""The contract of a server that shows nothing to a caller without credentials."""
MOST_PAGES = 1000
MOST_ENTRIES = 10_000
MOST_BYTES = 4 * 1024 * 1024
DEEPEST = 64
"""Bounds of what one server lists in one era, and of the nesting of one entry."""
LISTS = {
    "tools": ("tools/list", "name"),
    "resources": ("resources/list", "uri"),
    "resourceTemplates": ("resources/templates/list", "uriTemplate"),
    "prompts": ("prompts/list", "name"),
}
"""The lists of a contract: the method of each, and the member that identifies an entry."""
_MOST_ABOUT = 256 * 1024  # characters of what is no list, such as its instructions
_ERAS: tuple[Literal["modern"], Literal["legacy"]] = ("modern", "legacy")


class _Tools(msgspec.Struct):
    tools: list[msgspec.Raw]


async def read_contract(instance: Instance, release: Release, approach: Approach) -> bytes:
    """Return what it lists to an anonymous caller, once it is ready. Raises `NotReady`."""
    await until_ready(instance, release, approach)
    endpoint = Endpoint(instance, release, approach, release.config.path)
    return await unless_it_ends(endpoint, release.log, READY_SECONDS, _contract(endpoint))


def tool_count(contract: bytes) -> int:
    """Return how many tools a contract lists."""
    eras = msgspec.json.decode(contract, type=dict[str, _Tools])
    return max((len(era.tools) for era in eras.values()), default=0)


async def _contract(endpoint: Endpoint) -> bytes:
    contract: dict[str, Any] = {}
    for era in _ERAS:
        try:
            async with endpoint.client(era) as client:
                contract[era] = await _shown(client)
        except (ClientError, RpcError) as error:
            if isinstance(error, ClientError) and endpoint.is_closed(error):
                return CLOSED
            if era == _ERAS[-1] and not contract:
                raise
    return (await asyncio.to_thread(as_json, contract)).encode()


async def _shown(client: Client) -> dict[str, Any]:
    """Return what a server shows in one era."""
    about = {
        "version": client.version,
        "capabilities": client.capabilities,
        "server": {"name": client.server.name, "title": client.server.title},
        "instructions": client.instructions,
    }
    if not await asyncio.to_thread(_is_short, about):
        raise ClientError(
            f"what the server says of itself is longer than {_MOST_ABOUT // 1024} KB, or nested more than {DEEPEST} "
            "deep: shorten its instructions"
        )
    lists = _Lists(client)
    return about | {member: await lists.read(member) for member in LISTS}


class _Lists:
    """The lists of one server, all of them together within the bounds."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._pages = MOST_PAGES
        self._entries = MOST_ENTRIES
        self._bytes = MOST_BYTES

    async def read(self, member: str) -> list[dict[str, Any]]:
        """Return the entries of a list in the order of their names. Raises `ClientError`."""
        method, key = LISTS[member]
        if method.partition("/")[0] not in self._client.capabilities:
            return []
        found: list[dict[str, Any]] = []
        cursors: set[str] = set()
        params: dict[str, Any] = {}
        while True:
            try:
                page = await self._client.request_raw(method, params)
            except RpcError as error:
                if error.code == METHOD_NOT_FOUND and not found:
                    return []
                raise
            entries, cursor = self._decoded(page, member, method)
            found += entries
            if cursor is None:
                break
            if cursor in cursors:
                raise ClientError(f"the server's pages of {method} do not end: it sent one cursor twice")
            cursors.add(cursor)
            params = {"cursor": cursor}
        if not await asyncio.to_thread(_are_usable, found, key):
            raise ClientError(
                f"an entry of {method} has no {key} or is nested more than {DEEPEST} deep: no client could use it"
            )
        return sorted(found, key=lambda entry: str(entry[key]))

    def _decoded(self, page: bytes, member: str, method: str) -> tuple[list[dict[str, Any]], str | None]:
        """Return the entries of a page and the cursor of the next. The page is decoded only if it is within bounds."""
        self._pages -= 1
        self._bytes -= len(page)
        if self._pages >= 0 and self._bytes >= 0:
            try:
                content = msgspec.json.decode(page, type=dict[str, msgspec.Raw])
                entries = msgspec.json.decode(content.get(member, b"[]"), type=list[dict[str, Any]])
                cursor = msgspec.json.decode(content.get("nextCursor", b"null"), type=str | None)
            except UNREADABLE as error:
                raise ClientError(f"the server's answer to {method} is malformed: {error}") from None
            self._entries -= len(entries)
            if self._entries >= 0:
                return entries, cursor
        raise ClientError(
            f"{method} is too long: the lists of a server may have {MOST_PAGES} pages, {MOST_ENTRIES} entries and "
            f"{MOST_BYTES // 2**20} MB in all"
        )


def _is_short(about: dict[str, Any]) -> bool:
    return _depth(about) <= DEEPEST and len(as_json(about)) <= _MOST_ABOUT


def _are_usable(entries: list[dict[str, Any]], key: str) -> bool:
    return all(isinstance(entry.get(key), str) and _depth(entry) <= DEEPEST for entry in entries)


def _depth(value: object) -> int:
    """Return how deep a JSON value is nested, at most one more than DEEPEST."""
    depth, level = 0, [value]
    while level and depth <= DEEPEST:
        depth += 1
        level = [
            inner
            for each in level
            if isinstance(each, dict | list)
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
    return depth
