"""Serves an ASGI app: signals, a graceful stop in its order, how long its lifespan may take to end, the limit of open
files; `run` in a process of its own, `serve` inside a running event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

from portway.http.asgi import LifespanError
from portway.http.bind import Bind, ListenError, url_of
from portway.http.connection import Connection, HttpServer
from portway.http.limits import Limits

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from portway.http.asgi import Application

__all__ = ["Bind", "LifespanError", "Limits", "ListenError", "run", "serve"]

_log = logging.getLogger("portway.http")

ONE_STOP_SECONDS = 1.0  # a service manager signals every process, and then the host's launcher does so again
LEAVE_SECONDS = 10.0  # for the app to leave its lifespan
CANCEL_SECONDS = 2.0  # for cancelled requests to clean up
OTHER_DESCRIPTORS = 256  # open files besides the connections that count, including connections that are leaving


def run(
    app: Application,
    bind: Bind,
    limits: Limits = Limits(),  # noqa: B008 - frozen
    *,
    on_ready: Callable[[str], None],
    succeeded: Limits | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then stop as `serve` does.

    A second signal, or one before the app has started, stops at once with exit status 1. Signals less than a second
    apart count as one. `on_ready` gets the URL when connections are accepted. SIGUSR1 tells a server for which
    `succeeded` is given that a successor accepts connections on its socket: it stops by those limits. Raise
    ListenError, or what the app's lifespan raises, before `on_ready`.
    """
    _raise_descriptor_limit(limits.connections + OTHER_DESCRIPTORS)
    loop_factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    with contextlib.suppress(ImportError):
        from uvloop import new_event_loop as loop_factory
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(_run(app, bind, limits, on_ready, succeeded))


async def _run(
    app: Application, bind: Bind, limits: Limits, on_ready: Callable[[str], None], succeeded: Limits | None
) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    is_ready, stopped_at, ending = False, 0.0, limits

    def ready(url: str) -> None:
        nonlocal is_ready
        is_ready = True
        on_ready(url)

    serving = loop.create_task(_serve(app, bind, limits, ready, stop, lambda: ending))

    def on_signal() -> None:
        nonlocal stopped_at
        if not is_ready or (stopped_at and loop.time() - stopped_at >= ONE_STOP_SECONDS):
            serving.cancel()
        if serving.cancelling() or stopped_at:
            return
        stopped_at = loop.time()
        stop.set()

    def on_succeeded(found: Limits) -> None:
        nonlocal ending
        ending = ending if stop.is_set() else found
        stop.set()

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, on_signal)
        if succeeded is not None and sys.platform != "win32":
            loop.add_signal_handler(signal.SIGUSR1, on_succeeded, succeeded)
    try:
        await serving
    except asyncio.CancelledError:
        raise SystemExit(1) from None


async def serve(
    app: Application,
    bind: Bind,
    limits: Limits = Limits(),  # noqa: B008 - frozen
    *,
    on_ready: Callable[[str], None],
    stop: asyncio.Event,
) -> None:
    """Serve until `stop` is set.

    Then the app ends its streams, new connections are refused, idle ones are closed, and requests in flight get
    `limits.shutdown_seconds` before they are cancelled. The app's lifespan ends last. When cancelled, do the same
    without that time. Raise ListenError, or what the lifespan raises, before `on_ready`.
    """
    await _serve(app, bind, limits, on_ready, stop, lambda: limits)


async def _serve(
    app: Application,
    bind: Bind,
    limits: Limits,
    on_ready: Callable[[str], None],
    stop: asyncio.Event,
    ending: Callable[[], Limits],
) -> None:
    """Do what `serve` does; `ending` gives the limits of the stop when it begins."""
    sock = bind.open()
    mark = os.stat(bind.uds) if bind.uds is not None else None
    loop = asyncio.get_running_loop()
    server = HttpServer(app, _within_descriptors(limits), loop)
    with contextlib.closing(sock):
        async with _bounded(app.lifespan()):
            create = loop.create_unix_server if isinstance(sock.getsockname(), str) else loop.create_server
            listener = await create(lambda: Connection(server), sock=sock)
            try:
                on_ready(url_of(sock))
                await stop.wait()
                app.end_streams()
                server.last_call_seconds = ending().last_call_seconds
                _refuse_new(server, listener, bind, mark)
                await _settle(server, ending().shutdown_seconds)
            finally:
                _refuse_new(server, listener, bind, mark)
                await _cancel(server)


@contextlib.asynccontextmanager
async def _bounded(lifespan: AbstractAsyncContextManager[None]) -> AsyncIterator[None]:
    """Enter a lifespan, and leave it within LEAVE_SECONDS; log when that is not enough, and what it raises then."""
    await lifespan.__aenter__()
    try:
        yield
    finally:
        try:
            async with asyncio.timeout(LEAVE_SECONDS):
                await lifespan.__aexit__(None, None, None)
        except TimeoutError:
            _log.warning("the application did not shut down within %g seconds", LEAVE_SECONDS)
        except Exception as error:  # noqa: BLE001 - whatever an app raises
            _log.error("the application failed to shut down: %s", error)


def _refuse_new(server: HttpServer, listener: asyncio.Server, bind: Bind, mark: os.stat_result | None) -> None:
    """Close the listening socket and every idle connection, once."""
    if server.stopping:
        return
    server.stopping = True
    if bind.uds is not None and mark is not None:
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.stat(bind.uds), mark):  # else a successor has replaced it
                os.unlink(bind.uds)
    listener.close()
    for connection in list(server.connections):
        connection.shutdown()


async def _settle(server: HttpServer, seconds: float) -> None:
    """Wait at most `seconds` until no request is in flight and every answer has been read."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            if server.connections or server.leaving:
                await server.emptied.wait()
            if server.running:
                await asyncio.wait(server.running.values())


async def _cancel(server: HttpServer) -> None:
    """Cancel the requests still in flight and close every connection."""
    for connection in list(server.connections):
        connection.cut()
    tasks = list(server.running.values())
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=CANCEL_SECONDS)
    for connection in [*server.connections, *server.leaving]:
        transport = connection.transport
        transport.close() if transport.get_write_buffer_size() == 0 else transport.abort()


def _within_descriptors(limits: Limits) -> Limits:
    """Lower the limit of connections to what the process may open, so that more are refused with a 503."""
    if sys.platform == "win32":  # has no such limit
        return limits
    import resource

    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if soft == resource.RLIM_INFINITY:
        return limits
    room = max(soft - OTHER_DESCRIPTORS, soft // 2)
    return replace(limits, connections=min(limits.connections, room), leaving=min(limits.leaving, soft // 8))


def _raise_descriptor_limit(wanted: int) -> None:
    """Raise the soft limit of open files, usually 1024, towards `wanted`."""
    if sys.platform == "win32":  # has no such limit
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
