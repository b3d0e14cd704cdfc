"""Long replies share an app's memory: they wait for one another, and nobody else does."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from portway.host.gate.reply_memory import ReplyMemory
from tests.gate.running_gate import STREAM, Seen, Upstream, chunk, echo, modern, reply, rig
from tests.gate.test_endings import settle
from tests.gate.test_sessions import run

if TYPE_CHECKING:
    from pathlib import Path

LONG = 12 * 1024 * 1024  # more than what the sockets on the way hold
MEMORY = 20 * 1024 * 1024


async def answer_at_length(seen: Seen, writer: asyncio.StreamWriter) -> None:
    name = seen.message["params"]["name"]
    body = json.dumps({"jsonrpc": "2.0", "id": seen.message["id"], "result": "x" * LONG}).encode()
    if name == "json":
        writer.write(reply(body))
    elif name == "stream":
        writer.write(STREAM + chunk(b"data: %b\n\n" % body) + b"0\r\n\r\n")
    else:
        await echo(seen, writer)
    await writer.drain()


@pytest.mark.parametrize("how", ["json", "stream"])
def test_a_long_reply_waits_until_an_earlier_one_has_been_read(tmp_path: Path, how: str) -> None:
    async def test() -> None:
        async with rig(tmp_path, Upstream(answer_at_length)) as gate:
            memory = gate.routes.apps["a"].reply_memory
            memory.free = MEMORY
            body, headers = modern(1, how)

            async def read() -> int:
                return len(await (await gate.post(body, *headers)).read(2 * LONG))

            first = await gate.post(body, *headers)
            while memory.free == MEMORY:
                await gate.op(op="stats")
            leaves, second = asyncio.ensure_future(read()), asyncio.ensure_future(read())
            while len(memory._waiting) < 2:
                await gate.op(op="stats")
            small, its_headers = modern(2)
            assert (await gate.answer(small, *its_headers))[0] == 200, "a short reply needs no memory"
            leaves.cancel()
            assert len(await first.read(2 * LONG)) > LONG
            assert await second > LONG
            await settle(gate)
            assert (memory.free, len(memory._waiting)) == (MEMORY, 0)

    run(test())


def test_who_waits_for_room_gets_it_in_turn_and_who_leaves_does_not_keep_it() -> None:
    async def test() -> None:
        memory, order = ReplyMemory(10), list[str]()

        async def take(name: str, size: int) -> None:
            await memory.take(size)
            order.append(name)

        await take("first", 8)
        tasks = {
            name: asyncio.ensure_future(take(name, size)) for name, size in (("big", 9), ("small", 1), ("next", 9))
        }
        await asyncio.sleep(0)
        assert order == ["first"], "a small one does not pass a big one that waits"
        tasks["big"].cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert order == ["first", "small"]
        memory.give(8)
        tasks["next"].cancel()  # in the moment in which its turn has come
        await asyncio.gather(*tasks.values(), return_exceptions=True)
        assert (order, memory.free) == (["first", "small"], 9)

    run(test())
