"""Every message Portway sends is one the official models read and write the same."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import TYPE_CHECKING, Any

import pytest
from mcp_types import methods
from pydantic import ValidationError

from portway.client import Client
from tests.wire.conversation import BYTES, app, recorded
from tests.wire.oracle import decode, decode_notification, decode_reply
from tests.wire.served import LEGACY, MODERN, VERSIONS, served

if TYPE_CHECKING:
    from tests.wire.served import Json


@pytest.mark.parametrize("version", VERSIONS)
def test_every_message_decodes_as_its_revision_says_and_dumps_the_same(version):
    judged = 0
    for said in recorded():
        if said.version != version:
            continue
        assert said.reply.messages, f"{said.method} was not answered with a message"
        *notifications, last = said.reply.messages
        decode_reply(version, said.method, last)
        for message in notifications:
            decode_notification(version, message)
        judged += 1
    assert judged > 40


def test_the_conversation_says_all_kinds_of_things():
    replies = [said.reply for said in recorded()]
    assert {200, 400, 403, 404} == {reply.status for reply in replies}
    codes = {reply.last["error"]["code"] for reply in replies if "error" in reply.last}
    assert codes == {1000, -32002, -32020, -32022, -32600, -32601, -32602, -32603, -32700}
    assert sum(len(reply.messages) == 4 for reply in replies) == 4  # three steps of progress and the result
    assert all(b"a secret of the author" not in reply.body for reply in replies)


def test_the_oracle_refuses_what_the_schema_does_not_have():
    reply = {"jsonrpc": "2.0", "id": 1, "result": {"content": [], "isErorr": True}}
    with pytest.raises(AssertionError):
        decode_reply("2025-11-25", "tools/call", reply)
    with pytest.raises(ValidationError):
        decode_reply("2026-07-28", "tools/call", {"jsonrpc": "2.0", "id": 1, "result": {"content": []}})
    with pytest.raises(ValidationError):
        decode_reply("2025-11-25", "ping", {"jsonrpc": "2.0", "id": None, "error": {"code": "x", "message": ""}})


@pytest.mark.parametrize("version", VERSIONS)
def test_bytes_travel_as_base64(version):
    results = [said.reply.last.get("result", {}) for said in recorded() if said.version == version]
    blobs = [entry["blob"] for result in results for entry in result.get("contents", []) if "blob" in entry]
    blobs += [block["data"] for result in results for block in result.get("content", []) if "data" in block]
    assert len(blobs) == 5
    assert all(base64.b64decode(blob, validate=True) == BYTES for blob in blobs)


class Recorder:
    """An ASGI application in front of another: what clients send, by version and as JSON."""

    def __init__(self, application: Any) -> None:
        self.sent: list[tuple[str, Json]] = []
        self._application = application

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def recording() -> Any:
            event = await receive()
            if event.get("body"):
                version = dict(scope["headers"]).get(b"mcp-protocol-version", b"").decode()
                self.sent.append((version, json.loads(event["body"])))
            return event

        await self._application(scope, recording if scope["type"] == "http" else receive, send)


@pytest.mark.parametrize(("era", "version"), [("legacy", LEGACY), ("modern", MODERN)])
def test_every_message_of_our_client_is_one_of_its_revision(era, version):
    recorder = Recorder(app())

    async def use(url: str) -> None:
        async with Client(url + "/mcp", era=era) as client:
            await client.list_tools()
            await client.list_resources()
            await client.list_resource_templates()
            await client.list_prompts()
            await client.call_tool("slow", {"steps": 2}, on_progress=lambda _: None)
            await client.call_tool("weather", {"city": "Žižkov"})
            await client.read_resource("note://by-day/3")
            await client.get_prompt("talk", {"topic": "tea"})

    with served(recorder) as url:
        asyncio.run(use(url))
    assert len(recorder.sent) >= 9
    for header, message in recorder.sent:
        table = methods.CLIENT_REQUESTS if "id" in message else methods.CLIENT_NOTIFICATIONS
        decode(table[message["method"], version], message)
        assert header == version or message["method"] == "initialize"
