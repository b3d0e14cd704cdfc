"""Finds an app that a tool of the management API names."""

from portway.exceptions import ToolError
from portway.host.store import AppRecord, Store


def find_app(store: Store, name: str) -> AppRecord:
    """Return the app of that name. Raises `ToolError`, with the names that there are."""
    app = store.app(name)
    if app is None:
        known = ", ".join(app.name for app in store.apps())
        raise ToolError(f"there is no app {name!r} on this host" + (f" (there are: {known})" if known else ""))
    return app
