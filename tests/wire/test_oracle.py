"""The official models decode every message that Portway sends, and dump it to the same JSON."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import TYPE_CHECKING, Any

import pytest
from mcp_types import methods
from pydantic import ValidationError

from portway.client import Client, Elicitation, Root, Sampling
from tests.wire.conversation import ANSWERS, recorded
from tests.wire.full_server import BYTES, app
from tests.wire.http_server import LEGACY, MODERN, VERSIONS, served
from tests.wire.oracle import SCHEMAS, decode, validate

if TYPE_CHECKING:
    from tests.wire.http_server import Json


@pytest.mark.parametrize("version", VERSIONS)
def test_every_message_is_valid_in_its_revision(version):
    validated = 0
    for record in recorded():
        if record.version != version:
            continue
        assert record.reply.messages, f"{record.method} was not answered with a message"
        for message in record.reply.messages:
            validate(version, record.method, message)
            validated += 1
    assert validated > 90


def test_the_conversation_has_every_kind_of_message():
    replies = [record.reply for record in recorded()]
    assert {200, 400, 403, 404} == {reply.status for reply in replies}
    messages = [message for reply in replies for message in reply.messages]
    codes = {message["error"]["code"] for message in messages if "error" in message}
    assert codes == {1000, -32002, -32020, -32021, -32022, -32600, -32601, -32602, -32603, -32700, -32800}
    asked = {message["method"] for message in messages if "method" in message and "id" in message}
    assert asked == {"elicitation/create", "sampling/createMessage", "roots/list"}
    assert (
        sum([m.get("method") == "notifications/progress" for m in reply.messages].count(True) == 3 for reply in replies)
        == 4
    )
    assert all(b"a secret of the author" not in reply.body for reply in replies)


def test_the_validation_refuses_what_the_schema_does_not_have():
    reply = {"jsonrpc": "2.0", "id": 1, "result": {"content": [], "isErorr": True}}
    with pytest.raises(AssertionError):
        validate(LEGACY, "tools/call", reply)
    with pytest.raises(ValidationError):
        validate(MODERN, "tools/call", {"jsonrpc": "2.0", "id": 1, "result": {"content": []}})
    with pytest.raises(ValidationError):
        validate(LEGACY, "ping", {"jsonrpc": "2.0", "id": None, "error": {"code": "x", "message": ""}})
    form = {"type": "object", "properties": {"a": {"type": "object"}}}
    question = {"method": "elicitation/create", "params": {"message": "?", "requestedSchema": form}}
    with pytest.raises(ValidationError):
        validate(LEGACY, "", {"jsonrpc": "2.0", "id": 1} | question)
    result = {"resultType": "input_required", "inputRequests": {"q": question}}
    with pytest.raises(ValidationError):
        validate(MODERN, "tools/call", {"jsonrpc": "2.0", "id": 1, "result": result})


@pytest.mark.parametrize("version", VERSIONS)
def test_bytes_travel_as_base64(version):
    results = [record.reply.last.get("result", {}) for record in recorded() if record.version == version]
    blobs = [entry["blob"] for result in results for entry in result.get("contents", []) if "blob" in entry]
    blobs += [block["data"] for result in results for block in result.get("content", []) if "data" in block]
    assert len(blobs) == 5
    assert all(base64.b64decode(blob, validate=True) == BYTES for blob in blobs)


class Recorder:
    """An ASGI application in front of another that records what clients send, by version and as JSON."""

    def __init__(self, application: Any) -> None:
        self.sent: list[tuple[str, Json]] = []
        self._application = application
        self.lifespan, self.end_streams = application.lifespan, application.end_streams

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def recording() -> Any:
            event = await receive()
            if event.get("body"):
                version = dict(scope["headers"]).get(b"mcp-protocol-version", b"").decode()
                self.sent.append((version, json.loads(event["body"])))
            return event

        await self._application(scope, recording if scope["type"] == "http" else receive, send)


async def use_everything(client: Client) -> None:
    await client.list_tools()
    await client.list_resources()
    await client.list_resource_templates()
    await client.list_prompts()
    await client.call_tool("slow", {"steps": 2}, on_progress=lambda _: None)
    await client.call_tool("weather", {"city": "Žižkov"})
    await client.call_tool("region", {"name": "Žižkov"})
    await client.read_resource("note://by-day/3")
    await client.get_prompt("talk", {"topic": "tea"})
    assert (await client.complete("talk", "topic", "t", arguments={"tone": "x"})).values == ["ttone"]
    await client.set_log_level("warning")
    for name in ANSWERS:
        assert not (await client.call_tool(name)).is_error, name
    async with client.listen("note://static") as changes:
        await client.call_tool("change")
        await anext(changes)
    await client.subscribe("note://static")
    await client.unsubscribe("note://static")


async def answer_form(question: Elicitation) -> Any:
    if question.mode == "url":
        return "accept"
    return {"dish": "soup", "text": "a@b.c", "number": 3, "value": "one", "sure": True}


async def answer_sampling(_: Sampling) -> str:
    return "Stew"


async def give_roots() -> list[str | Root]:
    return [Root("file:///a", "a"), "file:///b"]


@pytest.mark.parametrize(("era", "version"), [("legacy", LEGACY), ("modern", MODERN)])
def test_every_message_of_our_client_is_valid_in_its_revision(era, version):
    recorder = Recorder(app())

    async def use(url: str) -> None:
        asked = {"on_elicit": answer_form, "on_sample": answer_sampling, "roots": give_roots, "on_log": print}
        async with Client(url + "/mcp", era=era, **asked) as client:
            await use_everything(client)

    with served(recorder) as url:
        asyncio.run(use(url))
    sent = {message.get("method") for _, message in recorder.sent}
    unsent = {method for method, at in methods.CLIENT_REQUESTS if at == version} - sent
    assert unsent == ({"ping"} if version == LEGACY else set())
    for header, message in recorder.sent:
        assert header == version or message.get("method") == "initialize"
        if "method" not in message:
            assert set(message) == {"jsonrpc", "id", "result"}
            decode(SCHEMAS[version].ClientResult, message["result"])
            continue
        table = methods.CLIENT_REQUESTS if "id" in message else methods.CLIENT_NOTIFICATIONS
        decode(table[message["method"], version], message)
