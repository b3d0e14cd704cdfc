"""Enters and leaves the lifespans of a server and of the servers mounted in it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from portway.server.home import Home

log = logging.getLogger("portway.server")


class Lifespans:
    """The lifespans, all run in one task of their own: task groups and cancel scopes are bound to a task.

    - outside: no task. `enter`, from `Dispatcher.open` or a call, starts the task and goes to entering.
    - entering: `ready` is False and calls wait for `_entered`. It ends inside, or outside where a lifespan raises.
    - inside: `ready` is True. `leave` goes outside; so does a lifespan that fails. The next call enters again.
    """

    def __init__(self, homes: Iterable[Home]) -> None:
        self._states: dict[Home, object] = dict.fromkeys(home for home in homes if home.lifespan is not None)
        self._task: asyncio.Task[None] | None = None
        self._entered: asyncio.Future[None] | None = None
        self._leaving = asyncio.Event()
        self.ready = not self._states
        """Whether all have been entered, so that calls need not wait."""

    def state(self, home: Home) -> object:
        """Return what the lifespan of `home` yielded; raise RuntimeError if it was mounted after the start."""
        if home.lifespan is not None and home not in self._states:
            raise RuntimeError(
                f"{home.name} was mounted after the start, so its lifespan was not entered; mount it before."
            )
        return self._states.get(home)

    async def enter(self) -> None:
        """Enter all lifespans unless they are; raise what one of them raises."""
        if self.ready:
            return
        if self._task is None:
            self._leaving = asyncio.Event()
            self._entered = asyncio.get_running_loop().create_future()
            self._task = asyncio.create_task(self._run(self._entered))
        assert self._entered is not None
        await asyncio.shield(self._entered)

    async def leave(self) -> None:
        """Leave all, the last entered first; raise what one of them raises. One that is still starting is cancelled."""
        if self._task is None:
            return
        self._leaving.set()
        if not self.ready:
            self._task.cancel()
        await asyncio.wait([self._task])
        task, self._task, self.ready = self._task, None, False
        if not task.cancelled():
            task.result()

    async def _run(self, entered: asyncio.Future[None]) -> None:
        try:
            async with contextlib.AsyncExitStack() as stack:
                for home in self._states:
                    assert home.lifespan is not None
                    self._states[home] = await stack.enter_async_context(home.lifespan())
                self.ready = True
                entered.set_result(None)
                await self._leaving.wait()
        except BaseException as error:
            if self._leaving.is_set():
                entered.cancel()
                raise
            self._task, self.ready = None, False
            if entered.done():
                log.exception("a lifespan ended while the server runs; the next call enters it again")
            else:
                entered.set_exception(error if isinstance(error, Exception) else RuntimeError(repr(error)))
                entered.exception()  # marks it as read: the calls that waited may be gone
            if not isinstance(error, Exception | asyncio.CancelledError):
                raise
