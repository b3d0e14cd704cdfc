"""What a tool can return besides plain data: content blocks, `Image`, `Audio`, links to resources, and an explicit
`ToolResult`.

The blocks have the wire's own shape (MCP 2025-06-18 and later, "Tool result").
"""

import os
from typing import Any, ClassVar, Literal

import msgspec

JsonObject = dict[str, Any]  # Any: an open JSON object, the author's own


class Annotations(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """Hints for the client: the audience, the priority (0 to 1), the time of the last change (ISO 8601)."""

    audience: list[Literal["user", "assistant"]] | None = None
    priority: float | None = None
    last_modified: str | None = None


class Block(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel", kw_only=True):
    """The members that every content block can have."""

    annotations: Annotations | None = None
    meta: JsonObject | None = msgspec.field(default=None, name="_meta")


class Text(Block, frozen=True, tag_field="type", tag="text"):
    """A piece of text."""

    text: str


class ImageContent(Block, frozen=True, tag_field="type", tag="image"):
    """An image; `data` travels as base64."""

    data: bytes
    mime_type: str


class AudioContent(Block, frozen=True, tag_field="type", tag="audio"):
    """A sound; `data` travels as base64."""

    data: bytes
    mime_type: str


class ResourceLink(Block, frozen=True, tag_field="type", tag="resource_link"):
    """A pointer to a resource the client may read; `size` in bytes."""

    uri: str
    name: str
    title: str | None = None
    description: str | None = None
    mime_type: str | None = None
    size: int | None = None


class ResourceContents(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """One resource as read: exactly one of `text` and `blob` (base64 on the wire).

    From a resource's own function, a `uri` of "" stands for the one that was asked for.
    """

    uri: str
    mime_type: str | None = None
    text: str | None = None
    blob: bytes | None = None
    meta: JsonObject | None = msgspec.field(default=None, name="_meta")

    def __post_init__(self) -> None:
        if (self.text is None) == (self.blob is None):
            raise ValueError("resource contents hold either text or blob")


class EmbeddedResource(Block, frozen=True, tag_field="type", tag="resource"):
    """A resource inside the result itself."""

    resource: ResourceContents


class _Media:
    """Bytes or a file. The file is read by the constructor, so an error is raised inside the author's function."""

    __slots__ = ("block",)
    _kind: type[ImageContent] | type[AudioContent]
    _default_format: str
    _subtypes: ClassVar[dict[str, str]]  # file suffixes that are not their own MIME subtype

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        data: bytes | None = None,
        format: str | None = None,  # noqa: A002 - the name authors know from the other frameworks
        annotations: Annotations | None = None,
    ) -> None:
        if (path is None) == (data is None):
            raise ValueError(f"{type(self).__name__} takes either a path or data")
        if path is not None:
            with open(os.path.expanduser(path), "rb") as file:
                data = file.read()
            format = format or os.path.splitext(path)[1].lstrip(".")  # noqa: A001
        subtype = (format or self._default_format).lower()
        main = self._kind.__struct_config__.tag
        mime_type = f"{main}/{self._subtypes.get(subtype, subtype)}"
        self.block = self._kind(data=data or b"", mime_type=mime_type, annotations=annotations)


class Image(_Media):
    """An image: `Image(path="plot.png")`, `Image(data=png)`, `Image(data=photo, format="jpeg")`."""

    __slots__ = ()
    _kind = ImageContent
    _default_format = "png"
    _subtypes: ClassVar = {"jpg": "jpeg", "svg": "svg+xml", "tif": "tiff"}


class Audio(_Media):
    """A sound: `Audio(path="hello.mp3")`, `Audio(data=wav)`."""

    __slots__ = ()
    _kind = AudioContent
    _default_format = "wav"
    _subtypes: ClassVar = {"mp3": "mpeg", "m4a": "mp4"}


class ToolResult(msgspec.Struct, frozen=True):
    """A result under the author's full control.

    `content`: text, a block, or a list of both; absent, it mirrors `structured`. `structured`: what goes out as
    structuredContent, an object. `meta`: the result's `_meta`. `is_error`: the tool failed, for the model to see.
    """

    content: object = None
    structured: object = None
    meta: JsonObject | None = None
    is_error: bool = False


class SdkBlock(msgspec.Struct, frozen=True):
    """A content block of another library; `block` encodes to its JSON."""

    block: object


CONTENT_TYPES = (Text, ImageContent, AudioContent, ResourceLink, EmbeddedResource, Image, Audio, SdkBlock)
