"""The instances of releases before the live ones, kept for the legacy sessions that are open there (`drain: pin`).

An app has at most one such release. Control writes the time until which it is kept into the routing table, where the
next control finds it.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

from portway.host.instances.instance_group import up_instances
from portway.host.instances.keeper import Keeper
from portway.host.instances.runtime import Instance


class _Pin:
    def __init__(self, keepers: Sequence[Keeper], until: float) -> None:
        self.keepers = keepers
        self.until = until
        self.is_over = asyncio.Event()


class Pinned:
    """The pinned instances of each app. `publish` has the gate read the table."""

    def __init__(self, publish: Callable[[], Awaitable[None]]) -> None:
        self._pins: dict[str, _Pin] = {}
        self._publish = publish

    def up(self, app: str) -> list[Instance]:
        """Return the instances that get the calls of their sessions."""
        return up_instances(self._pins[app].keepers) if app in self._pins else []

    def until(self, app: str) -> float:
        """Return when the sessions of the app's pinned instances move, in seconds since the epoch."""
        return self._pins[app].until if app in self._pins else 0.0

    def pin(self, app: str, keepers: Sequence[Keeper], until: float) -> None:
        """Keep instances for their sessions until a time; none of the app may be pinned."""
        for keeper in keepers:
            keeper.start_no_other()
        self._pins[app] = _Pin(keepers, until)

    def release(self, app: str) -> asyncio.Event:
        """Leave the app's pinned instances out of the next table. Set the event when the gate uses it."""
        pin = self._pins.pop(app, None)
        return asyncio.Event() if pin is None else pin.is_over

    async def until_released(self, app: str, keepers: Sequence[Keeper]) -> None:
        """Wait until instances that may be pinned get no more calls."""
        pin = self._pins.get(app)
        if pin is None or pin.keepers is not keepers:
            return
        try:
            await asyncio.wait_for(pin.is_over.wait(), max(0.0, pin.until - time.time()))
        except TimeoutError:
            if self._pins.get(app) is pin:
                del self._pins[app]
            await self._publish()
