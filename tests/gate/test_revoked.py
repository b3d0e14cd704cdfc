"""What a caller may not have any more ends: calls, streams and listeners, with the reason."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.gate.running_gate import META, STREAM, Rig, Seen, Upstream, call, event, modern, rig
from tests.gate.test_sessions import Client, data_of, message, minting, run, text_until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

NOTE = {"jsonrpc": "2.0", "method": "notifications/x", "params": {}}
LISTEN = [(b"mcp-protocol-version", b"2026-07-28"), (b"mcp-method", b"subscriptions/listen")]


class Instance:
    """An instance whose calls and streams last until the gate ends them; `cancelled` are the ids it was told to end."""

    def __init__(self) -> None:
        self.cancelled: list[Any] = []
        self.ended = asyncio.Semaphore(0)
        self.upstream = Upstream(minting(b"own", self.script))

    async def script(self, seen: Seen, writer: asyncio.StreamWriter) -> None:
        asked = seen.message if seen.body else {"id": "GET"}
        if "id" not in asked:
            self.cancelled.append(asked["params"]["requestId"])
            writer.write(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n")
            return
        if asked.get("params", {}).get("name") != "silent":
            writer.write(STREAM + event(NOTE))
        await seen.connection.read()
        self.ended.release()


async def change(gate: Rig, edit: Callable[[dict[str, Any]], None]) -> None:
    """Have the gate use an edited table."""
    table = json.loads(gate.paths.routes.read_text())
    edit(table["apps"])
    gate.paths.routes.write_text(json.dumps(table))
    assert (await gate.op(op="table"))["ok"]


async def ends(gate: Rig, client: Client, path: str, end: Callable[[], Awaitable[None]], reason: str) -> None:
    """Open one of everything, call `end`, and check that all of it has ended with the reason."""
    token = client.token
    body, headers = modern(1, "silent")
    silent = asyncio.ensure_future(gate.post(body, *headers, path=path, token=token))
    legacy = asyncio.ensure_future(client.post(call(2, "silent"), path=path))
    listen = message("subscriptions/listen", 3, notifications={}, _meta=META)
    streams = [
        await client.post(call(4, "streams"), path=path),
        await gate.post(listen, *LISTEN, path=path, token=token),
        await client.ask("GET", path=path),
    ]
    for stream in streams:
        await text_until(stream, b"notifications/x")
    await end()
    for number, waiting in ((1, silent), (2, legacy)):
        response = await waiting
        said = json.loads(await response.read(1000))
        assert (response.status, said["id"], said["error"]["message"]) == (401, number, reason)
        assert dict(response.headers)[b"www-authenticate"] == b'Bearer error="invalid_token"'
    for number, stream in zip((4, 3), streams, strict=False):
        (said,) = data_of(await stream.read(1000))
        assert (said["id"], said["error"]["message"]) == (number, reason)
    assert await streams[2].read(1000) == b": %b\n\n" % reason.encode()


@pytest.mark.parametrize("how", ["destroyed", "private"])
def test_an_app_that_is_destroyed_or_made_private_ends_what_its_callers_have_open(tmp_path: Path, how: str) -> None:
    async def test() -> None:
        instance = Instance()
        async with rig(tmp_path, instance.upstream) as gate:
            response = await gate.post(message("initialize", 0), token="", path="/p/mcp")
            client = Client(gate, "", dict(response.headers)[b"mcp-session-id"])

            async def end() -> None:
                if how == "destroyed":
                    await change(gate, lambda apps: apps.pop("p"))
                else:
                    await change(gate, lambda apps: apps["p"].update(access="token"))

            texts = {
                "destroyed": "The app 'p' has been removed from this host.",
                "private": "The app 'p' takes only callers with a token now.",
            }
            await ends(gate, client, "/p/mcp", end, texts[how])
            for _ in range(5):
                await instance.ended.acquire()
            while len(instance.cancelled) < 2:
                await gate.op(op="stats")
            assert (await gate.answer(call(), path="/p/mcp", token=""))[0] == 401

    run(test())
