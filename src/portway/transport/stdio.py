"""MCP over standard input and output: one client, both eras, each message in the era it is written in.

Specification: basic/transports (stdio) and basic/versioning, 2026-07-28; basic/lifecycle, 2025-11-25.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

import msgspec
from msgspec import UNSET, Raw, UnsetType

from portway.auth.principal import ANONYMOUS
from portway.protocol.era import classify
from portway.protocol.errors import INVALID_PARAMS, INVALID_REQUEST, RpcError
from portway.protocol.headers import verify_envelope, verify_supported
from portway.protocol.jsonrpc import PREFIX, Message, UnreadableMessage, decode, encode_error
from portway.protocol.versions import LATEST_LEGACY, LATEST_MODERN, LEGACY_VERSIONS, Era
from portway.server.context import Exchange
from portway.server.dispatch import Dispatcher
from portway.transport import orphan
from portway.transport.pipes import Lines, Reader, Wire, Writer, claim

if TYPE_CHECKING:
    from portway.server.server import Server

LINE_BYTES = 16 * 1024 * 1024
"""The longest message taken from the client."""
_BATCH_VERSION = "2025-03-26"
_BATCH_LIMIT = 100
_FINISH_SECONDS = 1.5
"""For calls in flight when the client closes its end; it waits two seconds before it sends a signal."""
_CANCEL_SECONDS = 1.0


def serve(server: Server, wire: Wire | None = None) -> None:
    """Serve the client at standard input and output until it closes them or dies. Blocking."""
    wire = wire or claim()
    orphan.watch(wire.reader)
    try:
        asyncio.run(_serve(server, wire))
    except KeyboardInterrupt:
        pass  # a terminal's Ctrl-C reaches the client too: there is nobody to answer


async def _serve(server: Server, wire: Wire) -> None:
    dispatcher = Dispatcher(server)
    connection = Connection(dispatcher, wire)
    await connection.ended.wait()
    await connection.finish()
    dispatcher.close()


class Outbox(Protocol):
    """Where a reply goes: the wire, or the batch it belongs to."""

    def reply(self, body: bytes | None) -> None:
        """Take the reply to one call; None for a cancelled one, which gets none."""


class Connection:
    """The one client: its legacy session, if it opened one, and its calls in flight."""

    def __init__(self, dispatcher: Dispatcher, wire: Wire) -> None:
        self.ended = asyncio.Event()
        self.dispatcher = dispatcher
        self._legacy: str | None = None  # the version `initialize` agreed on
        self._calls: dict[int | str, Call] = {}
        self._loop = asyncio.get_running_loop()
        self._lines = Lines(LINE_BYTES, self._take, self._refuse_oversize)
        self._reader = Reader(wire.reader, self._arrived)
        self._writer = Writer(wire.writer, self._reader.pause, self._reader.resume)

    def reply(self, body: bytes | None) -> None:
        """Write one message."""
        if body is not None:
            self._writer.write(body + b"\n")
            if self._writer.broken:
                self.ended.set()

    async def notify(self, message: bytes) -> None:
        """Write a notification of a call; waits while the client does not read."""
        self.reply(message)
        await self._writer.drained()

    async def finish(self) -> None:
        """Answer what can be answered at once, cancel the rest, and hand the client what it still reads."""
        tasks = {call.task for call in self._calls.values() if call.task is not None}
        if tasks and not self._writer.broken:
            _, tasks = await asyncio.wait(tasks, timeout=_FINISH_SECONDS)
        for call in list(self._calls.values()):
            call.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_CANCEL_SECONDS)
        try:
            async with asyncio.timeout(_CANCEL_SECONDS):
                await self._writer.drained()
        except TimeoutError:
            pass

    def holds(self, call: Call) -> bool:
        """Whether a call is still to be answered; one that was cancelled is not."""
        return self._calls.get(call.id) is call

    def forget(self, call: Call) -> bool:
        """Take a call off the list; whether it was still on it."""
        held = self.holds(call)
        if held:
            del self._calls[call.id]
        return held

    def _arrived(self, data: bytes) -> None:
        if data:
            self._lines.feed(data)
        else:
            self._lines.finish()
            self.ended.set()

    def _refuse_oversize(self) -> None:
        self.reply(encode_error(None, RpcError(INVALID_REQUEST, f"A message is longer than {LINE_BYTES} bytes.")))

    def _take(self, line: bytes) -> None:
        """Take one line: a message, a batch, or nothing."""
        if not line or line.isspace():
            return
        try:
            self._route(decode(line), self)
        except UnreadableMessage as error:
            if self._legacy == _BATCH_VERSION and line.lstrip()[:1] == b"[":
                self._take_batch(line)
            else:
                self.reply(encode_error(error.request_id, error))

    def _route(self, message: Message, outbox: Outbox) -> None:
        """Start answering a request, or act on a notification; a response answers nothing this server asked."""
        if message.method is UNSET:
            return
        if message.id is UNSET:
            if message.method == "notifications/cancelled" and message.params is not UNSET:
                self._cancel(message.params.request_id)
            return
        call = Call(self, message.id, outbox)
        try:
            exchange = self._admit(message, call)
        except RpcError as error:
            outbox.reply(encode_error(message.id, error))
            return
        self._calls[message.id] = call
        call.start(exchange)

    def _admit(self, message: Message, call: Call) -> Exchange:
        """The exchange for a request; raises RpcError for one that cannot be served here and now."""
        if message.id in self._calls:
            raise RpcError(INVALID_REQUEST, "A request with this id is still being answered.")
        era = classify(message, None)
        if era is Era.MODERN:
            verify_supported(verify_envelope(message))
        elif message.method == "initialize":
            self._open_session(message)
        elif self._legacy is None and message.method != "ping":
            raise RpcError(
                INVALID_PARAMS,
                f'params._meta lacks "{PREFIX}protocolVersion" ({LATEST_MODERN}), and no initialize came before.',
            )
        return Exchange(message, era, ANONYMOUS, call)

    def _open_session(self, message: Message) -> None:
        asked = UNSET if message.params is UNSET else message.params.version
        if asked is not UNSET:  # or else the dispatcher refuses
            self._legacy = asked if asked in LEGACY_VERSIONS else LATEST_LEGACY

    def _cancel(self, request_id: int | str | UnsetType) -> None:
        call = None if request_id is UNSET else self._calls.get(request_id)
        if call is not None:
            call.cancel()

    def _take_batch(self, line: bytes) -> None:
        """Answer a batch with a batch: 2025-03-26 obliges a server to receive them."""
        try:
            parts = msgspec.json.decode(line, type=list[Raw])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            parts = []
        if not 0 < len(parts) <= _BATCH_LIMIT:
            refusal = RpcError(INVALID_REQUEST, f"A batch must be a JSON array of 1 to {_BATCH_LIMIT} messages.")
            self.reply(encode_error(None, refusal))
            return
        batch = Batch(self)
        for part in parts:
            try:
                message = decode(bytes(part))
                if message.method == "initialize":
                    request_id = None if message.id is UNSET else message.id
                    raise UnreadableMessage(INVALID_REQUEST, "initialize must not be part of a batch.", request_id)
            except UnreadableMessage as error:
                batch.expect()
                batch.reply(encode_error(error.request_id, error))
                continue
            if message.method is not UNSET and message.id is not UNSET:
                batch.expect()
            self._route(message, batch)
        batch.reply(None)


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
    """One request being answered, and the channel its handler's notifications go through."""

    __slots__ = ("_connection", "_outbox", "id", "task")

    def __init__(self, connection: Connection, request_id: int | str, outbox: Outbox) -> None:
        self._connection = connection
        self._outbox = outbox
        self.id = request_id
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
            await self._connection.notify(message)

    async def _run(self, exchange: Exchange) -> None:
        try:
            body = await self._connection.dispatcher.dispatch(exchange)
        except RpcError as error:
            body = encode_error(self.id, error)
        if self._connection.forget(self):
            self._outbox.reply(body)
