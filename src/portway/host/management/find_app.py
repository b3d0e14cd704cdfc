"""Finds the app that a tool names, or says that there is none."""

from portway.exceptions import ToolError
from portway.host.store import AppRecord, Store


def find_app(store: Store, name: str) -> AppRecord:
    """Return the app of that name. Raises `ToolError`."""
    app = store.app(name)
    if app is None:
        raise ToolError(f"there is no app {name[:40]!r} on this host: see `portway ps`")
    return app
