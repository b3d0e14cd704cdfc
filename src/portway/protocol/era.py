"""The era of a request: one pure function (specification: basic/versioning, 2026-07-28)."""

from msgspec import UNSET

from portway.protocol.jsonrpc import Message
from portway.protocol.versions import LEGACY_VERSIONS, Era


def classify(message: Message, version_header: str | None) -> Era:
    """Say which era's rules a message is under; `version_header` is MCP-Protocol-Version, None on stdio or when absent.

    The envelope in `params._meta` decides; without one the header does. A legacy header outweighs an envelope that
    names a legacy version (a connector in the field sends both while it speaks 2025-11-25), never one that names a
    modern version: that mismatch is the modern ladder's to refuse. A bare `initialize` is legacy whatever the header.
    """
    meta = message.meta
    if meta is not None and meta.version is not UNSET:
        if version_header in LEGACY_VERSIONS and meta.version in LEGACY_VERSIONS:
            return Era.LEGACY
        return Era.MODERN
    if version_header is None or version_header in LEGACY_VERSIONS or message.method == "initialize":
        return Era.LEGACY
    return Era.MODERN
