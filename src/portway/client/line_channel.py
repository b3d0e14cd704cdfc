"""A channel that carries one message per line, over a child's pipes or in memory: replies are matched to requests."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod

from portway.client.channel import Handler, Incoming, OutgoingCall, decode_incoming
from portway.protocol.jsonrpc import UNREADABLE


class LineChannel(ABC):
    """Matches replies to requests by their ids."""

    has_headers = False

    def __init__(self, handler: Handler) -> None:
        self.waiting: dict[int, asyncio.Future[Incoming]] = {}
        self._handler = handler

    @abstractmethod
    def post(self, body: bytes) -> None:
        """Send a message without waiting."""

    @abstractmethod
    async def drain(self) -> None:
        """Wait while the server is slow to read."""

    async def request(self, call: OutgoingCall) -> Incoming:
        """Send a request and return its reply."""
        waiter: asyncio.Future[Incoming] = asyncio.get_running_loop().create_future()
        self.waiting[call.id] = waiter
        try:
            await self.notify(call.body, None)
            return await waiter
        except asyncio.CancelledError:
            if call.method != "initialize":
                self.post(call.cancellation())
            raise
        finally:
            del self.waiting[call.id]

    async def notify(self, body: bytes, version: str | None) -> None:
        """Send a notification, or the answer to a request of the server."""
        self.post(body)
        await self.drain()

    async def open_session_stream(self, version: str | None) -> None:  # noqa: B027 - not abstract: there is nothing to do
        """Do nothing: all messages come by themselves."""

    def take(self, line: bytes) -> None:
        """Take a message of the server. Ignore other lines, which a server may print."""
        try:
            message = decode_incoming(line)
        except UNREADABLE:
            return
        if message.method is not None:
            self._handler(message)
        elif isinstance(message.id, int) and (waiter := self.waiting.get(message.id)) and not waiter.done():
            waiter.set_result(message)
