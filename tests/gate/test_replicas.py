"""Two instances of one app, and clients of the official SDK that are asked."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from mcp import Client
from mcp.types import ElicitResult

from tests.gate.running_gate import rig
from tests.support import ROOT, SCRIPTS, started

if TYPE_CHECKING:
    from pathlib import Path

SERVER = ROOT / "tests" / "wire" / "replica_server.py"
KEYS = {"PORTWAY_KEYS": "A" * 43}
ANSWERS = {"Your name?": {"value": "Ada"}, "Sure, Ada?": {"value": True}}


@pytest.mark.parametrize("mode", ["legacy", "auto"])
def test_an_answer_finds_the_instance_that_asked_while_calls_are_spread_over_both(tmp_path: Path, mode: str) -> None:
    async def test(*addresses: str) -> None:
        async with rig(tmp_path, addresses=addresses) as gate:

            async def be_asked(*, depth: int) -> set[tuple[int, int]]:
                """The processes that asked and answered this client and, while it was asked, that many others."""
                others: set[tuple[int, int]] = set()

                async def elicit(_: Any, params: Any) -> ElicitResult:
                    if depth and not others:
                        others.update(await be_asked(depth=depth - 1))
                    return ElicitResult(action="accept", content=ANSWERS[params.message])

                async with Client(f"{gate.url}/p/mcp", mode=mode, elicitation_callback=elicit) as client:  # type: ignore[arg-type]
                    result = await client.call_tool("confirm", {})
                assert result.structured_content, result
                *processes, name, sure = result.structured_content["result"]
                assert (name, sure) == ("Ada", True)
                return others | {tuple(processes)}

            seen = await be_asked(depth=2)
            if mode == "legacy":
                assert len(seen) == 2, "the second client found the first instance busy"
                assert all(asked == answered for asked, answered in seen)

    with ExitStack() as instances:
        command = (SCRIPTS / "portway", "run", SERVER, "--transport", "http", "--host", "127.0.0.1", "--port", "0")
        urls = []
        for _ in range(2):
            child = instances.enter_context(started(*command, ready=r"(http://127\.0\.0\.1:\d+)", env=KEYS))
            assert child.match
            urls.append(child.match[1])
        asyncio.run(test(*urls))
