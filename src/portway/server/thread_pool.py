"""Threads for plain `def` handlers: how many run at once; cheaper per call than `loop.run_in_executor`.

Calls are queued in a deque. A worker is woken only when none is awake. It works until the queue is empty and hands
its results to the loop in one wake-up, so quick handlers share one thread and pay few switches. For slow handlers, a
timer checks every millisecond whether the queue moves; until it does, the timer doubles the number of awake workers.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

NUDGE_SECONDS = 0.001

_T = TypeVar("_T")
_Job = tuple["asyncio.Future[Any]", Context, "Callable[..., Any]", tuple[Any, ...]]


class ThreadPool:
    """At most `size` daemon threads named `portway-tool-N`, started when needed and kept.

    The queue has no bound of its own: each entry is a request in flight, which the transport bounds. A call whose
    future is cancelled while it waits is never started; one that runs is left to finish, and its result is dropped. A
    pool belongs to the event loop it is made in.
    """

    def __init__(self, size: int = 32) -> None:
        self._size = size
        self._jobs: deque[_Job] = deque()
        self._finished: deque[tuple[asyncio.Future[Any], Any, BaseException | None]] = deque()
        # One held lock per sleeping worker; the last to sleep is the first to wake.
        self._asleep: list[threading.Lock] = []
        self._workers = 0
        self._closed = False
        self._is_draining = False  # a wake-up of the loop is under way
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._head: _Job | None = None  # the first in the queue when the timer last looked

    def run(self, fn: Callable[..., _T], *args: object) -> asyncio.Future[_T]:
        """Call `fn(*args)` on a thread, in a copy of the caller's context.

        StopIteration, SystemExit and KeyboardInterrupt arrive as RuntimeError: in a future they would harm the loop.
        """
        if self._closed:
            msg = "the thread pool is closed"
            raise RuntimeError(msg)
        future: asyncio.Future[_T] = self._loop.create_future()
        job = (future, copy_context(), fn, args)
        self._jobs.append(job)
        if len(self._asleep) == self._workers:
            self._wake(1)
        elif self._timer is None:
            self._head = job
            self._timer = self._loop.call_later(NUDGE_SECONDS, self._nudge)
        return future

    def close(self) -> None:
        """Cancel the waiting calls and let the threads end, once their handlers return. Waits for nothing."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._jobs:
            future = self._jobs.popleft()[0]
            if not self._loop.is_closed():
                future.cancel()
        while self._asleep:
            self._asleep.pop().release()

    # on the loop

    def _wake(self, count: int) -> None:
        for _ in range(count):
            try:
                self._asleep.pop().release()
            except IndexError:
                if self._workers == self._size:
                    return
                self._start_worker()

    def _start_worker(self) -> None:
        try:
            threading.Thread(target=self._work, name=f"portway-tool-{self._workers + 1}", daemon=True).start()
        except RuntimeError:  # the system gives no more threads; the existing ones go on
            if not self._workers:
                raise
        else:
            self._workers += 1

    def _nudge(self) -> None:
        """Wake more workers if the queue has not moved since the last look: the awake ones are busy in handlers."""
        self._timer = None
        if not self._jobs:
            self._head = None
            return
        if self._workers == self._size and not self._asleep:
            self._head = None  # all are busy; each takes the next job when it finishes
            return
        head = self._jobs[0]
        if head is self._head:
            self._wake(min(len(self._jobs), max(1, self._workers - len(self._asleep))))
        self._head = head
        if not self._closed:
            self._timer = self._loop.call_later(NUDGE_SECONDS, self._nudge)

    def _drain(self) -> None:
        self._is_draining = False  # reset first: a worker that finishes from here on schedules another drain
        finished = self._finished
        while finished:
            future, result, error = finished.popleft()
            if future.done():
                continue
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

    # on a worker

    def _work(self) -> None:
        jobs, bed = self._jobs, threading.Lock()
        bed.acquire()
        while True:
            try:
                job = jobs.popleft()
            except IndexError:
                if self._closed:
                    return
                self._asleep.append(bed)
                if jobs or self._closed:  # a job arrived before this worker counted as asleep
                    try:
                        self._asleep.remove(bed)
                    except ValueError:
                        bed.acquire()  # woken already
                    continue
                bed.acquire()
                continue
            self._call(*job)
            del job  # a sleeping worker must not keep the last call alive

    def _call(
        self, future: asyncio.Future[Any], context: Context, fn: Callable[..., Any], args: tuple[Any, ...]
    ) -> None:
        if future.cancelled():
            return
        result: Any = None
        failure: BaseException | None = None
        try:
            result = context.run(fn, *args)
        except (StopIteration, SystemExit, KeyboardInterrupt) as error:
            failure = RuntimeError(f"the handler raised {type(error).__name__}")
            failure.__cause__ = error
        except BaseException as error:  # noqa: BLE001 - carried to the awaiting caller
            failure = error
        try:
            self._finished.append((future, result, failure))
            if not self._is_draining:
                self._is_draining = True
                self._loop.call_soon_threadsafe(self._drain)
        except RuntimeError:  # the loop has closed; nothing waits for the result
            self._is_draining = False
        finally:
            failure = None  # breaks the reference cycle of traceback and frame
