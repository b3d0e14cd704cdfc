"""Turns a function's result into the JSON of a tool result."""

import math
import types
import typing
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from portway.server.content import CONTENT_TYPES, Audio, Image, ToolResult
from portway.server.errors import OutputError
from portway.server.schema import Schema
from portway.server.signature import EMPTY

_TEXT = b'[{"type":"text","text":'
_END = b"}]"
_MEDIA = (Image, Audio)
_PROMISE_NOTHING = (EMPTY, None, type(None), Any, object, list, tuple, Sequence, typing.NoReturn, typing.Never)


class Encoded(msgspec.Struct, frozen=True, gc=False):
    """A tool result in JSON: `content` an array of blocks, `structured` an object or None, `meta` an object or None."""

    content: bytes
    structured: bytes | None = None
    is_error: bool = False
    meta: bytes | None = None


class Output:
    """Encodes the results of one function.

    `to_json` checks and encodes a value of the declared type; without one (nothing declared, `Any`, content) the value
    itself decides, and an object also goes out as structured content. A value that is no object is wrapped as
    `{"result": value}`, in the schema and in every result alike. `numbers`: the declared type holds some, which may be
    NaN, and that JSON would turn into the null no client was promised.
    """

    __slots__ = ("_name", "_numbers", "_to_json", "_wrap")

    def __init__(
        self, name: str, to_json: Callable[[object], bytes] | None = None, *, wrap: bool = False, numbers: bool = False
    ) -> None:
        self._name = name
        self._numbers = numbers
        self._to_json = to_json
        self._wrap = wrap

    def encode(self, result: object) -> Encoded:
        """Encodes one result; raises OutputError."""
        if isinstance(result, ToolResult):
            return self._explicit(result)
        if self._to_json is None:
            return self._by_value(result)
        body = self._to_json(result)
        if self._numbers and b"null" in body and not _is_finite(msgspec.to_builtins(result, enc_hook=_plain)):
            raise OutputError(f"{self._name} returned NaN or an infinity, which JSON cannot express")
        return Encoded(_mirror(body), b'{"result":' + body + b"}" if self._wrap else body)

    def _by_value(self, result: object) -> Encoded:
        blocks = self._blocks(result)
        if blocks is not None:
            return Encoded(blocks)
        body = encode_json(result, self._name)
        return Encoded(_mirror(body), body if body.startswith(b"{") else None)

    def _blocks(self, result: object) -> bytes | None:
        """Encodes content blocks, alone or in a list with other items; None for plain data."""
        if isinstance(result, CONTENT_TYPES):
            return encode_json([_block(result)], self._name)
        if not isinstance(result, list | tuple) or not any(isinstance(item, CONTENT_TYPES) for item in result):
            return None
        parts = []
        for item in result:
            if isinstance(item, CONTENT_TYPES):
                parts.append(encode_json(_block(item), self._name))
            elif item is not None:
                parts.append(_mirror(encode_json(item, self._name))[1:-1])
        return b"[" + b",".join(parts) + b"]"

    def _explicit(self, result: ToolResult) -> Encoded:
        structured = None
        if result.structured is not None:
            structured = encode_json(result.structured, self._name)
            if not structured.startswith(b"{"):
                raise OutputError(f"{self._name}: ToolResult.structured must be an object")
        if self._to_json is not None and not result.is_error:
            structured = self._declared(result.structured)
        if result.content is None:
            content = _mirror(structured or b"null")
        else:
            content = self._blocks(result.content) or _mirror(encode_json(result.content, self._name))
        meta = encode_json(result.meta, self._name) if result.meta is not None else None
        return Encoded(content, structured, result.is_error, meta)

    def _declared(self, structured: object) -> bytes:
        """Holds an explicit result to the declared type, which the client was promised."""
        if structured is None or self._to_json is None:
            raise OutputError(f"{self._name} declares a return type, so its ToolResult needs structured=")
        if not self._wrap:
            return self._to_json(structured)
        if not isinstance(structured, dict) or set(structured) != {"result"}:
            raise OutputError(f'{self._name}: for its return type, ToolResult.structured must be {{"result": …}}')
        return b'{"result":' + self._to_json(structured["result"]) + b"}"


def wrapped(schema: Schema) -> Schema:
    """Returns the schema of a result that is no object, inside the object it travels in."""
    return {"type": "object", "properties": {"result": schema}, "required": ["result"]}


def is_data(annotation: object) -> bool:
    """Tells whether a return annotation promises data a client can rely on; content, `Any` and a bare list do not."""
    while hasattr(annotation, "__value__"):  # a `type X = ...` alias
        annotation = annotation.__value__
    if any(annotation is promise_nothing for promise_nothing in _PROMISE_NOTHING):
        return False
    origin = typing.get_origin(annotation)
    parts = typing.get_args(annotation)
    if origin is typing.Annotated:
        return is_data(parts[0])
    if origin in {typing.Union, types.UnionType}:
        return all(part is type(None) or is_data(part) for part in parts)
    if origin in {list, tuple, Sequence}:
        return all(part is Ellipsis or is_data(part) for part in parts)
    return not (isinstance(annotation, type) and issubclass(annotation, (*CONTENT_TYPES, ToolResult)))


def encode_json(value: object, name: str) -> bytes:
    """Encodes plain data; raises OutputError naming the function."""
    try:
        return _encode(value)
    except (TypeError, ValueError, RecursionError, OverflowError) as error:
        raise OutputError(f"{name} returned what JSON cannot express: {error}") from error


def _is_finite(data: object) -> bool:
    if isinstance(data, dict):
        return all(map(_is_finite, data.values()))
    if isinstance(data, list | tuple):
        return all(map(_is_finite, data))
    return not isinstance(data, float) or math.isfinite(data)


def _mirror(body: bytes) -> bytes:
    """Builds the content that shows JSON as text: a string as itself, null as nothing."""
    if body.startswith(b'"'):
        return _TEXT + body + _END
    if body == b"null":
        return b"[]"
    return _TEXT + _encode(body.decode()) + _END


def _block(item: object) -> object:
    return item.block if isinstance(item, _MEDIA) else item


def _plain(value: object) -> object:
    """Gives msgspec what it does not know: pydantic's models, and subclasses of the plain types."""
    if hasattr(type(value), "__pydantic_serializer__"):
        from portway.server.pydantic_engine import to_builtins

        return to_builtins(value)
    for plain in (str, int, float):
        if isinstance(value, plain):
            return plain(value)
    raise TypeError(f"a value of type {type(value).__name__}")


_encode = msgspec.json.Encoder(enc_hook=_plain).encode
