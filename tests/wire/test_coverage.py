"""Every method, field and error of both revisions is handled or stands in docs/not-supported.md, and nothing else does.

Handled means, for a method we answer: not -32601. For one we send, a field we send and an error: it is in the recorded
conversation. For a field we receive: another value in it, or its absence, gives another reply or another question.
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
from tests.wire.conversation import ABLE, ASKING, DAY, EVERY_CHANGE, INITIALIZE, TALK, TOPIC
from tests.wire.full_server import app
from tests.wire.http_server import LEGACY, META, MODERN, VERSIONS, Client, Json, request, served
from tests.wire.oracle import SCHEMAS, filled, judge, models_of, wire_name

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCUMENT = ROOT / "docs" / "not-supported.md"
SECTIONS = ("method", "field read", "field sent", "error")
# Accepting it is all there is to do, so no reply can show that it is handled.
NOTHING_TO_DO = {"notifications/initialized", "notifications/progress"}


@cache
def listed(section: str, version: str) -> frozenset[str]:
    """The entries of one table of the document that hold for a revision."""
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
    """All that was sent in the conversation, with the method that each message belongs to."""
    for said in conversation.recorded():
        if said.version == version:
            yield from ((said.method, message) for message in said.reply.messages)


def recorded(version: str) -> Iterator[BaseModel]:
    """The same as models."""
    for method, message in messages(version):
        yield from judge(version, method, message)


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
        m for m, at in methods.CLIENT_NOTIFICATIONS if at == version and (m in NOTHING_TO_DO or f'"{m}"' in source)
    }
    with served(app()) as url, opened(url, version) as (client, session):
        answered = {
            m
            for m in named
            if code(client.listen(version, m, {"protocolVersion": LEGACY}, session=session).rest()) != -32601
        }
    compare("method", version, named - sent - received - answered)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_field_of_a_reply_is_sent_or_listed(version):
    seen = {name for model in recorded(version) for name in filled(model)}
    unsent = listed("method", version)
    roots = [methods.SERVER_RESULTS[method, version] for method in handled_requests(version)]
    for table in (methods.SERVER_NOTIFICATIONS, methods.SERVER_REQUESTS):
        roots += [model for (method, at), model in table.items() if at == version and method not in unsent]
    roots += [SCHEMAS[version].JSONRPCErrorResponse, SCHEMAS[version].PrimitiveSchemaDefinition]
    roots += [SCHEMAS[version].Implementation]  # in a modern result's `_meta`, where the models let it be anything
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
    """`Model.field` for all that is reachable from `roots`, not looking into what `pruned` names."""
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
    """`Model.*` in place of its fields where the document lists it so."""
    return {f"{name.partition('.')[0]}.*" if f"{name.partition('.')[0]}.*" in entries else name for name in names}


# One request or more a method, with every field that is not listed; what is put into a field to see whether it is read.
FULL: dict[str, list[Json]] = {
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
OTHER: dict[type, list[Any]] = {
    str: ["other", "2025-06-18", "debug"],
    int: [2],
    float: [0.25],
    bool: [False],
    dict: [{}, {"steps": 1}],
    list: [[]],
}
AGAIN: dict[str, list[tuple[Json, Json]]] = {
    "tools/call": [({"name": name}, answers[0]) for name, answers in ASKING.items()],
    "prompts/get": [({"name": "asked"}, {"action": "accept", "content": {"tone": "dry"}})],
    "resources/read": [({"uri": "note://asked"}, {"action": "accept", "content": {"name": "Ada"}})],
}
"""Requests that ask in their first round, and an answer."""


@pytest.mark.parametrize("version", VERSIONS)
def test_every_field_of_a_request_changes_the_reply_or_is_listed(version):
    pruned = listed("field read", version)
    handled = handled_requests(version)
    roots = [methods.CLIENT_REQUESTS[method, version] for method in handled]
    asked = {method: model for (method, at), model in methods.CLIENT_RESULTS.items() if at == version}
    roots += [model for method, model in asked.items() if method not in listed("method", version)]
    reachable = set(fields(roots, pruned))
    read: set[str] = set()
    with served(app()) as url, opened(url, version) as (client, session):
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
    # The envelope is read field by field; that of a method that makes no progress has no other use in the legacy era.
    unread = {name for name in reachable - read if not name.endswith("._meta")}
    if version == MODERN:
        assert f"RequestMetaObject.{META}protocolVersion" in read
    compare("field read", version, collapse(unread, pruned))


def full_requests(
    client: Client, version: str, session: str | None, handled: list[str]
) -> Iterator[tuple[str, Json, dict[str, str]]]:
    """Requests that have every field, and in the modern era those that bring answers."""
    meta: Json = {"progressToken": 1}
    if version == MODERN:
        meta |= ABLE | {META + "logLevel": "warning"}
    for method in handled:
        for params in FULL.get(method, [{}]):
            yield method, *request(version, method, params, meta=meta, session=session)
        for params, answer in AGAIN[method] if version == MODERN and method in AGAIN else ():
            asked = client.ask(version, method, params, meta=meta).last["result"]
            brought = {"inputResponses": dict.fromkeys(asked["inputRequests"], answer)}
            yield (
                method,
                *request(version, method, params | brought | {"requestState": asked["requestState"]}, meta=meta),
            )


def fields_of_answers(client: Client, session: str) -> set[str]:
    """The fields of a legacy client's answers to which a tool's result is different."""
    read: set[str] = set()
    for name, answers in ASKING.items():
        before = conversation.answered(client, name, answers, {"session": session}).messages
        for number, answer in enumerate(answers):
            asked = before[number]["method"]
            for field, changed in changes(methods.CLIENT_RESULTS[asked, LEGACY], answer):
                given = [*answers[:number], changed, *answers[number + 1 :]]
                after = conversation.answered(client, name, given, {"session": session}, strict=False).messages
                if field not in read and after[-1] != before[-1]:
                    read.add(field)
    return read


def changes(model: Any, message: Json) -> Iterator[tuple[str, Json]]:
    """Each field that is set in `message`, by its model's name, with the message in which it is another."""
    for name, info in model.model_fields.items():
        key = wire_name(model, name)
        if key not in message:
            continue
        qualified = f"{model.__name__}.{key}"
        yield qualified, {k: v for k, v in message.items() if k != key}
        for other in OTHER.get(type(message[key]), []):
            yield qualified, message | {key: other}
        for inner in models_of(info.annotation):
            yield from ((found, message | {key: value}) for found, value in changes_within(inner, message[key]))


