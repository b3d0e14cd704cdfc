"""The protocol revisions that are supported, the two eras they belong to, and which legacy one is agreed on."""

from enum import Enum

LEGACY_VERSIONS = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
LATEST_LEGACY = LEGACY_VERSIONS[-1]
MODERN_VERSIONS = ("2026-07-28",)
LATEST_MODERN = MODERN_VERSIONS[-1]


class Era(Enum):
    """Handshake and sessions (legacy), or stateless with a `_meta` envelope in every request (modern)."""

    LEGACY = "legacy"
    MODERN = "modern"


def negotiate(asked: str) -> str:
    """Return the legacy revision for a client that asks for `asked`: that one or the latest (basic/lifecycle)."""
    return asked if asked in LEGACY_VERSIONS else LATEST_LEGACY
