"""Every method, field and error of both revisions is handled or listed in docs/not-supported.md, never both.

A method we answer is handled if the reply is not -32601. A method, field or error we send is handled if it is in the
recorded conversation. A field we receive is handled if another value, or none, changes the reply or a question.
"""

from __future__ import annotations

import inspect
import json
import re
import typing
from collections import Counter
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
from mcp_types import methods
from pydantic import BaseModel

from tests.support import ROOT
from tests.wire import conversation
from tests.wire.conversation import ANSWERS, CAPABLE, DAY, EVERY_CHANGE, INITIALIZE, TALK, TOPIC
from tests.wire.full_server import app
from tests.wire.http_server import LEGACY, META, MODERN, VERSIONS, Client, Json, request, served
from tests.wire.oracle import SCHEMAS, models_of, set_fields, validate, wire_name

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCUMENT = ROOT / "docs" / "not-supported.md"
SECTIONS = ("method", "field read", "field sent", "error")
# These are only acknowledged, so no reply shows that they are handled.
ACKNOWLEDGED_ONLY = {"notifications/initialized", "notifications/progress"}


@cache
def listed(section: str, version: str) -> frozenset[str]:
    """Return the entries of one table of the document for a revision."""
    tables = re.findall(r"\n\| (method|field|error) \|.*\n\|[- |]+\n((?:\|.*\n)+)", DOCUMENT.read_text())
    assert [head for head, _ in tables] == ["method", "field", "field", "error"], "the document lost a table"
    entries: list[str] = []
    for row in tables[SECTIONS.index(section)][1].splitlines():
        names, revisions, why = (cell.strip() for cell in row.strip("|").split(" | "))
        assert revisions in {"both", *VERSIONS}, row
        assert why.endswith("."), f"no reason: {row}"
        if revisions in {"both", version}:
            entries += re.findall(r"`([^`]+)`", names)
    assert not [name for name, count in Counter(entries).items() if count > 1], "listed twice"
    return frozenset(entries)


def compare(section: str, version: str, unhandled: set[str]) -> None:
    entries = listed(section, version)
    assert unhandled - entries == set(), "neither handled nor in docs/not-supported.md"
    assert entries - unhandled == set(), "in docs/not-supported.md, but handled or unknown to this revision"


def handled_requests(version: str) -> set[str]:
    return {method for method, at in methods.CLIENT_REQUESTS if at == version} - listed("method", version)


def messages(version: str) -> Iterator[tuple[str, Json]]:
    """Yield each message of the conversation with the method of its request."""
    for record in conversation.recorded():
        if record.version == version:
            yield from ((record.method, message) for message in record.reply.messages)


def recorded(version: str) -> Iterator[BaseModel]:
    """Yield the models of each message."""
    for method, message in messages(version):
        yield from validate(version, method, message)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_method_is_handled_or_listed(version):
    schema = SCHEMAS[version]
    named = {
        typing.get_args(model.model_fields["method"].annotation)[0]
        for _, model in inspect.getmembers(schema, inspect.isclass)
        if issubclass(model, BaseModel)
        and "method" in model.model_fields
        and model.model_fields["method"].annotation is not str
    }
    assert {
        method
        for table in (methods.CLIENT_REQUESTS, methods.SERVER_NOTIFICATIONS)
        for method, at in table
        if at == version
    } <= named
    sent = {message["method"] for _, message in messages(version) if "method" in message}
    sent |= {
        question["method"]
        for _, message in messages(version)
        for question in message.get("result", {}).get("inputRequests", {}).values()
    }
    source = "".join(path.read_text() for path in (ROOT / "src/portway").rglob("*.py"))
    received = {
        m for m, at in methods.CLIENT_NOTIFICATIONS if at == version and (m in ACKNOWLEDGED_ONLY or f'"{m}"' in source)
    }
    with served(app()) as url, connected(url, version) as (client, session):
        answered = {
            m
            for m in named
            if code(client.listen(version, m, {"protocolVersion": LEGACY}, session=session).rest()) != -32601
        }
    compare("method", version, named - sent - received - answered)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_field_of_a_reply_is_sent_or_listed(version):
    seen = {name for model in recorded(version) for name in set_fields(model)}
    unsent = listed("method", version)
    roots = [methods.SERVER_RESULTS[method, version] for method in handled_requests(version)]
    for table in (methods.SERVER_NOTIFICATIONS, methods.SERVER_REQUESTS):
        roots += [model for (method, at), model in table.items() if at == version and method not in unsent]
    roots += [SCHEMAS[version].JSONRPCErrorResponse, SCHEMAS[version].PrimitiveSchemaDefinition]
    roots += [SCHEMAS[version].Implementation]  # in a modern result's `_meta`, which the models do not check
    entries = listed("field sent", version)
    reachable = set(fields(roots, entries))
    compare("field sent", version, collapse(reachable - seen, entries))