def changes_within(model: Any, value: Any) -> Iterator[tuple[str, Any]]:
    """The same of a model that is the value of a field, or among the values of a list or a mapping."""
    if isinstance(value, dict):
        yield from changes(model, value)
        for key in value:
            yield from ((found, value | {key: changed}) for found, changed in changes_within(model, value[key]))
    elif isinstance(value, list):
        for at, item in enumerate(value):
            yield from ((found, [*value[:at], other, *value[at + 1 :]]) for found, other in changes_within(model, item))


def outcome(client: Client, method: str, message: Json, headers: dict[str, str]) -> Any:
    """What comes of a request: its reply as far as it depends on it, up to the first question."""
    stream = client.stream(json.dumps(message).encode(), headers)
    said = [steady(stream.next())]
    if method != "subscriptions/listen":
        while stream.messages and not {"id", "method"} <= set(stream.messages[-1]) and (more := stream.next()):
            said.append(steady(more))
    stream.close()
    if method == "initialize" and (session := stream.headers["mcp-session-id"]):
        for name in ("order", "pay", "think", "where"):
            asked = client.listen(LEGACY, "tools/call", {"name": name}, session=session)
            said.append(steady(asked.next()))
            asked.close()
    return stream.status, said


def steady(message: Json | None) -> Any:
    """A message without what is another every time."""
    text = re.sub(r'"(id|elicitationId|requestState)": *"[^"]*"', "", json.dumps(message))
    return re.sub(r"error id \w+", "", text)


def code(messages: list[Json]) -> int | None:
    return messages[-1].get("error", {}).get("code") if messages else None


@contextmanager
def opened(url: str, version: str) -> Iterator[tuple[Client, str | None]]:
    """A client, and its session in the legacy era."""
    client = Client(url, judged=False)
    session = client.ask(LEGACY, "initialize", INITIALIZE).headers["mcp-session-id"] if version == LEGACY else None
    yield client, session
    client.close()
