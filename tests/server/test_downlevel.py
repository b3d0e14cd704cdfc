"""Results in the terms of each protocol revision, and results that no revision can carry."""

import json
import logging
import re
from typing import Any

import pytest

from portway import Audio, Message, ResourceContents, ResourceLink, Server, ToolResult
from portway.plans.content import Text
from tests.server.one_request import ask

REVISIONS = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28"]
LINK = ResourceLink(uri="docs://a", name="a", title="The a", description="first", meta={"x": 1})
NAN, INFINITY, HALF = float("nan"), float("inf"), "\ud800"


def make() -> Server:
    server = Server("old clients")

    @server.tool
    def mixed():
        return [Text(text='"audio" and "resource_link"'), LINK, Audio(data=b"\0", format="wav")]

    @server.tool(output_schema={"type": "array", "items": {"type": "integer"}})
    def numbers():
        return [1, 2]

    @server.tool(output_schema={"type": "object"})
    def record():
        return {"a": [1]}

    @server.prompt
    def play():
        return [Message(LINK), Message(Audio(data=b"\0"), role="assistant"), "text"]

    return server


@pytest.mark.parametrize("version", REVISIONS)
def test_content_of_a_type_the_revision_does_not_know_becomes_text(version):
    text, link, sound = ask(make(), "tools/call", {"name": "mixed"}, version=version)["result"]["content"]
    assert text == {"type": "text", "text": '"audio" and "resource_link"'}
    if version >= "2025-06-18":
        assert (link["type"], link["uri"]) == ("resource_link", "docs://a")
    else:
        assert link == {"type": "text", "text": "The a: docs://a (first)", "_meta": {"x": 1}}
    if version >= "2025-03-26":
        assert sound == {"type": "audio", "data": "AA==", "mimeType": "audio/wav"}
    else:
        said = "[A sound of type audio/wav, which this client's protocol revision cannot carry.]"
        assert sound == {"type": "text", "text": said}


@pytest.mark.parametrize("version", REVISIONS)
def test_messages_of_a_prompt_are_converted_likewise(version):
    messages = ask(make(), "prompts/get", {"name": "play"}, version=version)["result"]["messages"]
    types = [message["content"]["type"] for message in messages]
    assert types == [
        "resource_link" if version >= "2025-06-18" else "text",
        "audio" if version >= "2025-03-26" else "text",
        "text",
    ]
    assert [message["role"] for message in messages] == ["user", "assistant", "user"]


@pytest.mark.parametrize("version", REVISIONS)
def test_structured_content_that_is_no_object_is_for_the_modern_era_only(version):
    server, modern = make(), version == "2026-07-28"
    result = ask(server, "tools/call", {"name": "numbers"}, version=version)["result"]
    assert result["content"] == [{"type": "text", "text": "[1,2]"}]
    assert result.get("structuredContent") == ([1, 2] if modern else None)
    tools = {tool["name"]: tool for tool in ask(server, "tools/list", version=version)["result"]["tools"]}
    assert ("outputSchema" in tools["numbers"]) == modern
    assert tools["record"]["outputSchema"] == {"type": "object"}
    assert ask(server, "tools/call", {"name": "record"}, version=version)["result"]["structuredContent"] == {"a": [1]}


UNSPEAKABLE = [
    NAN,
    {"a": INFINITY},
    [1, [None, -INFINITY]],
    HALF,
    {"a": HALF},
    {HALF: 1},
    object(),
    {"a": object()},
    Text(text=HALF),
    ["text", NAN],
    ToolResult(structured={"a": NAN}),
    ToolResult(content=NAN),
    ToolResult(content="x", meta={"a": NAN}),
]


@pytest.mark.parametrize("declared", [False, True])
@pytest.mark.parametrize("value", UNSPEAKABLE, ids=lambda value: re.sub(" at 0x[0-9a-f]+", "", repr(value)))
def test_a_result_json_cannot_express_is_logged_and_never_sent_as_something_else(value, declared, caplog):
    server = Server("numbers")

    def result():
        return value

    result.__annotations__["return"] = dict[str, Any] if declared and isinstance(value, dict) else Any
    server.tool(result)
    with caplog.at_level(logging.ERROR, "portway.server"):
        reply = ask(server, "tools/call", {"name": "result"})
    assert reply["error"]["code"] == -32603
    assert "failed; the server's log has the cause under error id" in reply["error"]["message"]
    assert caplog.records[0].exc_info


@pytest.mark.parametrize("value", [{"a": NAN}, HALF, {"a": HALF}, ResourceContents(uri="a://b", text=HALF)], ids=repr)
def test_the_same_holds_for_resources_and_prompts(value, caplog):
    server = Server("numbers")
    server.resource("a://b")(lambda: value)
    server.prompt(name="p")(lambda: value)
    with caplog.at_level(logging.ERROR, "portway.server"):
        assert ask(server, "resources/read", {"uri": "a://b"})["error"]["code"] == -32603
        assert ask(server, "prompts/get", {"name": "p"})["error"]["code"] == -32603


def test_null_is_allowed():
    server = Server("nulls")
    server.tool(name="nulls")(lambda: {"a": None, "null": [None, "null", 1.5]})
    result = ask(server, "tools/call", {"name": "nulls"})["result"]
    assert result["structuredContent"] == {"a": None, "null": [None, "null", 1.5]}
    assert json.loads(result["content"][0]["text"]) == result["structuredContent"]
