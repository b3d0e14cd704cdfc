"""Validation of messages with `mcp-types`, the official models of every revision's schema.

A message is valid if it decodes as its revision's model and dumps to the same JSON again. The models drop unknown
fields, so the second condition finds misspelt and misplaced ones.
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
    """Decode `data` as `model`; raise ValidationError, or AssertionError if it does not dump to the same JSON."""
    value = _adapter(model).validate_python(data, by_name=False)
    again = _adapter(model).dump_python(value, by_alias=True, mode="json", exclude_unset=True)
    assert again == data
    assert isinstance(value, BaseModel)
    return value


def validate(version: str, method: str, message: Json) -> list[BaseModel]:
    """Decode a server's message into its models; `method` is that of the request it belongs to."""
    if "method" not in message:
        return _validate_reply(version, method, message)
    if "id" not in message:
        return [decode(methods.SERVER_NOTIFICATIONS[message["method"], version], message)]
    return [decode(methods.SERVER_REQUESTS[message["method"], version], message), *_validate_form(version, message)]


def _validate_reply(version: str, method: str, message: Json) -> list[BaseModel]:
    schema = SCHEMAS[version]
    if "error" in message:
        return [decode(schema.JSONRPCErrorResponse, message)]
    assert set(message) == {"jsonrpc", "id", "result"}
    result = message["result"]
    models = [decode(methods.SERVER_RESULTS[method, version], result)]
    info = result.get("_meta", {}).get(META + "serverInfo")  # the generated model accepts anything here
    if info is not None:
        models.append(decode(schema.Implementation, info))
    for question in (result.get("inputRequests") or {}).values():
        models += _validate_form(version, question)
    return models


def _validate_form(version: str, question: Json) -> list[BaseModel]:
    """Decode the fields of a form, which the generated models accept unchecked."""
    form = question.get("params", {}).get("requestedSchema", {})
    return [decode(SCHEMAS[version].PrimitiveSchemaDefinition, field) for field in form.get("properties", {}).values()]


def models_of(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the models in an annotation, through unions, lists, mappings and aliases."""
    annotation = getattr(annotation, "__value__", annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in typing.get_args(annotation):
        yield from models_of(part)


def set_fields(value: Any) -> Iterator[str]:
    """Yield `Model.field` for each field set in `value` or below it, named as on the wire."""
    if isinstance(value, BaseModel):
        for name in value.model_fields_set & set(type(value).model_fields):
            yield f"{type(value).__name__}.{wire_name(type(value), name)}"
            yield from set_fields(getattr(value, name))
    elif isinstance(value, list):
        for item in value:
            yield from set_fields(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from set_fields(item)


def wire_name(model: type[BaseModel], name: str) -> str:
    return model.model_fields[name].alias or name
