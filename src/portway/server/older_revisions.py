"""Rewrites results for clients of older protocol revisions, which do not know some content or schemas.

Clients ignore unknown members. Content blocks of unknown types, and structured content that is no object, break them,
so these are replaced.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from portway.plans.content import JsonObject
from portway.plans.output import Encoded
from portway.protocol.versions import LATEST_LEGACY


def content(encoded: Encoded, version: str) -> Encoded:
    """Return a tool result for a client of the revision `version`."""
    structured = encoded.structured
    if structured is not None and version <= LATEST_LEGACY and not structured.startswith(b"{"):
        structured = None
    blocks = encoded.content
    if _holds_unknown(blocks, version):
        blocks = msgspec.json.encode([_block(block, version) for block in msgspec.json.decode(blocks)])
    if blocks is encoded.content and structured is encoded.structured:
        return encoded
    return msgspec.structs.replace(encoded, content=blocks, structured=structured)


def messages(encoded: bytes, version: str) -> bytes:
    """Return the messages of a prompt for a client of the revision `version`."""
    if not _holds_unknown(encoded, version):
        return encoded
    return msgspec.json.encode(
        [message | {"content": _block(message["content"], version)} for message in msgspec.json.decode(encoded)]
    )


def listing(entry: bytes) -> bytes:
    """Return a tool's list entry for a legacy client: without an output schema whose type is not "object"."""
    if b'"outputSchema":' not in entry:
        return entry
    members = msgspec.json.decode(entry, type=dict[str, msgspec.Raw])
    schema = msgspec.json.decode(members["outputSchema"]) if "outputSchema" in members else None
    if schema is None or schema.get("type") == "object":
        return entry
    del members["outputSchema"]
    return msgspec.json.encode(members)


def _link_text(block: JsonObject) -> str:
    described = f" ({block['description']})" if "description" in block else ""
    return f"{block.get('title') or block['name']}: {block['uri']}{described}"


def _audio_text(block: JsonObject) -> str:
    return f"[A sound of type {block['mimeType']}, which this client's protocol revision cannot carry.]"


# Content types, with the first revision that has each and the text that replaces it for older ones.
_SINCE: dict[str, tuple[str, Callable[[JsonObject], str]]] = {
    "audio": ("2025-03-26", _audio_text),
    "resource_link": ("2025-06-18", _link_text),
}


def _holds_unknown(encoded: bytes, version: str) -> bool:
    return any(version < since and b'"%b"' % kind.encode() in encoded for kind, (since, _) in _SINCE.items())


def _block(block: JsonObject, version: str) -> JsonObject:
    since, to_text = _SINCE.get(block["type"], ("", _link_text))
    if version >= since:
        return block
    kept = {key: value for key, value in block.items() if key in {"annotations", "_meta"}}
    return {"type": "text", "text": to_text(block), **kept}
