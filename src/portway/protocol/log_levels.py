"""The levels of log messages to a client, lowest first (RFC 5424; specification: server/utilities/logging)."""

LEVELS = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")
INFO = LEVELS.index("info")


def level_index(name: str) -> int | None:
    """Return the index of a level in `LEVELS`, None if there is no such level."""
    return LEVELS.index(name) if name in LEVELS else None
