"""Every method, field and error of both revisions is handled or stands in docs/not-supported.md, and nothing else does.

Handled means, for a method we answer: not -32601. For one we send, a field we send and an error: it is in the recorded
conversation. For a field we receive: another value in it, or its absence, gives another reply.
"""

from __future__ import annotations

import inspect
import json
import re
import typing
from collections import Counter
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
from mcp_types import methods
from pydantic import BaseModel

from tests.support import ROOT
from tests.wire import conversation
from tests.wire.oracle import SCHEMAS, decode_notification, decode_reply, filled, models_of, wire_name
from tests.wire.served import LEGACY, META, MODERN, VERSIONS, Client, Json, request, served

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


def recorded(version: str) -> Iterator[BaseModel]:
    """All that was sent in the conversation, decoded."""
    for said in conversation.recorded():
        if said.version == version:
            *notifications, last = said.reply.messages
            yield from (decode_notification(version, message) for message in notifications)
            yield from decode_reply(version, said.method, last)


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
    sent = {
        message["method"]
        for said in conversation.recorded()
        if said.version == version
        for message in said.reply.messages[:-1]
    }
    source = "".join(path.read_text() for path in (ROOT / "src/portway").rglob("*.py"))
    received = {
        m for m, at in methods.CLIENT_NOTIFICATIONS if at == version and (m in NOTHING_TO_DO or f'"{m}"' in source)
    }
    with served(conversation.app()) as url:
        client = Client(url)
        answered = {
            m
            for m in named
            if client.ask(version, m, {"protocolVersion": LEGACY}).last.get("error", {}).get("code") != -32601
        }
        client.close()
    compare("method", version, named - sent - received - answered)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_field_of_a_reply_is_sent_or_listed(version):
    seen = {name for model in recorded(version) for name in filled(model)}
    roots = [methods.SERVER_RESULTS[method, version] for method in handled_requests(version)]
    roots += [methods.SERVER_NOTIFICATIONS["notifications/progress", version], SCHEMAS[version].JSONRPCErrorResponse]
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
    sent = {
        said.reply.last["error"]["code"]
        for said in conversation.recorded()
        if said.version == version and "error" in said.reply.last
    }
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


# One request a method with every field that is not listed; what is put into a field to see whether it is read.
WHO = {"name": "t", "version": "1"}
FULL: dict[str, Json] = {
    "initialize": {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": WHO},
    "tools/call": {"name": "slow", "arguments": {"steps": 2}},
    "prompts/get": {"name": "talk", "arguments": {"topic": "tea"}},
    "resources/read": {"uri": "note://static"},
} | {f"{kind}/list": {"cursor": "c"} for kind in ("tools", "prompts", "resources", "resources/templates")}
OTHER: dict[type, list[Any]] = {str: ["other", "2025-06-18"], int: [2], dict: [{}, {"steps": 1}]}


@pytest.mark.parametrize("version", VERSIONS)
def test_every_field_of_a_request_changes_the_reply_or_is_listed(version):
    pruned = listed("field read", version)
    reachable = set(fields([methods.CLIENT_REQUESTS[method, version] for method in handled_requests(version)], pruned))
    read: set[str] = set()
    with served(conversation.app()) as url:
        client = Client(url)
        for method in sorted(handled_requests(version)):
            message, headers = request(version, method, FULL.get(method), meta={"progressToken": 1})
            model = methods.CLIENT_REQUESTS[method, version]
            model.model_validate(message, by_name=False)
            read |= {name for name, changed in changes(model, message) if differs(client, message, changed, headers)}
        client.close()
    # The envelope is read field by field; that of a method that makes no progress has no other use in the legacy era.
    unread = {name for name in reachable - read if not name.endswith("._meta")}
    if version == MODERN:
        assert f"RequestMetaObject.{META}protocolVersion" in read
    compare("field read", version, collapse(unread, pruned))


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
            if isinstance(message[key], dict):
                yield from ((found, message | {key: value}) for found, value in changes(inner, message[key]))


def differs(client: Client, message: Json, changed: Json, headers: dict[str, str]) -> bool:
    before, after = (client.send(json.dumps(body).encode(), headers) for body in (message, changed))
    return (before.status, before.messages) != (after.status, after.messages)
