"""`--workers`: several processes that serve one address, each started again when it crashes.

The parent is starting until a worker is ready, then serving, then stopping from the first signal on, or from the end of
a worker before any was ready.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from portway.http.bind import BACKLOG, Bind, url_of
from portway.http.serve import LifespanError, run

if TYPE_CHECKING:
    from portway.http.asgi import Application

assert sys.platform != "win32", "transport.run asks for one process there"

_RESTART_SECONDS = 1.0
"""Least time between two starts of one worker."""


def supervise(app: Application, bind: Bind, count: int, on_ready: Callable[[str], None]) -> int:
    """Serve `app` by `count` forked processes until SIGTERM or SIGINT, and return the exit status.

    `on_ready` gets the URL once connections are taken. A second signal stops at once. Raises ListenError.
    """
    sockets = _open(bind, count)
    status = _Supervisor(app, sockets, on_ready).run()
    if bind.uds is not None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(bind.uds)
    return status


def _open(bind: Bind, count: int) -> list[socket.socket]:
    """Open a listening socket for each worker; kept open here, it holds connections while a worker is replaced.

    The kernel spreads TCP connections over sockets that share a port; all workers accept from one Unix socket.
    """
    first = bind.open()
    if first.family == socket.AF_UNIX:
        return [first] * count
    address, family = first.getsockname()[:2], first.family
    first.close()  # the port is free, and sharing must be set before binding
    return [socket.create_server(address, family=family, backlog=BACKLOG, reuse_port=True) for _ in range(count)]


class _Supervisor:
    def __init__(self, app: Application, sockets: list[socket.socket], on_ready: Callable[[str], None]) -> None:
        self._app = app
        self._sockets = sockets
        self._on_ready = on_ready
        self._slots: dict[int, int] = {}  # process id -> index of its socket
        self._started: dict[int, float] = {}
        self._stopping = False
        self._ready = mmap.mmap(-1, 1)  # set by the first worker that came up; shared by all
        # A worker's thread waits for the end of this pipe, which comes however the parent ends.
        self._lifeline, self._held = os.pipe()

    def run(self) -> int:
        url = url_of(self._sockets[0])
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stop())
        for index in range(len(self._sockets)):
            self._start(index)
        self._on_ready(url)
        failed = False
        while self._slots:
            pid, status = os.wait()
            if pid not in self._slots:
                continue  # a process the author's own code started
            index = self._slots.pop(pid)
            if self._stopping:
                continue
            if not self._ready[0]:
                failed = True  # no worker was ever ready: another start would not help
                self._stop()
                continue
            code = os.waitstatus_to_exitcode(status)
            print(f"portway: worker {pid} ended with status {code}; starting another", file=sys.stderr, flush=True)
            time.sleep(max(0.0, self._started[index] + _RESTART_SECONDS - time.monotonic()))
            self._start(index)
        return int(failed)

    def _stop(self) -> None:
        self._stopping = True
        self._close_sockets()
        for pid in list(self._slots):
            with contextlib.suppress(ProcessLookupError):  # it has just been waited for
                os.kill(pid, signal.SIGTERM)

    def _close_sockets(self) -> None:
        """Close the sockets: an open one would take connections that nobody answers."""
        for sock in self._sockets:
            sock.close()

    def _start(self, index: int) -> None:
        signals = (signal.SIGTERM, signal.SIGINT)
        # Signals are blocked until the child is in `_slots` or has its own handlers, so that none is missed.
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        try:
            if self._stopping:
                return
            self._started[index] = time.monotonic()
            pid = os.fork()
            if pid == 0:
                self._work(index)
            self._slots[pid] = index
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)

    def _work(self, index: int) -> None:
        """Serve in a worker; does not return."""
        status = 1
        try:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
            os.setpgid(0, 0)  # so a terminal's Ctrl-C goes to the parent alone, which passes it on
            signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGINT))
            os.close(self._held)
            threading.Thread(target=self._await_orphaned, daemon=True).start()
            bind = Bind(fd=os.dup(self._sockets[index].fileno()))
            self._close_sockets()
            run(self._app, bind, on_ready=lambda _: self._ready.__setitem__(0, 1))
            status = 0
        except LifespanError as error:
            print(f"portway: {error}", file=sys.stderr)
        except SystemExit as exit_:
            status = exit_.code if isinstance(exit_.code, int) else 1
        except BaseException:  # noqa: BLE001 - a child must never return into its parent's code
            import traceback

            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def _await_orphaned(self) -> None:
        os.read(self._lifeline, 1)
        os.kill(os.getpid(), signal.SIGTERM)
