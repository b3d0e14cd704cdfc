"""Dialogues of several requests: sessions, questions and their answers, subscriptions.

A dialogue sends the requests of one client and yields a step for each reply. Random or opaque parts of a reply (ids,
keys, states) are replaced by fixed names, so that two servers can be compared.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.wire.http_server import LEGACY, META, MODERN, Client, Json, Reply, Stream, request
from tests.wire.requests import Case

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Dialogue = Callable[[Client], Iterator["Step"]]

CAPABILITIES = {"elicitation": {"form": {}}, "sampling": {}, "roots": {}}
INITIALIZE = {"protocolVersion": LEGACY, "capabilities": CAPABILITIES, "clientInfo": {"name": "t", "version": "1"}}
ANSWERS: dict[str, list[Json]] = {
    "ask": [
        {"action": "accept", "content": {"name": "Ada", "age": 3, "size": "l"}},
        {"action": "accept", "content": {"name": "Ada"}},
        {"action": "decline"},
        {"action": "cancel"},
    ],
    "think": [
        {"role": "assistant", "model": "m", "content": {"type": "text", "text": "Stew"}, "stopReason": "endTurn"}
    ],
    "roots": [{"roots": [{"uri": "file:///a", "name": "a"}, {"uri": "file:///b"}]}, {"roots": []}],
}
MALFORMED: dict[str, list[Any]] = {
    "ask": [{"action": "perhaps"}, {}, 7, None, {"action": "accept", "content": {"age": "old"}}],
    "think": [{"role": "assistant"}, {"action": "accept"}],
    "roots": [{"roots": 7}],
}


@dataclass(frozen=True)
class Step:
    """The reply to one request: `seen` has the status and every message."""

    case: Case
    seen: Json


def step(case: Case, status: int, messages: list[Json]) -> Step:
    last = messages[-1] if messages else None
    return Step(
        case, {"status": status, "message": normalized(last), "before": [normalized(one) for one in messages[:-1]]}
    )


def normalized(message: Json | None) -> Any:
    """Return a copy in which random and unique values have fixed names."""
    if message is None:
        return None
    message = json.loads(json.dumps(message))
    if "method" in message and "id" in message:
        message["id"] = "question"
    result = message.get("result") or {}
    if "nextCursor" in result:
        result["nextCursor"] = "cursor"
    if "inputRequests" in result:
        asked = sorted(result["inputRequests"].values(), key=json.dumps)
        result["inputRequests"] = {f"q{number}": question for number, question in enumerate(asked)}
        result["requestState"] = "state"
    for question in [message, *(result.get("inputRequests") or {}).values()]:
        drop_titles((question.get("params") or {}).get("requestedSchema") or {})
    return message


def drop_titles(form: Json) -> None:
    """Remove generated titles."""
    form.pop("title", None)
    for field in form.get("properties", {}).values():
        field.pop("title", None)


def case(version: str, method: str, params: Json | None = None, **changes: Any) -> Case:
    message, headers = request(version, method, params, **changes)
    return Case(version, method, json.dumps(message).encode(), headers)


def exchange(client: Client, sent: Case) -> tuple[Reply, Step]:
    reply = client.send(sent.body, sent.headers)
    return reply, step(sent, reply.status, reply.messages)


def in_session(client: Client) -> Iterator[Step]:
    """Use a session from its start to its end, and after it."""
    reply, reply_step = exchange(client, case(LEGACY, "initialize", INITIALIZE))
    yield reply_step
    session = reply.headers["mcp-session-id"]
    assert re.fullmatch(r"[!-~]+", session)
    note = case(LEGACY, "", session=session)
    initialized = b'{"jsonrpc":"2.0","method":"notifications/initialized"}'
    yield step(note, client.send(initialized, note.headers).status, [])
    for method, params in (
        ("ping", {}),
        ("tools/call", {"name": "add", "arguments": {"a": 1}}),
        ("tools/call", {"name": "report"}),
        ("logging/setLevel", {"level": "warning"}),
        ("logging/setLevel", {}),
        ("tools/call", {"name": "report"}),
        ("resources/subscribe", {"uri": "note://static"}),
        ("resources/subscribe", {}),
        ("resources/unsubscribe", {"uri": "note://static"}),
        ("no/such", {}),
    ):
        yield exchange(client, case(LEGACY, method, params, session=session, meta={"progressToken": 1}))[1]
    yield exchange(client, case(LEGACY, "tools/list", session="made-up"))[1]
    yield exchange(client, case(LEGACY, "tools/list"))[1]
    strange = case(LEGACY, "tools/list", session=session)
    strange.headers["MCP-Protocol-Version"] = "1999-01-01"
    yield exchange(client, strange)[1]
    end = case(LEGACY, "", session=session)
    yield step(end, client.send(b"", end.headers, verb="DELETE").status // 100, [])
    yield exchange(client, case(LEGACY, "tools/list", session=session))[1]


def asked_in_session(client: Client) -> Iterator[Step]:
    """Ask every question, with every kind of answer."""
    opened = exchange(client, case(LEGACY, "initialize", INITIALIZE))[0]
    session = opened.headers["mcp-session-id"]
    for name, answers in ANSWERS.items():
        for answer in [*answers, {"error": {"code": -1, "message": "no"}}]:
            sent = case(LEGACY, "tools/call", {"name": name}, session=session, id=name)
            stream = client.stream(sent.body, sent.headers)
            yield from answer_until_done(client, sent, stream, answer, session)
    incapable = exchange(client, case(LEGACY, "initialize", INITIALIZE | {"capabilities": {}}))[0]
    for name in ANSWERS:
        yield exchange(client, case(LEGACY, "tools/call", {"name": name}, session=incapable.headers["mcp-session-id"]))[
            1
        ]


def answer_until_done(client: Client, sent: Case, stream: Stream, answer: Json, session: str) -> Iterator[Step]:
    while (message := stream.next()) is not None and "method" in message:
        body = {"jsonrpc": "2.0", "id": message["id"]} | (answer if "error" in answer else {"result": answer})
        status = client.send(json.dumps(body).encode(), case(LEGACY, "", session=session).headers).status
        yield step(sent, status, [message])
    stream.close()
    yield step(sent, stream.status, stream.messages[-1:])


def asked_in_rounds(client: Client) -> Iterator[Step]:
    """Ask the same of a modern client, which sends its answers with the next request."""
    able = {META + "clientCapabilities": CAPABILITIES}
    for name, answers in ANSWERS.items():
        for answer in [*answers, *MALFORMED[name]]:
            call: Json = {"name": name}
            first, reply_step = exchange(client, case(MODERN, "tools/call", call, meta=able))
            yield reply_step
            asked = first.last["result"]
            brought = call | {"inputResponses": dict.fromkeys(asked["inputRequests"], answer)}
            state = {"requestState": asked["requestState"]}
            yield exchange(client, case(MODERN, "tools/call", brought | state, meta=able))[1]
        for bad in (state["requestState"] + "x", "", 7):
            yield exchange(client, case(MODERN, "tools/call", brought | {"requestState": bad}, meta=able))[1]
        other = brought | state | {"name": "add", "arguments": {"a": 1}}
        yield exchange(client, case(MODERN, "tools/call", other, meta=able))[1]
        stray = call | {"inputResponses": {"nobody asked": answers[0]}}
        yield exchange(client, case(MODERN, "tools/call", stray, meta=able))[1]
        yield exchange(client, case(MODERN, "tools/call", call))[1]


def logging_and_progress(client: Client) -> Iterator[Step]:
    """Get log messages and progress, as a modern request asks for them."""
    for meta in (
        {},
        {"progressToken": "p"},
        {META + "logLevel": "debug"},
        {META + "logLevel": "error"},
        {META + "logLevel": "loud"},
    ):
        yield exchange(client, case(MODERN, "tools/call", {"name": "report"}, meta=meta))[1]


def listening(client: Client) -> Iterator[Step]:
    """Open streams of changes and read the acknowledgement and the notifications."""
    watched = {"resourceSubscriptions": ["note://static", "note://none"]}
    for filters in (
        {"toolsListChanged": True},
        {"toolsListChanged": True} | watched,
        watched,
        {"promptsListChanged": False},
        {},
    ):
        sent = case(MODERN, "subscriptions/listen", {"notifications": filters}, id="listen")
        stream = client.stream(sent.body, sent.headers)
        stream.next()
        client.ask(MODERN, "tools/call", {"name": "change"})
        wanted = {f"notifications/{kind}" for kind in notified_kinds(filters)}
        while not wanted <= {message["method"] for message in stream.messages}:
            stream.next()
        stream.close()
        once = {json.dumps(message): message for message in stream.messages}
        yield step(sent, stream.status, list(once.values()))
    for wrong in ({}, {"notifications": None}, {"notifications": {"resourceSubscriptions": "x"}}):
        yield exchange(client, case(MODERN, "subscriptions/listen", wrong))[1]


def changing_in_session(client: Client) -> Iterator[Step]:
    """Read the notifications of changes on a legacy client's GET stream."""
    session = exchange(client, case(LEGACY, "initialize", INITIALIZE))[0].headers["mcp-session-id"]
    plain = case(LEGACY, "", session=session)
    client.send(b'{"jsonrpc":"2.0","method":"notifications/initialized"}', plain.headers)
    yield exchange(client, case(LEGACY, "resources/subscribe", {"uri": "note://static"}, session=session))[1]
    stream = client.stream(b"", plain.headers, verb="GET")
    yield exchange(client, case(LEGACY, "tools/call", {"name": "change"}, session=session))[1]
    wanted = {f"notifications/{kind}" for kind in ("tools/list_changed", "resources/updated")}
    while not wanted <= {message["method"] for message in stream.messages}:
        stream.next()
    stream.close()
    yield step(plain, stream.status, list({json.dumps(message): message for message in stream.messages}.values()))
    for accept in ("application/json", ""):
        refused = client.send(b"", plain.headers | {"Accept": accept}, verb="GET")
        yield step(plain, refused.status, [])
    yield step(plain, client.send(b"", plain.headers, verb="PUT").status, [])


def paging(client: Client) -> Iterator[Step]:
    """Fetch every list page by page, and with invalid cursors."""
    opened = exchange(client, case(LEGACY, "initialize", INITIALIZE))[0]
    for version, session in ((LEGACY, opened.headers["mcp-session-id"]), (MODERN, None)):
        for method in ("tools/list", "resources/list", "resources/templates/list", "prompts/list"):
            params: Json | None = {}
            while params is not None:
                reply, reply_step = exchange(client, case(version, method, params, session=session))
                yield reply_step
                cursor = reply.last["result"].get("nextCursor")
                params = None if cursor is None else {"cursor": cursor}
            for wrong in ("made up", "", 7):
                yield exchange(client, case(version, method, {"cursor": wrong}, session=session))[1]


def notified_kinds(filters: Json) -> list[str]:
    kinds = {"toolsListChanged": "tools/list_changed", "resourceSubscriptions": "resources/updated"}
    return [kind for name, kind in kinds.items() if filters.get(name)]


ALL: tuple[Dialogue, ...] = (
    in_session,
    asked_in_session,
    asked_in_rounds,
    logging_and_progress,
    listening,
    changing_in_session,
    paging,
)
DIALOGUES = {dialogue.__name__: dialogue for dialogue in ALL}
