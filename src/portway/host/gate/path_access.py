"""Who may ask for which path of an app's own host name: open, with a token, or the app's own (`routes`, `access`)."""

import re
from urllib.parse import unquote

from portway.host.app_config import Access
from portway.host.routing_table import App

ENDPOINT = ("/mcp", "/mcp/")
"""The paths of an app's MCP endpoint at the gate."""

_ODD = re.compile(r"//|\\|/\.{1,2}(?:/|$)|%(?:2e|2f|5c|25|00)", re.IGNORECASE)
"""What servers read in different ways: as a path of its own, or as another one."""


class PathAccess:
    """The access of an app and of its routes.

    Routes are compared as the most lenient server compares paths: without upper case, escapes and a slash at the end.
    A path that a server may take for another one has no route. It is for callers with a token, if any path is.
    """

    def __init__(self, app: App) -> None:
        self._default = app.access
        accesses = (app.access, *(route.access for route in app.routes))
        self._of_odd: Access = "gate" if "gate" in accesses else app.access
        self._exact = {_plain(route.path): route.access for route in app.routes if not route.path.endswith("/*")}
        self._below = {_plain(route.path[:-1]): route.access for route in app.routes if route.path.endswith("/*")}
        self._deepest = max((path.count("/") for path in self._below), default=0)
        self._exact |= {
            _plain(path): app.access for path in (ENDPOINT[0], app.path)
        }  # even if a route is for all paths

    def of(self, raw_path: bytes) -> Access:
        """Return the access of a path as it was sent, without the query. Of two routes, the longer one counts."""
        raw = raw_path.decode("latin-1")
        if _ODD.search(raw):
            return self._of_odd
        path = _plain(unquote(raw) if "%" in raw else raw)
        if (found := self._exact.get(path)) is not None:
            return found
        parts = path.split("/")[: self._deepest + 1]
        while parts:
            if (found := self._below.get("/".join(parts) or "/")) is not None:
                return found
            parts.pop()
        return self._default


def may_be_at(endpoint: str, raw_path: bytes) -> bool:
    """Whether some server may take a path, as it was sent, for one at or below the app's MCP endpoint."""
    raw = raw_path.decode("latin-1")
    path = _plain(unquote(raw))
    ends = [_plain(each) for each in (ENDPOINT[0], endpoint)]
    return _ODD.search(raw) is not None or path in ends or path.startswith(tuple(f"{end}/" for end in ends))


def _plain(path: str) -> str:
    return path.lower().rstrip("/") or "/"
