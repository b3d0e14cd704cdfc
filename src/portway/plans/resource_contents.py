"""From what a resource returned to the JSON of its contents: text, a blob, or entries of its own."""

import msgspec

from portway.plans.content import ResourceContents
from portway.plans.output import encode_json
from portway.plans.sdk_content import kind_of, to_wire


def encode_contents(value: object, uri: str, name: str, mime_type: str | None) -> bytes:
    """Encode the entries of resources/read, without brackets. Raises `OutputError` for what JSON cannot express.

    `uri` and `mime_type` are the resource's, for what names none; `name` is that of its function, for errors.
    """
    if kind_of(type(value)) == "resource":
        value = value.contents  # type: ignore[attr-defined]
    if isinstance(value, list | tuple) and value and all(map(_is_contents, set(map(type, value)))):
        return b",".join(encode_contents(item, uri, name, mime_type) for item in value)
    if isinstance(value, str):
        value = ResourceContents(uri, mime_type or "text/plain", text=str(value))
    elif isinstance(value, bytes | bytearray | memoryview):
        value = ResourceContents(uri, mime_type or "application/octet-stream", blob=bytes(value))
    elif kind_of(type(value)) == "contents":
        value = to_wire(value)
    elif not isinstance(value, ResourceContents):
        value = ResourceContents(uri, mime_type or "application/json", text=encode_json(value, name).decode())
    elif not value.uri:
        value = msgspec.structs.replace(value, uri=uri)
    return encode_json(value, name)


def _is_contents(cls: type) -> bool:
    return issubclass(cls, ResourceContents) or kind_of(cls) == "contents"
