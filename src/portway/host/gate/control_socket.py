"""The server of gate.sock: new tables and tokens are read, expired tokens ended, an instance drained, counters told;
one JSON object per line, one line in answer.

{"op": "table"}    read the table and the tokens again      {"ok": true, "version": N} once they are in use
{"op": "tokens"}   read the changes of the tokens           {"ok": true} once they are in use
{"op": "drain", "instance": ID, "seconds": S}    {"ok": true, "in_flight": n} when n is 0, or S seconds have passed
{"op": "used", "instance": ID}    {"ok": true, "used": whether calls or sessions are open there, as far as known}
{"op": "stats"}    {"ok": true, "version": N, "apps": {NAME: {"in_flight", "streams", "calls", "errors"}},
                    "unauthorized": n}
{"op": "metrics"}  {"ok": true, "text": Prometheus' text format}
{"op": "retire"}   leave the place to the gate that asks (`gate_handover.py`)   {"ok": true} once the records are closed
{"op": "late", "calls": [LINE…], "sessions": [LINE…]}    record what a retired gate tells; {"ok": true}
Anything else, or a failure: {"ok": false, "error": SENTENCE}
"""

import asyncio
import contextlib
import time

import msgspec

from portway.host.gate.call_record import Line
from portway.host.gate.gate_app import GateApp
from portway.host.gate.gate_handover import Succession
from portway.host.gate.metrics import Metrics
from portway.host.gate.routing import Routes
from portway.host.gate.session_records import SessionLine
from portway.host.paths import Paths
from portway.host.routing_table import read
from portway.host.token_table import Token, TokenReader, apply
from portway.http.bind import Bind, ListenError

_POLL = 0.02
_LOOK_SECONDS = 1.0
_EXPIRY_SECONDS = 60.0  # the longest time between looks at what has expired, as the clock may be set
_LONGEST_LINE = 8 * 1024 * 1024  # what a retired gate tells at once is the longest


class _Request(msgspec.Struct):
    op: str
    instance: str = ""
    seconds: float = 0.0
    calls: list[Line] = []
    sessions: list[SessionLine] = []


