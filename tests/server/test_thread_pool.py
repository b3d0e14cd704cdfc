"""Handlers on threads: in parallel, bounded, and harmless in every way they can end."""

from __future__ import annotations

import asyncio
import contextvars
import threading

import pytest

from portway.server.thread_pool import ThreadPool

PATIENCE = 20.0
variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")


def test_as_many_handlers_as_threads_can_wait_for_each_other() -> None:
    barrier = threading.Barrier(32)

    async def main() -> set[str]:
        pool = ThreadPool(32)

        def handler() -> str:
            barrier.wait(PATIENCE)
            return threading.current_thread().name

        return set(await asyncio.gather(*[pool.run(handler) for _ in range(32)]))

    assert asyncio.run(main()) == {f"portway-tool-{number}" for number in range(1, 33)}


def test_a_blocked_handler_does_not_hold_up_a_quick_one() -> None:
    async def main() -> None:
        pool, entered, release = ThreadPool(2), threading.Event(), threading.Event()

        def block() -> bool:
            entered.set()
            return release.wait(PATIENCE)

        blocked = pool.run(block)
        for number in range(20):
            assert await pool.run(lambda number=number: number) == number
        assert entered.is_set()
        assert not blocked.done()
        release.set()
        assert await blocked

    asyncio.run(main())


def test_calls_beyond_the_size_wait_in_order() -> None:
    async def main() -> None:
        pool, release, started = ThreadPool(2), threading.Event(), threading.Semaphore(0)
        ran: list[int] = []

        def block() -> None:
            started.release()
            release.wait(PATIENCE)

        blocked = [pool.run(block), pool.run(block)]
        waiting = [pool.run(ran.append, number) for number in range(100)]
        await asyncio.get_running_loop().run_in_executor(None, lambda: (started.acquire(), started.acquire()))
        assert ran == []
        release.set()
        await asyncio.gather(*blocked, *waiting)
        assert sorted(ran) == list(range(100))

    asyncio.run(main())


def test_a_handler_sees_its_callers_context_and_leaves_it_alone() -> None:
    async def main() -> None:
        pool = ThreadPool(1)
        variable.set("caller")

        def handler() -> str:
            seen = variable.get()
            variable.set("handler")
            return seen

        assert [await pool.run(handler) for _ in range(2)] == ["caller", "caller"]
        assert variable.get() == "caller"

    asyncio.run(main())


class Suspended(BaseException):
    pass


@pytest.mark.parametrize(
    ("raised", "arrives"),
    [
        (ValueError, ValueError),
        (Suspended, Suspended),
        (StopIteration, RuntimeError),
        (SystemExit, RuntimeError),
        (KeyboardInterrupt, RuntimeError),
    ],
)
def test_what_a_handler_raises_arrives_and_the_thread_goes_on(
    raised: type[BaseException], arrives: type[BaseException]
) -> None:
    async def main() -> None:
        pool = ThreadPool(1)

        def handler() -> None:
            raise raised

        with pytest.raises(arrives):
            await pool.run(handler)
        assert await pool.run(int, "7") == 7

    asyncio.run(main())


def test_a_cancelled_call_is_not_started_and_a_running_one_breaks_nothing() -> None:
    async def main() -> None:
        pool, entered, release = ThreadPool(1), threading.Event(), threading.Event()
        ran: list[str] = []

        def block() -> None:
            entered.set()
            release.wait(PATIENCE)

        running, waiting = pool.run(block), pool.run(ran.append, "never")
        await asyncio.get_running_loop().run_in_executor(None, entered.wait, PATIENCE)
        running.cancel()
        waiting.cancel()
        release.set()
        assert await pool.run(int, "7") == 7
        assert ran == []

    asyncio.run(main())


def test_closing_waits_for_nothing_and_cancels_waiting_calls() -> None:
    release, left = threading.Event(), threading.Event()

    def block() -> None:
        release.wait(PATIENCE)
        left.set()

    async def main() -> None:
        pool = ThreadPool(1)
        pool.run(block)
        waiting = pool.run(int, "7")
        pool.close()
        assert waiting.cancelled()
        with pytest.raises(RuntimeError, match="closed"):
            pool.run(int)

    asyncio.run(main())
    release.set()
    assert left.wait(PATIENCE)  # its loop has closed by now


def test_ten_thousand_calls_from_many_tasks_all_come_back() -> None:
    async def main() -> None:
        pool = ThreadPool(8)

        async def client(first: int) -> None:
            for number in range(first, first + 100):
                assert await pool.run(lambda number=number: number) == number

        await asyncio.gather(*[client(first) for first in range(0, 10_000, 100)])
        assert not pool._jobs
        assert not pool._finished

    asyncio.run(main())
