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

from tests.wire.served import META

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.wire.served import Json

SCHEMAS = {"2025-11-25": _v2025_11_25, "2026-07-28": _v2026_07_28}


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


def decode_reply(version: str, method: str, message: Json) -> list[BaseModel]:
    """A reply to `method` as the models it consists of: the frame, and the result it carries."""
    schema = SCHEMAS[version]
    if "error" in message:
        return [decode(schema.JSONRPCErrorResponse, message)]
    assert set(message) == {"jsonrpc", "id", "result"}
    models = [decode(methods.SERVER_RESULTS[method, version], message["result"])]
    info = message["result"].get("_meta", {}).get(META + "serverInfo")  # the generated model lets it be anything
    return models if info is None else [*models, decode(schema.Implementation, info)]


def decode_notification(version: str, message: Json) -> BaseModel:
    """A notification of the server's as its model."""
    return decode(methods.SERVER_NOTIFICATIONS[message["method"], version], message)


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