class ControlSocket:
    """Answers the requests on gate.sock."""

    def __init__(self, app: GateApp, routes: Routes, metrics: Metrics, paths: Paths, succession: Succession) -> None:
        self._app = app
        self._succession = succession
        self._routes = routes
        self._metrics = metrics
        self._table_file = paths.routes
        self._socket = paths.gate_socket
        self._retired_socket = paths.retired_gate_socket
        self._tokens = TokenReader(paths.tokens)
        self._reading = asyncio.Lock()
        self._server: asyncio.Server | None = None
        self._expiry: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Listen, then read the table: control can tell this gate of any table written later.

        Raises OSError or ListenError.
        """
        await self._listen()
        self._watching = asyncio.create_task(self._listen_again())

    def stop(self) -> None:
        if self._server is not None:
            self._watching.cancel()
            self._server.close()
            self._socket.unlink(missing_ok=True)
        if self._expiry is not None:
            self._expiry.cancel()
        self._tokens.close()

    async def _listen(self) -> None:
        listening = Bind(uds=str(self._socket)).open()
        self._server = await asyncio.start_unix_server(self._serve, sock=listening, limit=_LONGEST_LINE)
        await self.read()

    async def read(self) -> None:
        """Read the tokens and the table. Raises OSError."""
        await self._read_tokens()
        await self._read_table()

    async def _read_table(self) -> bool:
        """Use the table; return False if it is missing or damaged."""
        table = read(self._table_file)
        key = self._routes.assertion_key
        if table is not None and not key.is_ready and any(app.assertion for app in table.apps.values()):
            await asyncio.to_thread(key.prepare)
            table = read(self._table_file)  # it may be another one now
        if table is None:
            return False
        self._app.use(table)
        return True

    async def _read_tokens(self) -> None:
        """Read the changes of the tokens, or all of a replaced file, in batches, so that calls go on."""
        callers = self._routes.callers
        async with self._reading:
            revoked = callers.revoked
            fresh: dict[str, Token] | None = None
            try:
                fresh = {} if self._tokens.reopen_if_replaced() else None
                for changes in self._tokens.pieces():
                    if fresh is None:
                        callers.change(changes)
                    else:
                        apply(changes, fresh)
                    await asyncio.sleep(0)
            except (OSError, msgspec.DecodeError):
                self._tokens.close()  # control replaces the file
                fresh = None
            if fresh is not None:
                callers.replace(fresh)
            self._end(revoked)

    def _end(self, revoked: int) -> None:
        """End the tokens that have expired, now and whenever the next one does.

        What is open is looked at if more than `revoked` callers have had to end.
        """
        callers = self._routes.callers
        callers.end_expired()
        if callers.revoked > revoked:
            self._app.review()
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        if callers.next_end is not None:
            seconds = min(max(callers.next_end - time.time(), 0), _EXPIRY_SECONDS)
            self._expiry = asyncio.get_running_loop().call_later(seconds, self._end, callers.revoked)

    async def _listen_again(self) -> None:
        """Listen on a new socket whenever someone removes it; control restores its directory."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            if not self._socket.exists() and self._socket.parent.exists():
                former = self._server
                with contextlib.suppress(OSError, ListenError):
                    await self._listen()
                    if former is not None:
                        former.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                writer.write(msgspec.json.encode(await self._answer(line)) + b"\n")
                await writer.drain()
        except (OSError, ValueError):  # the peer left, or sent a line longer than the reader takes
            pass
        finally:
            writer.close()

    async def _answer(self, line: bytes) -> dict[str, object]:
        try:
            request = msgspec.json.decode(line, type=_Request)
            if request.op == "table":
                await self._read_tokens()
                if not await self._read_table():
                    return {"ok": False, "error": "The routing table is missing or damaged; the last one stays in use."}
                return {"ok": True, "version": self._routes.version}
            if request.op == "tokens":
                await self._read_tokens()
                return {"ok": True}
            if request.op == "drain":
                return {"ok": True, "in_flight": await self._drain(request.instance, request.seconds)}
            if request.op == "retire":
                await self._retire()
                return {"ok": True}
            if request.op == "late":
                self._succession.take(request.calls, request.sessions)
                return {"ok": True}
            if request.op == "used":
                backend = self._routes.backends.get(request.instance)
                return {"ok": True, "used": backend is not None and (backend.sessions != 0 or backend.in_flight > 0)}
            if request.op == "stats":
                return self._stats()
            if request.op == "metrics":
                return {"ok": True, "text": await asyncio.to_thread(self._metrics.text)}
        except (msgspec.DecodeError, OSError, ValueError) as error:
            return {"ok": False, "error": str(error)}
        return {"ok": False, "error": f"There is no op {request.op!r}."}

    async def _retire(self) -> None:
        """Close the records, and answer at another path from now on. Raises OSError."""
        self._watching.cancel()
        await self._succession.retire()
        self._socket = self._socket.rename(self._retired_socket)
        self._succession.stop_soon()

    async def _drain(self, instance: str, seconds: float) -> int:
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        backend = self._routes.backends.get(instance)
        while backend is not None and backend.in_flight and loop.time() < until:  # noqa: ASYNC110 - an event would cost every call
            await asyncio.sleep(_POLL)
        return 0 if backend is None else backend.in_flight

    def _stats(self) -> dict[str, object]:
        apps: dict[str, object] = {}
        for name, route in self._routes.apps.items():
            calls, errors = self._metrics.totals(name)
            counts = {"in_flight": route.calls.taken, "streams": route.streams.taken, "calls": calls, "errors": errors}
            apps[name] = counts
        return {"ok": True, "version": self._routes.version, "apps": apps, "unauthorized": self._metrics.refused}
