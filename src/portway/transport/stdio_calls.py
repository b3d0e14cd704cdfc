"""The calls of a stdio connection: each answered in a task of its own, its reply alone or in a batch."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from msgspec import Raw

from portway.protocol.errors import INTERNAL_ERROR, REFUSED, RpcError
from portway.protocol.jsonrpc import encode_error
from portway.protocol.versions import Era
from portway.sessions.exchange import Exchange
from portway.sessions.legacy_session import LegacySession
from portway.sessions.subscription import LISTEN

if TYPE_CHECKING:
    from portway.transport.stdio import Connection

LISTEN_LIMIT = 100
"""Subscriptions a client may have at a time."""


class Outbox(Protocol):
    """Where a reply goes: the wire, or the batch it belongs to."""

    def reply(self, body: bytes | None) -> None:
        """Take the reply to one call; None for a cancelled one, which gets none."""


class Batch:
    """Collects the replies to a batch, and sends them as one when the last is there."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._replies: list[bytes] = []
        self._missing = 1  # the batch itself, until it is read to its end

    def expect(self) -> None:
        """One more reply will come."""
        self._missing += 1

    def reply(self, body: bytes | None) -> None:
        """Take one of the replies."""
        self._missing -= 1
        if body is not None:
            self._replies.append(body)
        if not self._missing and self._replies:
            self._connection.reply(b"[%b]" % b",".join(self._replies))


class Call:
    """One request being answered, and the channel of its handler's messages. `session` is a legacy client's."""

    __slots__ = ("_connection", "_outbox", "id", "session", "task")

    def __init__(self, connection: Connection, request_id: int | str, outbox: Outbox) -> None:
        self._connection = connection
        self._outbox = outbox
        self.id = request_id
        self.session: LegacySession | None = None
        self.task: asyncio.Task[None] | None = None

    def start(self, exchange: Exchange) -> None:
        """Have the request answered in a task of its own."""
        self.task = asyncio.get_running_loop().create_task(self._run(exchange))

    def cancel(self) -> None:
        """Stop the handler. Whatever it does with that, the call gets no reply and no notification any more."""
        if self._connection.forget(self) and self.task is not None:
            self.task.cancel()
            self._outbox.reply(None)

    async def notify(self, message: bytes) -> None:
        """Send a notification that belongs to this call."""
        if self._connection.holds(self):
            await self._connection.send(message)

    async def ask(self, method: str, params: bytes) -> Raw:
        """Ask the client of a legacy session, and give its result; raises RpcError as `Pending.ask`."""
        if self.session is None or not self._connection.holds(self):
            raise RpcError(INTERNAL_ERROR, "This call has no client that could be asked.", status=200)
        return await self.session.pending.ask(self._connection.send, method, params)

    async def close_stream(self, retry: int | None) -> None:
        """Nothing: a pipe has no stream of the call's own."""

    async def _run(self, exchange: Exchange) -> None:
        listens = exchange.era is Era.MODERN and exchange.message.method == LISTEN
        try:
            body = await (self._listen(exchange) if listens else self._connection.dispatcher.dispatch(exchange))
        except RpcError as error:
            body = encode_error(self.id, error)
        if self._connection.forget(self):
            self._outbox.reply(body)

    async def _listen(self, exchange: Exchange) -> bytes:
        """Tell of changes until the server stops, the client cancels or takes them too slowly."""
        connection = self._connection
        if connection.listens >= LISTEN_LIMIT:
            text = f"No more than {LISTEN_LIMIT} subscriptions are served at a time; cancel one first."
            raise RpcError(REFUSED, text, status=429)
        connection.listens += 1
        try:
            listen = connection.dispatcher.subscribe(connection.bus, exchange)
            try:
                await self.notify(listen.ack)
                while frames := await listen.frames():
                    await self.notify(b"\n".join(frames))
                await self.notify(listen.cancelled)
                return listen.result
            finally:
                listen.close()
        finally:
            connection.listens -= 1
