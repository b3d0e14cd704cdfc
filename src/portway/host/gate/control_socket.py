"""The server of gate.sock, which control and the CLI ask. One JSON object per line, one line in answer.

{"op": "table"}    read routes.json again        {"ok": true, "version": N} once it is in use
{"op": "drain", "instance": ID, "seconds": S}    {"ok": true, "in_flight": n} when n is 0, or S seconds have passed
{"op": "stats"}    {"ok": true, "version": N, "apps": {NAME: {"in_flight", "streams", "calls", "errors"}},
                    "unauthorized": n}
{"op": "metrics"}  {"ok": true, "text": Prometheus' text format}
Anything else, or a failure: {"ok": false, "error": SENTENCE}
"""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

import msgspec

from portway.host.gate.metrics import Metrics
from portway.host.gate.routing import Routes
from portway.host.routing_table import Table, read
from portway.http.bind import Bind, ListenError

_POLL = 0.02
_LOOK_SECONDS = 1.0


class _Request(msgspec.Struct):
    op: str
    instance: str = ""
    seconds: float = 0.0


class ControlSocket:
    """Answers the requests on gate.sock."""

    def __init__(
        self, routes: Routes, use: Callable[[Table], None], metrics: Metrics, table_file: Path, socket: Path
    ) -> None:
        """`use` puts a table in use."""
        self._routes = routes
        self._use = use
        self._metrics = metrics
        self._table_file = table_file
        self._socket = socket
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen, then read the table: whoever writes a newer one after that reaches this gate.

        Raises OSError or ListenError.
        """
        await self._listen()
        self._watching = asyncio.create_task(self._listen_again())

    def stop(self) -> None:
        if self._server is not None:
            self._watching.cancel()
            self._server.close()
            self._socket.unlink(missing_ok=True)

    async def _listen(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, sock=Bind(uds=str(self._socket)).open())
        if (table := read(self._table_file)) is not None:
            self._use(table)

    async def _listen_again(self) -> None:
        """Listen on a new socket whenever someone removes it; control makes its directory anew."""
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
                if (table := read(self._table_file)) is None:
                    return {"ok": False, "error": "The routing table is missing or damaged; the last one stays in use."}
                self._use(table)
                return {"ok": True, "version": self._routes.version}
            if request.op == "drain":
                return {"ok": True, "in_flight": await self._drain(request.instance, request.seconds)}
            if request.op == "stats":
                return self._stats()
            if request.op == "metrics":
                return {"ok": True, "text": self._metrics.text()}
        except (msgspec.DecodeError, OSError, ValueError) as error:
            return {"ok": False, "error": str(error)}
        return {"ok": False, "error": f"There is no op {request.op!r}."}

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
