"""Portway's own client uses every feature of the feature server over HTTP, stdio, in memory and through the gate."""

from __future__ import annotations

import asyncio
import sys
from typing import Any, Literal

import pytest

from portway import testing
from portway.client import Change, Client, Elicitation, Progress
from portway.protocol.versions import Era
from tests.clients.conftest import FEATURES
from tests.clients.feature_server import server


def elicit(question: Elicitation) -> dict[str, Any] | Literal["decline"]:
    if question.mode == "url":
        return "decline"
    fields = list(question.requested_schema["properties"])
    if "city" in fields:
        return {"city": "Oslo", "days": 2}
    return {fields[0]: True if fields == ["sure"] else "Ada"}


@pytest.mark.parametrize("era", ["modern", "legacy"])
@pytest.mark.parametrize("transport", ["http", "stdio", "memory", "gate"])
def test_the_own_client_uses_every_feature(
    transport: str, era: Literal["modern", "legacy"], request: pytest.FixtureRequest
) -> None:
    logs: list[Any] = []
    handlers: dict[str, Any] = {
        "era": era,
        "timeout": 20,
        "on_elicit": elicit,
        "on_sample": lambda question: "Hello",
        "roots": lambda: ["file:///home"],
        "on_log": lambda log: logs.append((log.level, log.logger, log.data)),
    }
    if transport == "memory":
        client: Client = testing.Client(server, **handlers)
    elif transport == "gate":
        app = request.getfixturevalue("hosted")["features"]
        client = Client(app["url"], token=app["token"], **handlers)
    else:
        target = request.getfixturevalue("features") if transport == "http" else [sys.executable, str(FEATURES)]
        client = Client(target, **handlers)

    async def main() -> None:
        async with client:
            assert client.era is Era(era)
            await check_every_feature(client, logs)

    asyncio.run(main())


async def check_every_feature(client: Client, logs: list[Any]) -> None:
    booked = await client.call_tool("book")
    assert booked.text == "Hello, Ada: 2 days in Oslo, aisle, ['file:///home']"
    assert (await client.call_tool("confirm", {"city": "Oslo"})).text == "Oslo: True"
    assert (await client.call_tool("visit")).text == "decline"
    seen: list[Progress] = []
    await client.call_tool("steps", {"to": 2}, on_progress=seen.append)
    assert [(step.progress, step.total, step.message) for step in seen] == [(1, 2, "step 1"), (2, 2, "step 2")]
    await client.call_tool("say")
    await client.set_log_level("error")
    await client.call_tool("say")
    assert logs == [("info", "features", {"n": 1}), ("error", None, "high"), ("error", None, "high")]
    assert len(await client.list_tools()) == 15
    assert (await client.call_tool("route", {"region": "Zürich", "priority": 2})).text == "Zürich 2"
    template = "weather://{city}/{day}"
    assert (await client.complete(template, "city", "o", arguments={"day": "today"})).values[0] == "oslo today"
    assert (await client.complete("pack", "kind", "l")).values == ["light"]
    async with client.listen("config://x") as changes:
        await client.call_tool("change")
        assert {await anext(changes), await anext(changes)} == {Change("tools"), Change("resource", "config://x")}
    waiting = asyncio.create_task(client.call_tool("wait"))
    assert (await client.call_tool("begun")).text == "begun"
    waiting.cancel()
    assert (await client.call_tool("cancelled")).text == "cancelled"
    assert (await client.call_tool("leave", on_progress=seen.append)).text == "left"
