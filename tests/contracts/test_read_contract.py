"""How a contract is read from a server, also from one that lists without an end."""

from __future__ import annotations

import asyncio
import itertools
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from portway.host.contracts.read_contract import read_contract
from portway.host.instances import readiness
from portway.host.instances.readiness import Approach, NotReady
from portway.host.instances.runtime import Instance
from portway.host.releases.release import Release
from tests.client.scripted_server import Reply, Request, scripted

SCHEMA = {"type": "object"}
DEEP: dict[str, Any] = {}
for _ in range(70):
    DEEP = {"not": DEEP}


@pytest.fixture(autouse=True)
def no_wait_for_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The instance of these tests never ends: nothing comes of a wait for that after a bad answer."""
    monkeypatch.setattr(readiness, "_END_SECONDS", 0)


def read(tmp_path: Path, tools: Any, instructions: str = "") -> dict[str, Any]:
    """Return the contract of a server that answers tools/list with what `tools` returns, page by page."""

    async def script(request: Request) -> Reply:
        method, identity = request.message.get("method"), request.message.get("id")
        results: dict[str, dict[str, Any]] = {
            "server/discover": {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}},
            "initialize": {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}, "resources": {}}},
        }
        for result in results.values():
            result["instructions"] = instructions
        if method == "tools/list":
            results[method] = tools(request.message["params"])
        if identity is None or request.verb != "POST":
            return Reply(status=202)
        if method not in results:
            return Reply({"jsonrpc": "2.0", "id": identity, "error": {"code": -32601, "message": "no"}})
        return Reply({"jsonrpc": "2.0", "id": identity, "result": results[method] | {"resultType": "complete"}})

    async def test() -> bytes:
        async with scripted(script) as url:
            stub = cast(
                "Instance", SimpleNamespace(address=url.removesuffix("/mcp"), wait=asyncio.Event().wait, listening=dict)
            )
            return await read_contract(stub, Release("app", 1, tmp_path), Approach("app.localhost"))

    found: dict[str, Any] = json.loads(asyncio.run(test()))
    return found


def test_every_member_of_every_page_is_kept_for_both_eras(tmp_path: Path) -> None:
    first = {"name": "b", "inputSchema": SCHEMA, "_meta": {"kept": 1}, "icons": [], "execution": {}, "later": True}
    second = {"name": "a", "inputSchema": SCHEMA, "annotations": {"readOnlyHint": True}}
    contract = read(
        tmp_path, lambda given: {"tools": [second]} if "cursor" in given else {"tools": [first], "nextCursor": "2"}
    )
    assert sorted(contract) == ["legacy", "modern"]
    assert contract["modern"]["tools"] == contract["legacy"]["tools"] == [second, first]
    assert contract["legacy"]["resources"] == []


@pytest.mark.parametrize(
    ("page", "text"),
    [
        (
            lambda number: {"tools": [{"name": str(number), "inputSchema": SCHEMA}], "nextCursor": str(number)},
            "tools/list is too long: the lists of a server may have 1000 pages, 10000 entries and 4 MB in all",
        ),
        (
            lambda number: {"tools": [{"name": "a", "inputSchema": SCHEMA}] * 10_001},
            "tools/list is too long: the lists of a server may have 1000 pages, 10000 entries and 4 MB in all",
        ),
        (
            lambda number: {"tools": [{"name": "a", "description": "x" * 5_000_000, "inputSchema": SCHEMA}]},
            "tools/list is too long: the lists of a server may have 1000 pages, 10000 entries and 4 MB in all",
        ),
        (
            lambda number: {"tools": [], "nextCursor": "same"},
            "the server's pages of tools/list do not end: it sent one cursor twice",
        ),
        (
            lambda number: {"tools": [{"name": "a", "inputSchema": DEEP}]},
            "an entry of tools/list has no name or is nested more than 64 deep: no client could use it",
        ),
        (
            lambda number: {"tools": [{"inputSchema": SCHEMA}]},
            "an entry of tools/list has no name or is nested more than 64 deep: no client could use it",
        ),
        (lambda number: {"tools": [1]}, "the server's answer to tools/list is malformed: …"),
    ],
    ids=["pages", "entries", "bytes", "cursor", "depth", "name", "type"],
)
def test_a_server_that_lists_without_an_end_is_refused(tmp_path: Path, page: Any, text: str) -> None:
    numbers = itertools.count()
    with pytest.raises(NotReady) as refused:
        read(tmp_path, lambda _: page(next(numbers)))
    assert text.removesuffix("…") in str(refused.value)


def test_a_server_that_says_too_much_of_itself_is_refused(tmp_path: Path) -> None:
    text = "what the server says of itself is longer than 256 KB, or nested more than 64 deep: shorten its instructions"
    with pytest.raises(NotReady) as refused:
        read(tmp_path, lambda _: {"tools": []}, "x" * 300_000)
    assert text in str(refused.value)