@pytest.mark.parametrize("version", VERSIONS)
def test_every_error_is_sent_or_listed(version):
    errors = {
        name: typing.get_args(model.model_fields["error"].annotation.model_fields["code"].annotation)
        for name, model in inspect.getmembers(SCHEMAS[version], inspect.isclass)
        if name.endswith("Error") and "error" in getattr(model, "model_fields", {})
    }
    sent = {message["error"]["code"] for _, message in messages(version) if "error" in message}
    compare("error", version, {name for name, codes in errors.items() if codes and not sent & set(codes)})


def fields(roots: list[Any], pruned: frozenset[str]) -> Iterator[str]:
    """Yield `Model.field` for every field reachable from `roots`, without those below a name in `pruned`."""
    waiting, seen = [model for root in roots for model in models_of(root)], set()
    while waiting:
        model = waiting.pop()
        if model in seen:
            continue
        seen.add(model)
        for name, info in model.model_fields.items():
            key = f"{model.__name__}.{wire_name(model, name)}"
            yield key
            if key not in pruned and f"{model.__name__}.*" not in pruned:
                waiting += models_of(info.annotation)


def collapse(names: set[str], entries: frozenset[str]) -> set[str]:
    """Replace the fields of a model by `Model.*` if the document lists it so."""
    return {f"{name.partition('.')[0]}.*" if f"{name.partition('.')[0]}.*" in entries else name for name in names}


# Requests of each method that set every field not listed, then the values to put into a field to see if it is read.
FULL_REQUESTS: dict[str, list[Json]] = {
    "initialize": [INITIALIZE],
    "tools/call": [{"name": "slow", "arguments": {"steps": 2}}, {"name": "report"}, {"name": "pay"}],
    "prompts/get": [{"name": "talk", "arguments": {"topic": "tea"}}],
    "resources/read": [{"uri": "note://static"}],
    "completion/complete": [
        {"ref": TALK, "argument": TOPIC, "context": {"arguments": {"tone": "x"}}},
        {"ref": DAY, "argument": {"name": "day", "value": "1"}},
    ],
    "logging/setLevel": [{"level": "info"}],
    "resources/subscribe": [{"uri": "note://static"}],
    "resources/unsubscribe": [{"uri": "note://static"}],
    "subscriptions/listen": [{"notifications": EVERY_CHANGE}],
} | {f"{kind}/list": [{"cursor": "c"}] for kind in ("tools", "prompts", "resources", "resources/templates")}
OTHER_VALUES: dict[type, list[Any]] = {
    str: ["other", "2025-06-18", "debug"],
    int: [2],
    float: [0.25],
    bool: [False],
    dict: [{}, {"steps": 1}],
    list: [[]],
}
ASKING_REQUESTS: dict[str, list[tuple[Json, Json]]] = {
    "tools/call": [({"name": name}, answers[0]) for name, answers in ANSWERS.items()],
    "prompts/get": [({"name": "asked"}, {"action": "accept", "content": {"tone": "dry"}})],
    "resources/read": [({"uri": "note://asked"}, {"action": "accept", "content": {"name": "Ada"}})],
}
"""Requests of components that ask, and the answer to their first question."""


@pytest.mark.parametrize("version", VERSIONS)
def test_every_field_of_a_request_changes_the_reply_or_is_listed(version):
    pruned = listed("field read", version)
    handled = handled_requests(version)
    roots = [methods.CLIENT_REQUESTS[method, version] for method in handled]
    asked = {method: model for (method, at), model in methods.CLIENT_RESULTS.items() if at == version}
    roots += [model for method, model in asked.items() if method not in listed("method", version)]
    reachable = set(fields(roots, pruned))
    read: set[str] = set()
    with served(app()) as url, connected(url, version) as (client, session):
        for method, message, headers in full_requests(client, version, session, sorted(handled)):
            model = methods.CLIENT_REQUESTS[method, version]
            model.model_validate(message, by_name=False)
            before = outcome(client, method, message, headers)
            read |= {
                name
                for name, changed in changes(model, message)
                if name not in read and outcome(client, method, changed, headers) != before
            }
        if session is not None:
            read |= fields_of_answers(client, session)
    # `_meta` is covered by its own fields; a legacy method without progress has no use for it.
    unread = {name for name in reachable - read if not name.endswith("._meta")}
    if version == MODERN:
        assert f"RequestMetaObject.{META}protocolVersion" in read
    compare("field read", version, collapse(unread, pruned))


