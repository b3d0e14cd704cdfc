"""From what a tool's function returned to the JSON of a tool result: content, structured content, `_meta`; NaN is
refused.
"""

import math
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from portway.exceptions import OutputError
from portway.plans import sdk_content
from portway.plans.content import CONTENT_TYPES, Audio, Image, SdkBlock, ToolResult
from portway.plans.schema import Schema
from portway.plans.signature import EMPTY
from portway.protocol.jsonrpc import PREFIX

_TEXT = b'[{"type":"text","text":'
_END = b"}]"
_HOLDERS = (Image, Audio, SdkBlock)
_SERVER_INFO = PREFIX + "serverInfo"
_NO_SCHEMA = (EMPTY, None, type(None), Any, object, list, tuple, Sequence, typing.NoReturn, typing.Never)


class Encoded(msgspec.Struct, frozen=True, gc=False):
    """A tool result in JSON: `content` an array of blocks, `meta` an object or None.

    `structured` is what the output schema describes: an object, unless the author's own schema says otherwise.
    """

    content: bytes
    structured: bytes | None = None
    is_error: bool = False
    meta: bytes | None = None


class Output:
    """Encodes the results of one function.

    `to_json` checks and encodes a value of the declared type; without one (nothing declared, `Any`, content) the value
    itself decides, and an object also goes out as structured content. A value that is no object is wrapped as
    `{"result": value}`, in the schema and in every result alike.
    """

    __slots__ = ("_name", "_to_json", "_wrap")

    def __init__(self, name: str, to_json: Callable[[object], bytes] | None = None, *, wrap: bool = False) -> None:
        self._name = name
        self._to_json = to_json
        self._wrap = wrap

    def encode(self, result: object) -> Encoded:
        """Encode one result; raises OutputError."""
        if isinstance(result, ToolResult):
            return self._explicit(result)
        if (passed_on := sdk_content.result_of(result)) is not None:
            return self._explicit(passed_on, any_json=True)
        if self._to_json is None:
            return self._by_value(result)
        body = self._to_json(result)
        if self._wrap:
            return Encoded(_mirror(body), b'{"result":' + body + b"}")
        return Encoded(_mirror(body) if body != b"null" else _TEXT + b'"null"' + _END, body)

    def _by_value(self, result: object) -> Encoded:
        blocks = self._blocks(result)
        if blocks is not None:
            return Encoded(blocks)
        body = encode_json(result, self._name)
        return Encoded(_mirror(body), body if body.startswith(b"{") else None)

    def _blocks(self, result: object) -> bytes | None:
        """Encode content blocks, alone or in a list with other items; return None for plain data."""
        items = result if isinstance(result, list | tuple) else [result]
        return self._each(items) if any(map(_is_content, set(map(type, items)))) else None

    def _each(self, items: Sequence[object]) -> bytes:
        """Encode each item as one block: content as it is, other data as text. None is left out."""
        items = [sdk_content.block_of(item) or item for item in items]
        blocks = [
            encode_json(_block(item), self._name)
            if isinstance(item, CONTENT_TYPES)
            else _mirror(encode_json(item, self._name))[1:-1]
            for item in items
        ]
        return b"[" + b",".join(filter(None, blocks)) + b"]"

    def _explicit(self, result: ToolResult, *, any_json: bool = False) -> Encoded:
        """Encode a result part by part; with `any_json`, undeclared structured content need not be an object."""
        structured = None
        if self._to_json is not None and not result.is_error:
            structured = self._declared(result.structured)
        elif result.structured is not None:
            structured = encode_json(result.structured, self._name)
            if not any_json and not structured.startswith(b"{"):
                raise OutputError(f"{self._name}: ToolResult.structured must be an object")
        if result.content is None:
            content = _mirror(structured or b"null")
        else:
            given = result.content
            content = self._each(given if isinstance(given, list | tuple) else [given])
        return Encoded(content, structured, result.is_error, self._meta(result.meta))

    def _meta(self, meta: object) -> bytes | None:
        """Encode a result's `_meta` without `serverInfo`, which a proxy may pass on and this server writes itself."""
        if meta is None:
            return None
        if not isinstance(meta, Mapping):
            raise OutputError(f"{self._name}: ToolResult.meta must be an object")
        return encode_json({key: value for key, value in meta.items() if key != _SERVER_INFO}, self._name)

    def _declared(self, structured: object) -> bytes:
        """Check and encode the structured content of a `ToolResult` against the declared type."""
        if structured is None or self._to_json is None:
            raise OutputError(f"{self._name} declares a return type, so its ToolResult needs structured=")
        if not self._wrap:
            return self._to_json(structured)
        if not isinstance(structured, dict) or set(structured) != {"result"}:
            raise OutputError(f'{self._name}: for its return type, ToolResult.structured must be {{"result": …}}')
        return b'{"result":' + self._to_json(structured["result"]) + b"}"


