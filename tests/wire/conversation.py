"""A conversation that makes the full server say all it can, in either era and over either transport."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support import SCRIPTS
from tests.transport.stdio_client import Pipes
from tests.wire.full_server import FULL, POOR, app
from tests.wire.http_server import VERSIONS, Client, Reply, Stream, request, served
from tests.wire.oracle import LEGACY, META, MODERN, Json

if TYPE_CHECKING:
    from collections.abc import Iterator

TALK = {"type": "ref/prompt", "name": "talk"}
TOPIC = {"name": "topic", "value": "t"}
DAY = {"type": "ref/resource", "uri": "note://by-day/{day}"}
ABILITIES = {"elicitation": {"form": {}, "url": {}}, "sampling": {"tools": {}, "context": {}}, "roots": {}}
WHO = {"name": "t", "version": "1"}
INITIALIZE = {"protocolVersion": LEGACY, "capabilities": ABILITIES, "clientInfo": WHO}
ABLE = {META + "clientCapabilities": ABILITIES, META + "clientInfo": WHO}
ORDER = {"dish": "soup", "sides": ["rice"]}
EXTRA = {
    "annotations": {"audience": ["user"], "priority": 0.5, "lastModified": "2026-07-28T00:00:00Z"},
    "_meta": {"x": 1},
}
BLOCKS = [
    {"type": "text", "text": "Stew"} | EXTRA,
    {"type": "image", "data": "AAAA", "mimeType": "image/png"} | EXTRA,
    {"type": "audio", "data": "AAAA", "mimeType": "audio/wav"} | EXTRA,
    {"type": "tool_use", "id": "1", "name": "look", "input": {"far": True}, "_meta": {"x": 1}},
]
SAID = {"role": "assistant", "model": "m", "content": BLOCKS, "stopReason": "toolUse"}
ROOTS = {"roots": [{"uri": "file:///a", "name": "a"}, {"uri": "file:///b"}]}
ASKING = {
    "order": [{"action": "accept", "content": ORDER}],
    "survey": [{"action": "decline"}],
    "pay": [{"action": "accept"}],
    "think": [SAID],
    "rounds": [
        {"action": "accept", "content": {"value": "one"}},
        {"action": "accept", "content": {"sure": True}},
        ROOTS,
    ],
    "where": [ROOTS],
}
"""The tools that ask, and the answers they are given, in order."""

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
    ("tools/call", {"name": "verbatim", "arguments": {"a": 1}}),
    ("tools/call", {"name": "verbatim", "arguments": {"a": "one"}}),
    ("tools/call", {"name": "region", "arguments": {"name": "north"}}),
    (
        "completion/complete",
        {"ref": TALK, "argument": {"name": "topic", "value": "t"}, "context": {"arguments": {"tone": "x"}}},
    ),
    ("completion/complete", {"ref": DAY, "argument": {"name": "day", "value": "1"}}),
    ("completion/complete", {"ref": {"type": "ref/prompt", "name": "absent"}, "argument": {"name": "a", "value": ""}}),
    ("subscriptions/listen", {}),
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
    """What was asked and what came back. Of a stream only the messages are kept."""

    version: str
    method: str
    reply: Reply


def converse(client: Client, version: str) -> list[Said]:
    said = [
        Said(version, method, client.ask(version, method, params, id=f"q{number}", token=POOR, headers=extra(params)))
        for number, (method, params) in enumerate(CALLS)
    ]
    slow = {"name": "slow", "arguments": {"steps": 3}}
    said += [
        Said(version, "tools/call", client.ask(version, "tools/call", slow, meta={"progressToken": t}, token=FULL))
        for t in (7, "t")
    ]
    said += list(pages(client, version))
    _, headers = request(version, "ping", token=FULL)
    said += [Said(version, "tools/call", client.send(body, headers)) for body in HOSTILE]
    if version == MODERN:
        said += [Said(version, "tools/list", client.send(*changed)) for changed in broken_envelopes()]
        said += [*modern_questions(client), listening(client)]
        report = {"name": "report"}
        meta = ABLE | {META + "logLevel": "info"}
        said.append(Said(version, "tools/call", client.ask(version, "tools/call", report, meta=meta, token=FULL)))
    else:
        said += in_session(client)
    return said


def extra(params: Json) -> dict[str, str]:
    """The headers that repeat an argument."""
    return {"Mcp-Param-Region": params["arguments"]["name"]} if params.get("name") == "region" else {}


def pages(client: Client, version: str) -> Iterator[Said]:
    """Every list to its end."""
    for method in ("tools/list", "resources/list", "resources/templates/list", "prompts/list"):
        params: Json | None = {}
        while params is not None:
            reply = client.ask(version, method, params, token=POOR)
            yield Said(version, method, reply)
            cursor = reply.last["result"].get("nextCursor")
            params = None if cursor is None else {"cursor": cursor}


def modern_questions(client: Client) -> Iterator[Said]:
    """Each tool that asks, to its end; one asked by a client that cannot answer."""
    for name, answers in ASKING.items():
        params: Json = {"name": name}
        left = list(answers)
        while True:
            reply = client.ask(MODERN, "tools/call", params, meta=ABLE, token=FULL)
            yield Said(MODERN, "tools/call", reply)
            result = reply.last["result"]
            if result["resultType"] == "complete":
                assert not result["isError"], result
                break
            responses = {key: left.pop(0) for key in result["inputRequests"]}
            params |= {"inputResponses": responses, "requestState": result["requestState"]}
    yield Said(MODERN, "tools/call", client.ask(MODERN, "tools/call", {"name": "order"}, token=FULL))
    for method, params in (("prompts/get", {"name": "asked"}), ("resources/read", {"uri": "note://asked"})):
        yield Said(MODERN, method, client.ask(MODERN, method, params, meta=ABLE, token=FULL))


EVERY_CHANGE = {
    "toolsListChanged": True,
    "promptsListChanged": True,
    "resourcesListChanged": True,
    "resourceSubscriptions": ["note://static"],
}


def listening(client: Client) -> Said:
    """A stream of changes up to the last; its end needs a server that stops, or stdio."""
    params = {"notifications": EVERY_CHANGE}
    stream = client.listen(MODERN, "subscriptions/listen", params, id="é", token=FULL)
    stream.next()
    client.ask(MODERN, "tools/call", {"name": "change"}, token=FULL)
    hear_every_change(stream)
    return noted(MODERN, "subscriptions/listen", stream)


def hear_every_change(stream: Stream) -> None:
    """Read until each kind of change has been told, some perhaps twice, and leave."""
    lists = {f"notifications/{kind}/list_changed" for kind in ("tools", "prompts", "resources")}
    while not {"notifications/resources/updated", *lists} <= {message["method"] for message in stream.messages}:
        assert stream.next() is not None
    stream.close()


def noted(version: str, method: str, stream: Stream) -> Said:
    return Said(version, method, Reply(stream.status, {}, b"", stream.messages))


def in_session(client: Client) -> Iterator[Said]:
    """What only a legacy client with a session hears."""
    opened = client.ask(LEGACY, "initialize", INITIALIZE, token=FULL)
    session = {"session": opened.headers["mcp-session-id"], "token": FULL}
    yield Said(LEGACY, "initialize", opened)
    note, headers = request(LEGACY, "notifications/initialized", **session)
    del note["id"]
    client.send(json.dumps(note).encode(), headers)
    events = client.stream(b"", headers, verb="GET")
    for method, params in (
        ("logging/setLevel", {"level": "info"}),
        ("logging/setLevel", {"level": "loud"}),
        ("resources/subscribe", {"uri": "note://static"}),
        ("tools/call", {"name": "change"}),
        ("tools/call", {"name": "report"}),
        ("resources/unsubscribe", {"uri": "note://static"}),
    ):
        yield Said(LEGACY, method, client.ask(LEGACY, method, params, **session))
    hear_every_change(events)
    yield noted(LEGACY, "", events)
    for name, answers in ASKING.items():
        yield noted(LEGACY, "tools/call", answered(client, name, answers, session))
    asked = client.listen(LEGACY, "tools/call", {"name": "order"}, id="gone", **session)
    asked.next()
    cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "gone"}}
    client.send(json.dumps(cancel).encode(), headers)
    asked.rest()
    yield noted(LEGACY, "tools/call", asked)
    left = client.listen(LEGACY, "tools/call", {"name": "leave"}, meta={"progressToken": 1}, **session)
    left.rest()
    yield noted(LEGACY, "tools/call", left)
    back = client.stream(b"", headers | {"Last-Event-ID": left.event_id}, verb="GET", method="tools/call")
    back.next()
    back.close()
    yield Said(LEGACY, "tools/call", Reply(back.status, {}, b"", back.messages))


def answered(client: Client, name: str, answers: list[Json], session: dict[str, str], *, strict: bool = True) -> Stream:
    """A call of a legacy client's, and its questions answered, to the end; `strict`: with success."""
    stream = client.listen(LEGACY, "tools/call", {"name": name}, id=name, **session)
    left = list(answers)
    while (message := stream.next()) is not None and "method" in message:
        if message["method"] == "notifications/cancelled":
            continue
        answer = {"jsonrpc": "2.0", "id": message["id"], "result": left.pop(0) if left else {"action": "cancel"}}
        client.send(json.dumps(answer).encode(), request(LEGACY, "", **session)[1])
    assert not strict or not stream.messages[-1]["result"]["isError"], stream.messages[-1]
    stream.close()
    return stream


def over_pipes() -> Iterator[Said]:
    """What is said otherwise over stdio: the end of a modern subscription."""
    command = (SCRIPTS / "portway", "run", f"{Path(__file__).with_name('full_server.py')}", "--transport", "stdio")
    with Pipes(*map(str, command)) as pipes:
        listen, _ = request(MODERN, "subscriptions/listen", {"notifications": EVERY_CHANGE}, id=3)
        pipes.send(listen)
        messages = [pipes.receive()]
        pipes.close_input()
        messages += [pipes.receive(), pipes.receive()]
    yield Said(MODERN, "subscriptions/listen", Reply(200, {}, b"", messages))


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
    return (*said, *over_pipes())