def full_requests(
    client: Client, version: str, session: str | None, handled: list[str]
) -> Iterator[tuple[str, Json, dict[str, str]]]:
    """Yield requests that set every field, and in the modern era also those that carry answers."""
    meta: Json = {"progressToken": 1}
    if version == MODERN:
        meta |= CAPABLE | {META + "logLevel": "warning"}
    for method in handled:
        for params in FULL_REQUESTS.get(method, [{}]):
            yield method, *request(version, method, params, meta=meta, session=session)
        for params, answer in ASKING_REQUESTS[method] if version == MODERN and method in ASKING_REQUESTS else ():
            asked = client.ask(version, method, params, meta=meta).last["result"]
            brought = {"inputResponses": dict.fromkeys(asked["inputRequests"], answer)}
            yield (
                method,
                *request(version, method, params | brought | {"requestState": asked["requestState"]}, meta=meta),
            )


def fields_of_answers(client: Client, session: str) -> set[str]:
    """Return the fields of a legacy client's answers that change a tool's result."""
    read: set[str] = set()
    for name, answers in ANSWERS.items():
        before = conversation.call_and_answer(client, name, answers, {"session": session}).messages
        for number, answer in enumerate(answers):
            asked = before[number]["method"]
            for field, changed in changes(methods.CLIENT_RESULTS[asked, LEGACY], answer):
                given = [*answers[:number], changed, *answers[number + 1 :]]
                after = conversation.call_and_answer(client, name, given, {"session": session}, strict=False).messages
                if field not in read and after[-1] != before[-1]:
                    read.add(field)
    return read


def changes(model: Any, message: Json) -> Iterator[tuple[str, Json]]:
    """Yield each field set in `message`, by its model's name, with a copy in which it is changed or missing."""
    for name, info in model.model_fields.items():
        key = wire_name(model, name)
        if key not in message:
            continue
        qualified = f"{model.__name__}.{key}"
        yield qualified, {k: v for k, v in message.items() if k != key}
        for other in OTHER_VALUES.get(type(message[key]), []):
            yield qualified, message | {key: other}
        for inner in models_of(info.annotation):
            yield from ((found, message | {key: value}) for found, value in changes_within(inner, message[key]))


def changes_within(model: Any, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the same for a model in the value of a field, also inside a list or a mapping."""
    if isinstance(value, dict):
        yield from changes(model, value)
        for key in value:
            yield from ((found, value | {key: changed}) for found, changed in changes_within(model, value[key]))
    elif isinstance(value, list):
        for at, item in enumerate(value):
            yield from ((found, [*value[:at], other, *value[at + 1 :]]) for found, other in changes_within(model, item))


def outcome(client: Client, method: str, message: Json, headers: dict[str, str]) -> Any:
    """Return the reply to a request, up to the first question, without random values."""
    stream = client.stream(json.dumps(message).encode(), headers)
    received = [normalized(stream.next())]
    if method != "subscriptions/listen":
        while stream.messages and not {"id", "method"} <= set(stream.messages[-1]) and (more := stream.next()):
            received.append(normalized(more))
    stream.close()
    if method == "initialize" and (session := stream.headers["mcp-session-id"]):
        for name in ("order", "pay", "think", "where"):
            asked = client.listen(LEGACY, "tools/call", {"name": name}, session=session)
            received.append(normalized(asked.next()))
            asked.close()
    return stream.status, received


def normalized(message: Json | None) -> Any:
    """Return a message's text without random values."""
    text = re.sub(r'"(id|elicitationId|requestState)": *"[^"]*"', "", json.dumps(message))
    return re.sub(r"error id \w+", "", text)


def code(messages: list[Json]) -> int | None:
    return messages[-1].get("error", {}).get("code") if messages else None


@contextmanager
def connected(url: str, version: str) -> Iterator[tuple[Client, str | None]]:
    """Give a client, and its session id in the legacy era."""
    client = Client(url, validated=False)
    session = client.ask(LEGACY, "initialize", INITIALIZE).headers["mcp-session-id"] if version == LEGACY else None
    yield client, session
    client.close()
