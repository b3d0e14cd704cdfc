"""Which names variables and groups can have, and which are the host's own (PORT, PATH …)."""

VARIABLE = r"[A-Za-z_][A-Za-z0-9_]{0,127}"
GROUP = r"[A-Za-z0-9](?:[A-Za-z0-9 ._-]{0,62}[A-Za-z0-9])?"
_HOSTS_OWN = {
    *("PATH", "HOME", "TMPDIR", "PORT", "PORTWAY_APP", "PORTWAY_INSTANCE", "PORTWAY_KEYS", "PORTWAY_LIFELINE"),
    *("PORTWAY_ACCESS", "PORTWAY_RELEASE", "PORTWAY_SESSIONS", "PORTWAY_SOCKET", "PORTWAY_STORAGE"),
}


def is_hosts_own(name: str) -> bool:
    """Return whether the host itself sets a variable of that name, so that nobody else can."""
    return name in _HOSTS_OWN or name.startswith(("RENDER_", "PORTWAY_ASSERTION_"))
