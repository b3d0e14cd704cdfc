"""A conversation that makes the full server send every kind of message, in both eras and over both transports."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support import SCRIPTS
from tests.transport.stdio_client import Pipes
from tests.wire.full_server import ADMIN_TOKEN, READER_TOKEN, app
from tests.wire.http_server import VERSIONS, Client, Reply, Stream, request, served
from tests.wire.oracle import LEGACY, META, MODERN, Json

if TYPE_CHECKING:
    from collections.abc import Iterator

TALK = {"type": "ref/prompt", "name": "talk"}
TOPIC = {"name": "topic", "value": "t"}
DAY = {"type": "ref/resource", "uri": "note://by-day/{day}"}
CAPABILITIES = {"elicitation": {"form": {}, "url": {}}, "sampling": {"tools": {}, "context": {}}, "roots": {}}
CLIENT_INFO = {"name": "t", "version": "1"}
INITIALIZE = {"protocolVersion": LEGACY, "capabilities": CAPABILITIES, "clientInfo": CLIENT_INFO}
CAPABLE = {META + "clientCapabilities": CAPABILITIES, META + "clientInfo": CLIENT_INFO}
ORDER = {"dish": "soup", "sides": ["rice"]}
ANNOTATED = {
    "annotations": {"audience": ["user"], "priority": 0.5, "lastModified": "2026-07-28T00:00:00Z"},
    "_meta": {"x": 1},
}
BLOCKS = [
    {"type": "text", "text": "Stew"} | ANNOTATED,
    {"type": "image", "data": "AAAA", "mimeType": "image/png"} | ANNOTATED,
    {"type": "audio", "data": "AAAA", "mimeType": "audio/wav"} | ANNOTATED,
    {"type": "tool_use", "id": "1", "name": "look", "input": {"far": True}, "_meta": {"x": 1}},
]
SAMPLED = {"role": "assistant", "model": "m", "content": BLOCKS, "stopReason": "toolUse"}
ROOTS = {"roots": [{"uri": "file:///a", "name": "a"}, {"uri": "file:///b"}]}
ANSWERS = {
    "order": [{"action": "accept", "content": ORDER}],
    "survey": [{"action": "decline"}],
    "pay": [{"action": "accept"}],
    "think": [SAMPLED],
    "rounds": [
        {"action": "accept", "content": {"value": "one"}},
        {"action": "accept", "content": {"sure": True}},
        ROOTS,
    ],
    "where": [ROOTS],
}
"""The tools that ask, and the answers to their questions, in order."""

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
MALFORMED: tuple[bytes, ...] = (
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
class Recorded:
    """A request's method and its reply. Of a stream only the messages are kept."""

    version: str
    method: str
    reply: Reply


def converse(client: Client, version: str) -> list[Recorded]:
    records = [
        Recorded(
            version,
            method,
            client.ask(version, method, params, id=f"q{number}", token=READER_TOKEN, headers=param_headers(params)),
        )
        for number, (method, params) in enumerate(CALLS)
    ]
    slow = {"name": "slow", "arguments": {"steps": 3}}
    records += [
        Recorded(
            version, "tools/call", client.ask(version, "tools/call", slow, meta={"progressToken": t}, token=ADMIN_TOKEN)
        )
        for t in (7, "t")
    ]
    records += list(pages(client, version))
    _, headers = request(version, "ping", token=ADMIN_TOKEN)
    records += [Recorded(version, "tools/call", client.send(body, headers)) for body in MALFORMED]
    if version == MODERN:
        records += [Recorded(version, "tools/list", client.send(*changed)) for changed in broken_envelopes()]
        records += [*modern_questions(client), listen_for_changes(client)]
        report = {"name": "report"}
        meta = CAPABLE | {META + "logLevel": "info"}
        records.append(
            Recorded(version, "tools/call", client.ask(version, "tools/call", report, meta=meta, token=ADMIN_TOKEN))
        )
    else:
        records += in_session(client)
    return records


def param_headers(params: Json) -> dict[str, str]:
    """Return the headers that repeat an argument."""
    return {"Mcp-Param-Region": params["arguments"]["name"]} if params.get("name") == "region" else {}


def pages(client: Client, version: str) -> Iterator[Recorded]:
    """Fetch every page of every list."""
    for method in ("tools/list", "resources/list", "resources/templates/list", "prompts/list"):
        params: Json | None = {}
        while params is not None:
            reply = client.ask(version, method, params, token=READER_TOKEN)
            yield Recorded(version, method, reply)
            cursor = reply.last["result"].get("nextCursor")
            params = None if cursor is None else {"cursor": cursor}


