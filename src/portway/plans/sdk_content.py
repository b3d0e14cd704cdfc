"""Content, results and messages in classes of the official SDK (1.x and 2.x), of FastMCP and of `portway.client`,
recognised when a function returns them.

A class is recognised by its module and name, once, without an import, so that a server may return what it got from the
client library it calls another server with.
"""

import functools
from collections.abc import Callable
from typing import Any, Literal, Protocol, cast

from msgspec import UNSET

from portway.plans.content import SdkBlock, ToolResult

Kind = Literal["block", "image", "audio", "result", "message", "prompt", "contents", "resource"]

_SDK: dict[str, Kind] = {
    "TextContent": "block",
    "ImageContent": "block",
    "AudioContent": "block",
    "ResourceLink": "block",
    "EmbeddedResource": "block",
    "Image": "image",
    "Audio": "audio",
    "CallToolResult": "result",
    "ToolResult": "result",
    "PromptMessage": "message",
    "Message": "message",
    "GetPromptResult": "prompt",
    "TextResourceContents": "contents",
    "BlobResourceContents": "contents",
    "ReadResourceResult": "resource",
}
_CLIENT: dict[str, Kind] = {
    "Content": "block",
    "CallResult": "result",
    "PromptMessage": "message",
    "PromptResult": "prompt",
    "ResourceContents": "contents",
    "ResourceResult": "resource",
}
_STRUCTURED = ("structured_content", "structuredContent", "structured")  # 2.x and FastMCP, 1.x, portway.client


def _kind_of(cls: type) -> Kind | None:
    for base in cls.__mro__:
        if base.__module__.partition(".")[0] in {"mcp", "mcp_types", "fastmcp"}:
            kind = _SDK.get(base.__name__)
        else:
            kind = _CLIENT.get(base.__name__) if base.__module__ == "portway.client.results" else None
        if kind is not None:
            return kind
    return None


kind_of = cast("Callable[[type], Kind | None]", functools.lru_cache(maxsize=1024)(_kind_of))
"""Returns what a class, or one that it extends, is in these libraries; None if it is none of theirs."""


class SdkModel(Protocol):
    """A model of `mcp.types`, by what type checkers need to know of it."""

    def model_dump_json(self) -> str:
        """Return its JSON."""


def to_wire(value: Any) -> object:  # noqa: ANN401 - an object of one of these classes
    """Return what encodes to the JSON that the object stands for."""
    serializer = getattr(type(value), "__pydantic_serializer__", None)
    if serializer is None:
        return value  # a struct of portway.client
    return serializer.to_python(value, mode="json", by_alias=True, exclude_none=True)


def block_of(value: Any) -> SdkBlock | None:  # noqa: ANN401 - any value
    """Return a content block of another library as ours; None for anything else."""
    kind = kind_of(type(value))
    if kind == "image":
        return SdkBlock(to_wire(value.to_image_content()))
    if kind == "audio":
        return SdkBlock(to_wire(value.to_audio_content()))
    return SdkBlock(to_wire(value)) if kind == "block" else None


def result_of(value: Any) -> ToolResult | None:  # noqa: ANN401 - any value
    """Return a whole tool result of another library as ours; None for anything else."""
    if kind_of(type(value)) != "result":
        return None
    structured = next((getattr(value, name) for name in _STRUCTURED if hasattr(value, name)), None)
    is_error = getattr(value, "is_error", getattr(value, "isError", False))
    return ToolResult(list(value.content), None if structured is UNSET else structured, value.meta, bool(is_error))
