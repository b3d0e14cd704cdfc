"""Has Caddy get or renew the certificates of the host's names, by visiting each name every hour.

The names are the domain, and those that operators gave to apps. Names below the domain get theirs when a client comes:
an authority limits how many a domain may have, and most apps are reached by the domain itself.
"""

import asyncio
import contextlib
import time

from portway.host.paths import Paths
from portway.host.routing_table import load

_LOOK_SECONDS = 2.0  # between looks for new names
_AGAIN_SECONDS = 3600.0
_FIRST_PAUSE_SECONDS = 10.0  # after a failure; the next is three times as long: authorities limit those, too
_VISIT_SECONDS = 150.0  # an authority may need minutes


class NameVisits:
    """Makes a TLS connection to each name, on this machine, every hour."""

    def __init__(self, paths: Paths, port: int, domain: str) -> None:
        self._paths = paths
        self._port = port
        self._domain = domain
        self._due: dict[str, float] = {}
        self._pauses: dict[str, float] = {}

    async def __aenter__(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def __aexit__(self, *_exception: object) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as visits:
            while True:
                await asyncio.sleep(_LOOK_SECONDS)
                table = await asyncio.to_thread(load, self._paths.routes)
                names = {self._domain, *(host for app in table.apps.values() for host in app.hosts)}
                self._due = {name: due for name, due in self._due.items() if name in names}
                for name in names:
                    if self._due.get(name, 0.0) <= time.monotonic():
                        self._due[name] = time.monotonic() + _AGAIN_SECONDS
                        visits.create_task(self._visit(name))

    async def _visit(self, name: str) -> None:
        """Connect to a name; whether its certificate is valid is for others to judge."""
        import ssl

        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        try:
            async with asyncio.timeout(_VISIT_SECONDS):
                _, writer = await asyncio.open_connection("127.0.0.1", self._port, ssl=context, server_hostname=name)
            writer.close()
        except OSError:  # Caddy says why
            pause = self._pauses.get(name, _FIRST_PAUSE_SECONDS)
            self._pauses[name] = min(3 * pause, _AGAIN_SECONDS)
            self._due[name] = time.monotonic() + pause
        else:
            self._pauses.pop(name, None)
