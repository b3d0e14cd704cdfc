"""How one gate takes the place of another without a lost call, at an upgrade.

    standby   a new gate has read the tables. It answers on a socket of its own, so that it can be probed, until SIGUSR2
    serving   it has asked the gate before it to retire, has opened the call record and the records of sessions, and
              accepts connections
    retired   it was asked to retire, so it has closed both records and accepts no connections. Its calls end, and it
              tells its successor what they add to the records. Control asks it as before, on another socket

Both gates inherit the listening socket, in which connections wait from one to the other.
"""

import asyncio
import contextlib
import os
import signal
from collections import deque
from collections.abc import AsyncIterator

import msgspec

from portway.host.gate.call_record import CallRecord, Line
from portway.host.gate.session_records import SessionLine, SessionRecords
from portway.host.gate_client import GateClient
from portway.host.paths import Paths
from portway.http.asgi import App, Receive, Scope, Send
from portway.http.bind import Bind
from portway.http.limits import Limits
from portway.http.serve import serve

RETIRED = Limits(shutdown_seconds=300.0, last_call_seconds=10.0)
"""How long a retired gate goes on: for calls in flight, and for idle connections, on which a call may be on its way."""

_RETRY_SECONDS = 0.2
_LINES = 50  # sent at once; each has less than 2 KiB


class Succession:
    """This gate's part in it. `late` keeps what a retired gate has to tell its successor."""

    def __init__(self, record: CallRecord, sessions: SessionRecords, paths: Paths) -> None:
        self._record = record
        self._sessions = sessions
        self._paths = paths
        self._late: deque[Line | SessionLine] = deque()
        self._some = asyncio.Event()
        self._telling: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Open the records. Raises OSError."""
        self._record.open()
        self._sessions.open()

    async def stand_by(self, app: App) -> None:
        """Answer probes until SIGUSR2, then retire the gate that serves. Raises OSError or ListenError."""
        told, loop = asyncio.Event(), asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR2, told.set)
        await serve(_Standby(app), Bind(uds=str(self._paths.standby_socket)), on_ready=lambda _: None, stop=told)
        await GateClient(self._paths).retire()

    async def retire(self) -> None:
        """Leave the records to a successor."""
        await self._record.hand_over(self._add)
        await self._sessions.hand_over(self._add)
        self._telling = asyncio.create_task(self._tell())

    def stop_soon(self) -> None:
        """Stop as a gate that has a successor, once the answer to its request is on its way."""
        asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGUSR1)

    def take(self, calls: list[Line], sessions: list[SessionLine]) -> None:
        """Add to the records what the gate before has told."""
        for line in calls:
            self._record.add(line)
        for change in sessions:
            self._sessions.take(change)

    async def close(self) -> None:
        """Close the records, or tell the successor the rest."""
        if self._telling is not None:
            while self._late:  # noqa: ASYNC110 - at the end of a process; the server bounds it
                await asyncio.sleep(_RETRY_SECONDS / 10)
            self._telling.cancel()
        self._sessions.close()
        self._record.close()

    def _add(self, line: Line | SessionLine) -> None:
        self._late.append(line)
        self._some.set()

    async def _tell(self) -> None:
        """Send what is late, in its order, to whichever gate serves."""
        while True:
            await self._some.wait()
            self._some.clear()
            while self._late:
                lines = [self._late[index] for index in range(min(len(self._late), _LINES))]
                calls = [line for line in lines if isinstance(line, Line)]
                sessions = [line for line in lines if isinstance(line, SessionLine)]
                if await GateClient(self._paths).late(msgspec.to_builtins(calls), msgspec.to_builtins(sessions)):
                    for _ in lines:
                        self._late.popleft()
                else:
                    await asyncio.sleep(_RETRY_SECONDS)


class _Standby:
    """The gate's app on the standby socket, without what starts and stops with the process."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)

    @contextlib.asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        yield

    def end_streams(self) -> None:
        """Do nothing: it has none."""