def wrapped(schema: Schema) -> Schema:
    """Return the schema of `{"result": …}`, which wraps a result that is no object."""
    return {"type": "object", "properties": {"result": schema}, "required": ["result"], "x-fastmcp-wrap-result": True}


def is_data(annotation: object) -> bool:
    """Return whether a return annotation gives an output schema; content, `Any` and a bare list do not."""
    while hasattr(annotation, "__value__"):  # a `type X = ...` alias
        annotation = annotation.__value__
    if any(annotation is no_schema for no_schema in _NO_SCHEMA):
        return False
    origin = typing.get_origin(annotation)
    parts = typing.get_args(annotation)
    if origin is typing.Annotated:
        return is_data(parts[0])
    if origin in {typing.Union, types.UnionType}:
        return all(part is type(None) or is_data(part) for part in parts)
    if origin in {list, tuple, Sequence}:
        return all(part is Ellipsis or is_data(part) for part in parts)
    return not isinstance(annotation, type) or not (
        _is_content(annotation) or issubclass(annotation, ToolResult) or sdk_content.kind_of(annotation) == "result"
    )


def encode_json(value: object, name: str, verb: str = "returned") -> bytes:
    """Encode plain data; raises OutputError, whose text begins with `name` and `verb`."""
    try:
        body = _encode(value)
        if b"null" in body:
            check_finite(msgspec.to_builtins(value, enc_hook=_plain), name, verb)
        return body
    except (TypeError, ValueError, RecursionError, OverflowError) as error:
        raise OutputError(f"{name} {verb} what JSON cannot express: {error}") from error


def check_finite(data: object, name: str, verb: str = "returned") -> None:
    """Raise OutputError for NaN and infinities in plain data, which encoders would write as null."""
    inner = (
        data.values() if isinstance(data, dict) else data if isinstance(data, list | tuple | set | frozenset) else ()
    )
    for item in inner:
        check_finite(item, name, verb)
    if isinstance(data, float) and not math.isfinite(data):
        raise OutputError(f"{name} {verb} NaN or an infinity, which JSON cannot express")


def _mirror(body: bytes) -> bytes:
    """Return the content that shows JSON as text: a string without quotes, nothing for null."""
    if body.startswith(b'"'):
        return _TEXT + body + _END
    if body == b"null":
        return b"[]"
    return _TEXT + _encode(body.decode()) + _END


def _is_content(cls: type) -> bool:
    return issubclass(cls, CONTENT_TYPES) or sdk_content.kind_of(cls) in ("block", "image", "audio")


def _block(item: object) -> object:
    return item.block if isinstance(item, _HOLDERS) else item


def _plain(value: object) -> object:
    """Convert what msgspec does not know: pydantic's models, and subclasses of str, int and float."""
    kind: Any = type(value)
    if hasattr(kind, "__pydantic_serializer__"):
        return kind.__pydantic_serializer__.to_python(value, mode="json", by_alias=True)
    for plain in (str, int, float):
        if isinstance(value, plain):
            return plain(value)
    raise TypeError(f"a value of type {type(value).__name__}")


_encode = msgspec.json.Encoder(enc_hook=_plain).encode
