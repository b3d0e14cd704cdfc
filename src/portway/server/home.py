"""Where a component was registered: the server whose middleware and lifespan its function lives with."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from portway.server.middleware import Middleware
    from portway.server.server import Server


class Home:
    """A server, and the home of the one it is mounted in."""

    __slots__ = ("outer", "server")

    def __init__(self, server: Server, outer: Home | None = None) -> None:
        self.server = server
        self.outer = outer

    def middleware(self) -> list[Middleware]:
        """What wraps a call, outermost first."""
        outer = [] if self.outer is None else self.outer.middleware()
        return outer + self.server.wrappers

    def inside(self, outer: Home) -> Home:
        """This home, its server mounted in that of `outer`."""
        return Home(self.server, outer if self.outer is None else self.outer.inside(outer))
