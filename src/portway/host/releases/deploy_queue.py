"""The queue of deploys: one deploy, rollback or change of an app at a time; others wait, or are superseded by a newer
one.

A turn is in one of these states:

    (none)  → waiting      it was asked for, and another has one of its apps, or waits for it since earlier
    waiting → held         its apps are free, and none of them is waited for since earlier
    waiting → superseded   a newer deploy of all its apps has been asked for; only deploys are superseded
    waiting, held → over   the work is done, has failed or was cancelled: the next in line has its turn
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection, Iterator
from dataclasses import dataclass

from portway.host.releases.deploy_error import DeployError, Superseded
from portway.host.releases.steps import Report

_MOST_WAITING = 16


@dataclass(frozen=True, slots=True, eq=False)
class _Turn:
    """A turn of several apps at once. `begun` is done when it is held or superseded."""

    apps: frozenset[str]
    begun: asyncio.Future[None]
    is_deploy: bool


class Turns:
    """Gives turns in the order they are asked for."""

    def __init__(self) -> None:
        self._held: set[str] = set()
        self._waiting: list[_Turn] = []

    @contextlib.asynccontextmanager
    async def turn(self, apps: Collection[str], report: Report, *, is_deploy: bool = False) -> AsyncIterator[None]:
        """Hold the apps while the block lasts, from when it is their turn.

        A deploy supersedes those before it that still wait. Raises `DeployError` when too many wait, and `Superseded`.
        """
        turn = _Turn(frozenset(apps), asyncio.get_running_loop().create_future(), is_deploy)
        if is_deploy:
            self._supersede(turn.apps)
        for app in sorted(turn.apps):
            if sum(app in other.apps for other in self._waiting) >= _MOST_WAITING:
                raise DeployError(f"{_MOST_WAITING} changes of {app} wait for their turn: try again when they are done")
        self._waiting.append(turn)
        self._begin_next()
        try:
            if not turn.begun.done():
                await report(f"waiting  for another deploy or change of {', '.join(sorted(turn.apps))}")
            await turn.begun
            yield
        finally:
            if turn in self._waiting:
                self._waiting.remove(turn)
            elif not turn.begun.cancelled() and turn.begun.exception() is None:
                self._held -= turn.apps
            self._begin_next()

    @contextlib.contextmanager
    def at_once(self, app: str) -> Iterator[None]:
        """Hold an app that is free. Raises `DeployError` for one that is held or waited for."""
        if app in self.under_way():
            raise DeployError(f"{app} is being deployed or changed: wait for that to end")
        self._held.add(app)
        try:
            yield
        finally:
            self._held.remove(app)
            self._begin_next()

    def under_way(self) -> set[str]:
        """Return the apps that are held or waited for."""
        return self._held.union(*(turn.apps for turn in self._waiting))

    def _supersede(self, apps: frozenset[str]) -> None:
        """End the waiting deploys that are of no apps but these."""
        for other in [each for each in self._waiting if each.is_deploy and each.apps <= apps]:
            self._waiting.remove(other)
            names = ", ".join(sorted(other.apps))
            other.begun.set_exception(Superseded(f"superseded by a newer deploy of {names}, before its turn came"))

    def _begin_next(self) -> None:
        taken = set(self._held)
        for turn in list(self._waiting):
            if taken.isdisjoint(turn.apps):
                self._waiting.remove(turn)
                self._held |= turn.apps
                turn.begun.set_result(None)
            taken |= turn.apps
