"""`mcp-types`, the official models of every revision's schema, as a judge of messages.

A message passes when it decodes as what its revision says it is, and the result dumped again is equal: the models
drop what they do not know, so a misspelt or misplaced field cannot hide.
"""

from __future__ import annotations

import typing
from functools import cache
from typing import TYPE_CHECKING, Any

from mcp_types import _v2025_11_25, _v2026_07_28, methods
from pydantic import BaseModel, TypeAdapter

if TYPE_CHECKING:
    from collections.abc import Iterator

LEGACY, MODERN = "2025-11-25", "2026-07-28"
META = "io.modelcontextprotocol/"
SCHEMAS = {LEGACY: _v2025_11_25, MODERN: _v2026_07_28}
Json = dict[str, Any]


@cache
def _adapter(model: Any) -> TypeAdapter[Any]:
    return TypeAdapter(model)


def decode(model: Any, data: Json) -> BaseModel:
    """`data` as `model`; raises ValidationError, or AssertionError where dumping it again gives something else."""
    value = _adapter(model).validate_python(data, by_name=False)
    again = _adapter(model).dump_python(value, by_alias=True, mode="json", exclude_unset=True)
    assert again == data
    assert isinstance(value, BaseModel)
    return value


def judge(version: str, method: str, message: Json) -> list[BaseModel]:
    """One message of a server's as the models it consists of; `method` is that of the request it belongs to."""
    if "method" not in message:
        return _judge_reply(version, method, message)
    if "id" not in message:
        return [decode(methods.SERVER_NOTIFICATIONS[message["method"], version], message)]
    return [decode(methods.SERVER_REQUESTS[message["method"], version], message), *_judge_form(version, message)]


def _judge_reply(version: str, method: str, message: Json) -> list[BaseModel]:
    schema = SCHEMAS[version]
    if "error" in message:
        return [decode(schema.JSONRPCErrorResponse, message)]
    assert set(message) == {"jsonrpc", "id", "result"}
    result = message["result"]
    models = [decode(methods.SERVER_RESULTS[method, version], result)]
    info = result.get("_meta", {}).get(META + "serverInfo")  # the generated model lets it be anything
    if info is not None:
        models.append(decode(schema.Implementation, info))
    for question in (result.get("inputRequests") or {}).values():
        models += _judge_form(version, question)
    return models


def _judge_form(version: str, question: Json) -> list[BaseModel]:
    """The fields of a form, which the generated models let be anything."""
    form = question.get("params", {}).get("requestedSchema", {})
    return [decode(SCHEMAS[version].PrimitiveSchemaDefinition, field) for field in form.get("properties", {}).values()]


def models_of(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models an annotation mentions, through unions, lists, mappings and aliases."""
    annotation = getattr(annotation, "__value__", annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in typing.get_args(annotation):
        yield from models_of(part)


def filled(value: Any) -> Iterator[str]:
    """`Model.field` for each field that is set in `value` or in what it holds, named as on the wire."""
    if isinstance(value, BaseModel):
        for name in value.model_fields_set & set(type(value).model_fields):
            yield f"{type(value).__name__}.{wire_name(type(value), name)}"
            yield from filled(getattr(value, name))
    elif isinstance(value, list):
        for item in value:
            yield from filled(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from filled(item)


def wire_name(model: type[BaseModel], name: str) -> str:
    return model.model_fields[name].alias or name
