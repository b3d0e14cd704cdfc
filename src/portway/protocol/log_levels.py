"""The severities of log messages to a client, least first (RFC 5424; specification: server/utilities/logging)."""

LEVELS = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")
INFO = LEVELS.index("info")


def level_index(name: str) -> int | None:
    """The place of a level in `LEVELS`; None for no level."""
    return LEVELS.index(name) if name in LEVELS else None
