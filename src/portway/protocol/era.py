"""Tell the era of a request by its `_meta` and its MCP-Protocol-Version header (specification: basic/versioning,
2026-07-28).
"""

from msgspec import UNSET

from portway.protocol.jsonrpc import Message
from portway.protocol.versions import LEGACY_VERSIONS, Era

_LEGACY, _MODERN = Era.LEGACY, Era.MODERN  # Python 3.11 takes long to find a member of an enumeration


def classify(message: Message, version_header: str | None) -> Era:
    """Return the era of a message. `version_header` is MCP-Protocol-Version, None if absent or over stdio.

    The envelope in `params._meta` decides, and without one the header. If both name a legacy version the message is
    legacy: a connector in use sends both in 2025-11-25. If the envelope names a modern version the message is modern,
    and a header that differs is refused later. `initialize` without an envelope is legacy whatever the header.
    """
    meta = message.meta
    if meta is not None and meta.version is not UNSET:
        if version_header in LEGACY_VERSIONS and meta.version in LEGACY_VERSIONS:
            return _LEGACY
        return _MODERN
    if version_header is None or version_header in LEGACY_VERSIONS or message.method == "initialize":
        return _LEGACY
    return _MODERN