def modern_questions(client: Client) -> Iterator[Recorded]:
    """Call each tool that asks, to its end, and one for a client that cannot answer."""
    for name, answers in ANSWERS.items():
        params: Json = {"name": name}
        left = list(answers)
        while True:
            reply = client.ask(MODERN, "tools/call", params, meta=CAPABLE, token=ADMIN_TOKEN)
            yield Recorded(MODERN, "tools/call", reply)
            result = reply.last["result"]
            if result["resultType"] == "complete":
                assert not result["isError"], result
                break
            responses = {key: left.pop(0) for key in result["inputRequests"]}
            params |= {"inputResponses": responses, "requestState": result["requestState"]}
    yield Recorded(MODERN, "tools/call", client.ask(MODERN, "tools/call", {"name": "order"}, token=ADMIN_TOKEN))
    for method, params in (("prompts/get", {"name": "asked"}), ("resources/read", {"uri": "note://asked"})):
        yield Recorded(MODERN, method, client.ask(MODERN, method, params, meta=CAPABLE, token=ADMIN_TOKEN))


EVERY_CHANGE = {
    "toolsListChanged": True,
    "promptsListChanged": True,
    "resourcesListChanged": True,
    "resourceSubscriptions": ["note://static"],
}


def listen_for_changes(client: Client) -> Recorded:
    """Read a stream of changes up to the last one. The end of a stream is in `over_stdio`."""
    params = {"notifications": EVERY_CHANGE}
    stream = client.listen(MODERN, "subscriptions/listen", params, id="é", token=ADMIN_TOKEN)
    stream.next()
    client.ask(MODERN, "tools/call", {"name": "change"}, token=ADMIN_TOKEN)
    read_every_change(stream)
    return recorded_stream(MODERN, "subscriptions/listen", stream)


def read_every_change(stream: Stream) -> None:
    """Read until each kind of change has arrived, some perhaps twice, and close the stream."""
    lists = {f"notifications/{kind}/list_changed" for kind in ("tools", "prompts", "resources")}
    while not {"notifications/resources/updated", *lists} <= {message["method"] for message in stream.messages}:
        assert stream.next() is not None
    stream.close()


def recorded_stream(version: str, method: str, stream: Stream) -> Recorded:
    return Recorded(version, method, Reply(stream.status, {}, b"", stream.messages))


def in_session(client: Client) -> Iterator[Recorded]:
    """Provoke the messages that only a legacy client with a session gets."""
    opened = client.ask(LEGACY, "initialize", INITIALIZE, token=ADMIN_TOKEN)
    session = {"session": opened.headers["mcp-session-id"], "token": ADMIN_TOKEN}
    yield Recorded(LEGACY, "initialize", opened)
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
        yield Recorded(LEGACY, method, client.ask(LEGACY, method, params, **session))
    read_every_change(events)
    yield recorded_stream(LEGACY, "", events)
    for name, answers in ANSWERS.items():
        yield recorded_stream(LEGACY, "tools/call", call_and_answer(client, name, answers, session))
    asked = client.listen(LEGACY, "tools/call", {"name": "order"}, id="gone", **session)
    asked.next()
    cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "gone"}}
    client.send(json.dumps(cancel).encode(), headers)
    asked.rest()
    yield recorded_stream(LEGACY, "tools/call", asked)
    left = client.listen(LEGACY, "tools/call", {"name": "leave"}, meta={"progressToken": 1}, **session)
    left.rest()
    yield recorded_stream(LEGACY, "tools/call", left)
    back = client.stream(b"", headers | {"Last-Event-ID": left.event_id}, verb="GET", method="tools/call")
    back.next()
    back.close()
    yield Recorded(LEGACY, "tools/call", Reply(back.status, {}, b"", back.messages))


def call_and_answer(
    client: Client, name: str, answers: list[Json], session: dict[str, str], *, strict: bool = True
) -> Stream:
    """Call a tool as a legacy client and answer its questions; `strict`: the call must succeed."""
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


def over_stdio() -> Iterator[Recorded]:
    """Provoke what differs over stdio: the end of a modern subscription."""
    command = (SCRIPTS / "portway", "run", f"{Path(__file__).with_name('full_server.py')}", "--transport", "stdio")
    with Pipes(*map(str, command)) as pipes:
        listen, _ = request(MODERN, "subscriptions/listen", {"notifications": EVERY_CHANGE}, id=3)
        pipes.send(listen)
        messages = [pipes.receive()]
        pipes.close_input()
        messages += [pipes.receive(), pipes.receive()]
    yield Recorded(MODERN, "subscriptions/listen", Reply(200, {}, b"", messages))


def broken_envelopes() -> list[tuple[bytes, dict[str, str]]]:
    """Return `tools/list` requests with one fault each, in a header or in the envelope."""
    message, headers = request(MODERN, "tools/list", token=ADMIN_TOKEN)
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
def recorded() -> tuple[Recorded, ...]:
    """Return the whole conversation in both eras; it is held once per process."""
    with served(app(tokens=True)) as url:
        client = Client(url)
        records = [one for version in VERSIONS for one in converse(client, version)]
        client.close()
    return (*records, *over_stdio())
