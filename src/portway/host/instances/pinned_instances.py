"""`drain: pin`: instances of the release before, kept for the legacy sessions that are open there, and until when.

An app has at most one such release. Control writes the time until which it is kept into the routing table, where the
next control finds it. It is let go earlier when all the sessions that were opened there have ended.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence

from portway.host.instances.instance_group import up_instances
from portway.host.instances.keeper import Keeper
from portway.host.instances.runtime import Instance

_LOOK_SECONDS = 2.0  # between looks for sessions


class _Pin:
    def __init__(self, keepers: Sequence[Keeper], until: float) -> None:
        self.keepers = keepers
        self.until = until
        self.is_over = asyncio.Event()


class Pinned:
    """The pinned instances of each app. `publish` has the gate read the table, `is_used` asks it about one of them."""

    def __init__(self, publish: Callable[[], Awaitable[None]], is_used: Callable[[str], Awaitable[bool]]) -> None:
        self._pins: dict[str, _Pin] = {}
        self._publish = publish
        self._is_used = is_used

    def up(self, app: str) -> list[Instance]:
        """Return the instances that get the calls of their sessions."""
        return up_instances(self._pins[app].keepers) if app in self._pins else []

    def until(self, app: str) -> float:
        """Return when the sessions of the app's pinned instances move, in seconds since the epoch."""
        return self._pins[app].until if app in self._pins else 0.0

    def release_of(self, app: str) -> int | None:
        """Return the number of the app's pinned release."""
        return self._pins[app].keepers[0].release.number if self.up(app) else None

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
        """Wait until instances that may be pinned get no more calls: that is at once if no session is open there."""
        pin = self._pins.get(app)
        if pin is None or pin.keepers is not keepers:
            return
        while (left := pin.until - time.time()) > 0 and await self._has_users(pin):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(pin.is_over.wait(), min(_LOOK_SECONDS, left))
                return
        if self._pins.get(app) is pin:
            del self._pins[app]
            await self._publish()

    async def _has_users(self, pin: _Pin) -> bool:
        for keeper in pin.keepers:
            if keeper.instance is not None and await self._is_used(keeper.instance.id):
                return True
        return False
