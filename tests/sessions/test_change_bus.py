"""The change bus: which listeners get which changes, once each, and what that costs."""

from __future__ import annotations

import asyncio
import threading
import tracemalloc
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any

import pytest

from portway.protocol.errors import RpcError
from portway.sessions.change_bus import BURST_LIMIT, URI_LENGTH, URI_LIMIT, Bus
from portway.sessions.changes import Change, Changes

TOOLS, PROMPTS = Change("tools"), Change("prompts")


def on_a_loop(test: Callable[[Bus, Changes], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Run a test with a bus on an event loop of its own."""

    async def scenario() -> None:
        changes = Changes()
        bus = Bus(changes)
        try:
            async with asyncio.timeout(120):
                await test(bus, changes)
        finally:
            bus.close()

    @wraps(test, assigned=("__name__", "__doc__"))
    def run() -> None:
        asyncio.run(scenario())

    del run.__wrapped__
    return run


def update(uri: str) -> Change:
    return Change("resource", uri)


@on_a_loop
async def test_a_listener_hears_what_it_asked_for_and_nothing_else(bus: Bus, changes: Changes) -> None:
    tools, both, one = bus.listen(["tools"]), bus.listen(["tools", "prompts"]), bus.listen(uris=["a://1"])
    for change in (TOOLS, PROMPTS, Change("resources"), update("a://2"), update("a://1")):
        changes.publish(change)
    assert await tools.changes() == [TOOLS]
    assert await both.changes() == [TOOLS, PROMPTS]
    assert await one.changes() == [update("a://1")]


@on_a_loop
async def test_equal_changes_that_wait_are_one_and_keep_their_order(bus: Bus, changes: Changes) -> None:
    listener = bus.listen(["tools", "prompts"])
    for change in (TOOLS, PROMPTS, TOOLS):
        changes.publish(change)
    await asyncio.sleep(0)
    changes.publish(PROMPTS)
    changes.publish(TOOLS)
    await asyncio.sleep(0)
    assert await listener.changes() == [TOOLS, PROMPTS]
    changes.publish(TOOLS)
    assert await listener.changes() == [TOOLS]


@on_a_loop
async def test_changes_made_on_other_threads_arrive(bus: Bus, changes: Changes) -> None:
    listener = bus.listen(uris=[f"a://{n}" for n in range(20)])
    threads = [threading.Thread(target=changes.publish, args=(update(f"a://{n}"),)) for n in range(20)]
    for thread in threads:
        thread.start()
    heard: set[Change] = set()
    while len(heard) < len(threads):
        heard.update(await listener.changes())
    for thread in threads:
        thread.join()


@on_a_loop
async def test_a_listener_that_takes_nothing_is_ended_however_many_come_at_once(bus: Bus, changes: Changes) -> None:
    uris = [f"a://{n}" for n in range(URI_LIMIT)]
    slow, legacy, fresh = bus.listen(uris=uris), bus.listen(uris=uris, pending_limit=URI_LIMIT), bus.listen(uris=uris)
    for burst in range(BURST_LIMIT):
        changes.publish(update(uris[burst]))
        await asyncio.sleep(0)
    assert len(await fresh.changes()) == BURST_LIMIT
    for uri in uris:
        changes.publish(update(uri))
    assert len(await fresh.changes()) == len(await legacy.changes()) == URI_LIMIT
    assert await slow.changes() == []
    assert [listener.overflowed for listener in (slow, legacy, fresh)] == [True, False, False]
    assert [listener.ended for listener in (slow, legacy, fresh)] == [True, False, False]


@on_a_loop
async def test_closing_the_bus_ends_listeners_after_what_they_hold(bus: Bus, changes: Changes) -> None:
    waiting, holding = bus.listen(["prompts"]), bus.listen(["tools"], ["a://1"])
    asked = asyncio.create_task(waiting.changes())
    changes.publish(TOOLS)
    await asyncio.sleep(0)
    bus.close()
    assert await asked == []
    assert await holding.changes() == [TOOLS]
    assert await holding.changes() == []
    assert not holding.overflowed
    assert await bus.listen(["tools"]).changes() == []
    changes.publish(TOOLS)  # and nobody minds


@on_a_loop
async def test_uris_can_be_added_and_removed(bus: Bus, changes: Changes) -> None:
    listener = bus.listen(["tools"])
    for uri in ("a://1", "a://1", "a://2"):
        listener.want(uri)
    listener.unwant("a://1")
    listener.unwant("a://unknown")
    for change in (update("a://1"), update("a://2")):
        changes.publish(change)
    assert await listener.changes() == [update("a://2")]
    listener.close()
    listener.close()
    listener.want("a://3")
    assert await listener.changes() == []


@on_a_loop
async def test_the_uris_of_a_listener_are_bounded(bus: Bus, changes: Changes) -> None:
    with pytest.raises(RpcError, match=f"^No more than {URI_LIMIT} resources can be listened to at a time.$"):
        bus.listen(uris=map(str, range(URI_LIMIT + 1)))
    with pytest.raises(RpcError, match=f"^The URI is longer than the {URI_LENGTH} characters"):
        bus.listen(uris=["a" * (URI_LENGTH + 1)])


def test_a_change_after_the_loop_has_gone_is_let_go() -> None:
    changes = Changes()

    async def scenario() -> None:
        Bus(changes).listen(["tools"])

    asyncio.run(scenario())
    changes.publish(TOOLS)


@on_a_loop
async def test_a_burst_wakes_the_loop_once_and_the_uninterested_never(bus: Bus, changes: Changes) -> None:
    loop, woken = asyncio.get_running_loop(), []
    wake = loop.call_soon_threadsafe
    loop.call_soon_threadsafe = lambda *call, **options: (woken.append(call), wake(*call, **options))[1]  # type: ignore[method-assign,func-returns-value]
    listeners = [bus.listen(["tools"]) for _ in range(3)]
    for change in [PROMPTS, update("a://1"), *[TOOLS] * 50]:
        changes.publish(change)
    assert [await listener.changes() for listener in listeners] == [[TOOLS]] * 3
    assert len(woken) == 1


@on_a_loop
async def test_ten_thousand_who_wait_are_small_and_all_hear(bus: Bus, changes: Changes) -> None:
    count = 10_000
    tracemalloc.start()
    listeners = [bus.listen(["tools"], [f"a://{n}"]) for n in range(count)]
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size / count < 2_000, "bytes a listener"
    changes.publish(TOOLS)
    changes.publish(update("a://7"))
    heard = [await listener.changes() for listener in listeners]
    assert sum(map(len, heard)) == count + 1
    assert heard[7] == [TOOLS, update("a://7")]


def test_the_uris_of_all_listeners_have_a_bounded_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("portway.sessions.change_bus.ROOM", 30)

    async def main() -> None:
        bus = Bus(Changes())
        first, second = bus.listen(uris=["test://0123"]), bus.listen()
        second.want("test://0123")
        with pytest.raises(RpcError, match="as many resource subscriptions as it takes"):
            second.want("test://4567")
        first.unwant("test://else")
        first.close()
        second.want("test://4567")
        assert second.uris == {"test://0123", "test://4567"}

    asyncio.run(main())
