"""A server that uses all it can put on the wire, and a conversation that makes it do so, in either era."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from portway import Audio, Context, Image, Message, Server, ToolError, ToolResult
from portway.auth.tokens import NamedTokens
from portway.server.content import (
    Annotations,
    AudioContent,
    EmbeddedResource,
    ImageContent,
    ResourceContents,
    ResourceLink,
    Text,
)
from portway.transport.http import App
from tests.wire.served import META, MODERN, VERSIONS, Client, Json, request, served

if TYPE_CHECKING:
    from tests.wire.served import Reply

ABOUT = Annotations(audience=["user", "assistant"], priority=0.5, last_modified="2026-07-28T00:00:00Z")
EXTRA: dict[str, Any] = {"annotations": ABOUT, "meta": {"example.org/origin": "kitchen"}}
BYTES = bytes(range(8))
FULL, POOR = "full-token", "poor-token"


def blocks() -> list[Any]:
    """One content block of every kind, with every field it can have."""
    text = ResourceContents("note://1", mime_type="text/plain", text="one", meta={"example.org/page": 1})
    blob = ResourceContents("note://2", mime_type="image/png", blob=BYTES, meta={"example.org/page": 2})
    return [
        Text(text="plain", **EXTRA),
        ImageContent(data=BYTES, mime_type="image/png", **EXTRA),
        AudioContent(data=BYTES, mime_type="audio/wav", **EXTRA),
        ResourceLink(
            uri="note://3", name="three", title="Three", description="A note", mime_type="text/plain", size=3, **EXTRA
        ),
        EmbeddedResource(resource=text, **EXTRA),
        EmbeddedResource(resource=blob, **EXTRA),
    ]


def kitchen() -> Server:
    server = Server("kitchen", version="3.1", title="The kitchen", instructions="Everything once.")

    hints = {
        "title": "Sum",
        "readOnlyHint": True,
        "destructiveHint": False,
        "idempotentHint": True,
        "openWorldHint": False,
    }

    @server.tool(title="Add two numbers", annotations=hints)  # type: ignore[arg-type]
    async def add(a: int, b: int = 2) -> int:
        """Add."""
        return a + b

    @server.tool
    def weather(city: str) -> dict[str, int]:
        """A `def`, an object."""
        return {city: 21}

    @server.tool
    def everything() -> Any:
        return blocks()

    @server.tool
    def media() -> Any:
        return ["see", Image(data=BYTES), Audio(data=BYTES, format="mp3")]

    @server.tool
    def explicit(wrong: bool = False) -> ToolResult:
        return ToolResult("said", structured={"n": 1}, meta={"example.org/k": [1]}, is_error=wrong)

    @server.tool
    def nothing() -> None:
        return None

    @server.tool
    def refuses() -> str:
        raise ToolError("not today")

    @server.tool
    def breaks() -> str:
        raise RuntimeError("a secret of the author's")

    @server.tool
    async def slow(steps: int, ctx: Context) -> str:
        for step in range(steps):
            await ctx.report_progress(step, steps, f"step {step}")
        return "done"

    @server.tool(scopes=["admin"])
    async def secret() -> str:
        return "hidden"

    @server.resource("note://static", title="A note", description="Some text", mime_type="text/markdown", scopes=[])
    def note() -> str:
        return "# text"

    @server.resource("note://bytes")
    def binary() -> bytes:
        return BYTES

    @server.resource("note://broken")
    def broken() -> str:
        raise RuntimeError("a secret of the author's")

    @server.resource("note://secret", scopes=["admin"])
    def hidden() -> str:
        return "hidden"

    @server.resource("note://by-day/{day}", title="A day", description="A note of a day", mime_type="application/json")
    def by_day(day: int) -> dict[str, int]:
        return {"day": day}

    @server.prompt(title="Talk", description="A dialogue")
    def talk(topic: str, tone: str = "dry") -> list[Message]:
        """A dialogue.

        Args:
            topic: what it is about
        """
        said = [Message(f"{tone}: {topic}"), Message("Yes.", role="assistant")]
        return said + [Message(block) for block in blocks()]

    @server.prompt(scopes=["admin"])
    def plan() -> str:
        return "hidden"

    return server


def app(*, tokens: bool = False) -> App:
    verifier = NamedTokens(f"full:{FULL}:admin,poor:{POOR}:read") if tokens else None
    return App(kitchen(), verifier=verifier)


CALLS: tuple[tuple[str, Json], ...] = (
    ("tools/list", {}),
    ("tools/call", {"name": "add", "arguments": {"a": 1}}),
    ("tools/call", {"name": "add", "arguments": {"a": "one", "c": 2}}),
    ("tools/call", {"name": "weather", "arguments": {"city": "Žižkov\u2028"}}),
    ("tools/call", {"name": "everything"}),
    ("tools/call", {"name": "media", "arguments": {}}),
    ("tools/call", {"name": "explicit"}),
    ("tools/call", {"name": "explicit", "arguments": {"wrong": True}}),
    ("tools/call", {"name": "nothing"}),
    ("tools/call", {"name": "refuses"}),
    ("tools/call", {"name": "breaks"}),
    ("tools/call", {"name": "secret"}),
    ("tools/call", {"name": "absent"}),
    ("tools/call", {}),
    ("resources/list", {}),
    ("resources/templates/list", {}),
    ("resources/read", {"uri": "note://static"}),
    ("resources/read", {"uri": "note://bytes"}),
    ("resources/read", {"uri": "note://broken"}),
    ("resources/read", {"uri": "note://by-day/3"}),
    ("resources/read", {"uri": "note://by-day/three"}),
    ("resources/read", {"uri": "note://absent"}),
    ("resources/read", {}),
    ("prompts/list", {}),
    ("prompts/get", {"name": "talk", "arguments": {"topic": "tea"}}),
    ("prompts/get", {"name": "talk", "arguments": {}}),
    ("prompts/get", {"name": "absent"}),
    ("tools/list", {"cursor": "made up"}),
    ("no/such", {}),
    ("initialize", {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}),
    ("server/discover", {}),
    ("ping", {}),
)
HOSTILE: tuple[bytes, ...] = (
    b"",
    b"{",
    b"[]",
    b"3",
    b"\xff",
    b'{"jsonrpc":"1.0","id":1,"method":"ping"}',
    b'{"jsonrpc":"2.0","id":null,"method":"ping"}',
    b'{"jsonrpc":"2.0","id":true,"method":"ping"}',
    b'{"jsonrpc":"2.0","id":1.5,"method":"ping"}',
    b'{"jsonrpc":"2.0","id":1}',
    b'{"jsonrpc":"2.0","id":1,"method":7}',
    b'{"jsonrpc":"2.0","id":1,"method":"ping","params":[]}',
    b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":7}}',
    b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"add","arguments":[]}}',
)


@dataclass(frozen=True)
class Said:
    """What was asked and what came back."""

    version: str
    method: str
    reply: Reply


def converse(client: Client, version: str) -> list[Said]:
    said = [
        Said(version, method, client.ask(version, method, params, id=f"q{number}", token=POOR))
        for number, (method, params) in enumerate(CALLS)
    ]
    slow = {"name": "slow", "arguments": {"steps": 3}}
    said += [
        Said(version, "tools/call", client.ask(version, "tools/call", slow, meta={"progressToken": t}, token=FULL))
        for t in (7, "t")
    ]
    _, headers = request(version, "ping", token=FULL)
    said += [Said(version, "tools/call", client.send(body, headers)) for body in HOSTILE]
    if version == MODERN:
        said += [Said(version, "tools/list", client.send(*changed)) for changed in broken_envelopes()]
    return said


def broken_envelopes() -> list[tuple[bytes, dict[str, str]]]:
    """`tools/list` with one thing wrong each: a header, or a key of the envelope."""
    message, headers = request(MODERN, "tools/list", token=FULL)
    bad = [
        (message, headers | {"Mcp-Method": "tools/call"}),
        (message, {k: v for k, v in headers.items() if k != "Mcp-Method"}),
    ]
    for key, value in (
        (META + "protocolVersion", "1999-01-01"),
        (META + "clientCapabilities", []),
        (META + "clientCapabilities", None),
    ):
        meta = message["params"]["_meta"] | {key: value}
        version = meta[META + "protocolVersion"]
        bad.append((message | {"params": {"_meta": meta}}, headers | {"MCP-Protocol-Version": version}))
    return [(json.dumps(message).encode(), headers) for message, headers in bad]


@cache
def recorded() -> tuple[Said, ...]:
    """The whole conversation in both eras, once a process."""
    with served(app(tokens=True)) as url:
        client = Client(url)
        said = [one for version in VERSIONS for one in converse(client, version)]
        client.close()
    return tuple(said)
