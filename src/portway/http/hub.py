"""What the connections of one listener share."""

from __future__ import annotations

import asyncio
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from portway.http.asgi import App
    from portway.http.connection import Connection
    from portway.http.cycle import Cycle
    from portway.http.limits import Limits


@dataclass(slots=True, eq=False)
class Hub:
    """The app, the bounds, the connections, and the one timer. `now` is the loop's time as of its last tick."""

    app: App
    limits: Limits
    loop: asyncio.AbstractEventLoop
    state: dict[str, Any] = field(default_factory=dict)  # the app's, from its lifespan
    context: Context = field(default_factory=copy_context)  # that every request begins with a copy of
    now: float = 0.0
    stopping: bool = False
    connections: set[Connection] = field(default_factory=set)
    leaving: set[Connection] = field(default_factory=set)  # refused or finished, with an answer still to be read
    running: dict[Cycle, asyncio.Task[None]] = field(default_factory=dict)
    emptied: asyncio.Event = field(default_factory=asyncio.Event)  # after a stop: the last connection has gone
    _timer: asyncio.TimerHandle | None = None

    def start_ticking(self) -> None:
        if self._timer is None:
            self.now = self.loop.time()
            self._timer = self.loop.call_later(self.limits.tick, self._tick)

    def _tick(self) -> None:
        """One timer for every deadline of every connection; none while there are no connections."""
        self.now = self.loop.time()
        connections = [*self.connections, *self.leaving]
        self._timer = self.loop.call_later(self.limits.tick, self._tick) if connections else None
        for connection in connections:
            connection.check_deadlines()
