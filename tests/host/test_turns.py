"""Whose turn it is, when several deploys and changes of the same apps are asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, field

import pytest

from portway.host.releases.deploy_error import DeployError, Superseded
from portway.host.releases.deploy_queue import Turns


@dataclass
class Line:
    """A line of those who want a turn: what was `done` so far, in order."""

    turns: Turns = field(default_factory=Turns)
    done: list[str] = field(default_factory=list)
    ends: dict[str, asyncio.Event] = field(default_factory=dict)

    def ask(self, name: str, apps: Collection[str], *, is_deploy: bool = False) -> asyncio.Task[None]:
        self.ends[name] = asyncio.Event()
        return asyncio.create_task(self._hold(name, apps, is_deploy=is_deploy))

    async def _hold(self, name: str, apps: Collection[str], *, is_deploy: bool) -> None:
        async with self.turns.turn(apps, self._report, is_deploy=is_deploy):
            self.done.append(name)
            await self.ends[name].wait()

    async def _report(self, line: str) -> None:
        assert line.startswith("waiting  for another deploy or change of ")


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def test_turns_come_in_order_and_a_deploy_of_several_apps_is_not_overtaken_for_ever() -> None:
    async def use() -> None:
        line = Line()
        tasks = [line.ask("first", "a"), line.ask("both", "ab"), line.ask("second a", "a"), line.ask("second b", "b")]
        await settled()
        assert line.done == ["first"], "b is free, but waited for"
        assert line.turns.under_way() == {"a", "b"}
        for name, done in (("first", ["first", "both"]), ("both", ["first", "both", "second a", "second b"])):
            line.ends[name].set()
            await settled()
            assert line.done == done
        line.ends["second a"].set()
        line.ends["second b"].set()
        await asyncio.gather(*tasks)
        assert line.turns.under_way() == set()

    asyncio.run(use())


def test_a_deploy_supersedes_waiting_deploys_of_no_other_apps() -> None:
    async def use() -> None:
        line = Line()
        held = line.ask("held", "a", is_deploy=True)
        both, skipped, change = line.ask("both", "ab", is_deploy=True), line.ask("skipped", "a", is_deploy=True), None
        await settled()
        change = line.ask("change", "a")
        newest = line.ask("newest", "a", is_deploy=True)
        await settled()
        with pytest.raises(Superseded, match="superseded by a newer deploy of a, before its turn came"):
            await skipped
        for name in ("held", "both", "change", "newest"):
            line.ends[name].set()
        await asyncio.gather(held, both, change, newest)
        assert line.done == ["held", "both", "change", "newest"]

    asyncio.run(use())


def test_sixteen_wait_and_those_that_are_cancelled_make_room() -> None:
    async def use() -> None:
        line = Line()
        held, *waiting = [line.ask(str(number), "a") for number in range(17)]
        await settled()
        with pytest.raises(DeployError, match="16 changes of a wait for their turn: try again when they are done"):
            await line.ask("one more", "a")
        waiting.pop().cancel()
        await settled()
        waiting.append(line.ask("late", "a"))
        held.cancel()
        for end in line.ends.values():
            end.set()
        await asyncio.gather(*waiting)
        assert line.done == ["0", *map(str, range(1, 16)), "late"]
        with line.turns.at_once("a"), pytest.raises(DeployError), line.turns.at_once("a"):
            raise AssertionError

    asyncio.run(use())
