"""A round-robin load balancer: every request goes to the next replica, on its own connection."""

from __future__ import annotations

import asyncio
import re
import zlib
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from tests.connection_server import serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_SESSION = re.compile(rb"(?i)\r\nmcp-session-id: *([^\r\n]+)")
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_CONNECTION = re.compile(rb"(?i)\r\nconnection:[^\r\n]*")


class Balancer:
    """Forwards requests to the replicas on `ports`; `by_session`: those of a legacy session all go to the same one."""

    def __init__(self, ports: list[int], *, by_session: bool) -> None:
        self.ports = ports
        self.url = ""
        self._by_session = by_session
        self._turn = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(head)
        body = await reader.readexactly(int(length[1])) if length else b""
        answers, upstream = await asyncio.open_connection("127.0.0.1", self._next(head))
        try:
            upstream.write(_CONNECTION.sub(b"", head)[:-2] + b"Connection: close\r\n\r\n" + body)
            tasks = asyncio.ensure_future(self._relay(answers, writer)), asyncio.ensure_future(reader.read(1))
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            upstream.close()

    def _next(self, head: bytes) -> int:
        session = _SESSION.search(head)
        if self._by_session and session:
            return self.ports[zlib.crc32(session[1]) % len(self.ports)]
        self._turn += 1
        return self.ports[self._turn % len(self.ports)]

    async def _relay(self, answers: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await answers.read(65536):
            writer.write(piece)
            await writer.drain()


@asynccontextmanager
async def balanced(*ports: int, by_session: bool = False) -> AsyncIterator[Balancer]:
    """Run a balancer over `ports` while the block lasts."""
    balancer = Balancer(list(ports), by_session=by_session)
    async with serving(balancer.serve) as port:
        balancer.url = f"http://127.0.0.1:{port}/mcp"
        yield balancer
