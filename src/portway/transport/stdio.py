"""MCP over standard input and output: one client, both eras, each message in the era it is written in.

Specification: basic/transports (stdio), basic/versioning and basic/patterns, 2026-07-28; basic/lifecycle, 2025-11-25.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from msgspec import UNSET

from portway.auth.principal import ANONYMOUS
from portway.protocol.batch import BATCH_VERSION, split
from portway.protocol.capabilities import declared
from portway.protocol.era import classify
from portway.protocol.errors import INVALID_PARAMS, INVALID_REQUEST, RpcError
from portway.protocol.headers import verify_envelope, verify_supported
from portway.protocol.jsonrpc import PREFIX, Message, UnreadableMessage, decode, encode_error
from portway.protocol.sealing import Keys
from portway.protocol.subscriptions import notice
from portway.protocol.versions import LATEST_LEGACY, LATEST_MODERN, Era, negotiate
from portway.server.dispatcher import Dispatcher
from portway.sessions.change_bus import Bus
from portway.sessions.exchange import Exchange
from portway.sessions.legacy_session import LegacySession
from portway.transport import parent_watch
from portway.transport.pipes import Lines, Reader, Wire, Writer, claim
from portway.transport.stdio_calls import Batch, Call, Outbox

if TYPE_CHECKING:
    from portway.server.server import BaseServer

LINE_BYTES = 16 * 1024 * 1024
"""The longest message taken from the client."""
_FINISH_SECONDS = 1.5
"""For calls in flight when the client closes its end; it waits two seconds before it sends a signal."""
_CANCEL_SECONDS = 1.0
_log = logging.getLogger("portway.transport")


def serve(server: BaseServer, wire: Wire | None = None, keys: Keys | None = None) -> None:
    """Serve the client at standard input and output until it closes them or dies. Blocking.

    Raises SystemExit when a lifespan fails to start.
    """
    wire = wire or claim()
    parent_watch.watch(wire.reader)
    try:
        asyncio.run(_serve(server, wire, keys or Keys.random()))
    except KeyboardInterrupt:
        pass  # a terminal's Ctrl-C reaches the client too: there is nobody to answer


async def _serve(server: BaseServer, wire: Wire, keys: Keys) -> None:
    dispatcher = Dispatcher(server, keys)
    try:
        await dispatcher.open()
    except Exception as error:  # noqa: BLE001 - whatever an author's code raises
        _log.exception("the lifespan of %s failed", server.name)
        text = f"the lifespan of {server.name} raised {type(error).__name__}: {error}"
        raise SystemExit(f"portway: {text}") from None
    connection = Connection(dispatcher, wire)
    await connection.ended.wait()
    await connection.finish()
    await dispatcher.close()


class Connection:
    """The one client: its legacy session, if it opened one, and its calls in flight."""

    def __init__(self, dispatcher: Dispatcher, wire: Wire) -> None:
        self.ended = asyncio.Event()
        self.dispatcher = dispatcher
        self.bus = Bus(dispatcher.server.changes)
        self.listens = 0  # in flight
        self._session: LegacySession | None = None
        self._telling: asyncio.Task[None] | None = None
        self._calls: dict[int | str, Call] = {}
        self._loop = asyncio.get_running_loop()
        self._lines = Lines(LINE_BYTES, self._take, self._refuse_oversize)
        self._reader = Reader(wire.reader, self._arrived)
        self._writer = Writer(wire.writer, self._reader.pause, self._reader.resume)

    def reply(self, body: bytes | None) -> None:
        """Write one message, or several with line breaks between them."""
        if body is not None:
            self._writer.write(body + b"\n")
            if self._writer.broken:
                self.ended.set()

    async def send(self, message: bytes) -> None:
        """Write what answers nothing; waits while the client does not read."""
        self.reply(message)
        await self._writer.drained()

    async def finish(self) -> None:
        """Answer what can be answered at once, cancel the rest, and hand the client what it still reads."""
        self.bus.close()  # ends every subscription
        if self._session is not None:
            self._session.close()  # nobody is left to answer a question
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
            self._route(decode(line), line, self)
        except UnreadableMessage as error:
            session = self._session
            if session is not None and session.version == BATCH_VERSION and line.lstrip()[:1] == b"[":
                self._take_batch(line)
            elif session is None or not session.pending.spoil(error.request_id):
                self.reply(encode_error(error.request_id, error))

    def _route(self, message: Message, body: bytes, outbox: Outbox) -> None:
        """Start answering a request, act on a notification, or take the answer to a question."""
        if message.method is UNSET:
            if self._session is not None:
                self._session.pending.answer(message)
            return
        if message.id is UNSET:
            self._heed(message)
            return
        call = Call(self, message.id, outbox)
        try:
            exchange = self._admit(message, body, call)
        except RpcError as error:
            outbox.reply(encode_error(message.id, error))
            return
        self._calls[message.id] = call
        call.start(exchange)

    def _heed(self, message: Message) -> None:
        session = self._session
        if message.method == "notifications/cancelled" and message.params is not UNSET:
            call = None if message.params.request_id is UNSET else self._calls.get(message.params.request_id)
            if call is not None:
                call.cancel()
        elif message.method == "notifications/initialized" and session is not None and self._telling is None:
            self._telling = self._loop.create_task(self._tell(session))

    async def _tell(self, session: LegacySession) -> None:
        """Tell the client of a legacy session what changes; unasked-for only after `notifications/initialized`."""
        while changes := await session.listener.changes():
            await self.send(b"\n".join(notice(change.kind, change.uri) for change in changes))

    def _admit(self, message: Message, body: bytes, call: Call) -> Exchange:
        """The exchange for a request; raises RpcError for one that cannot be served here and now."""
        era, version = classify(message, None), LATEST_LEGACY
        if era is Era.MODERN:
            version = verify_envelope(message)
            verify_supported(version)
        elif message.method == "initialize":
            self._restart(message, body)
        elif self._session is None and message.method != "ping":
            raise RpcError(
                INVALID_PARAMS,
                f'params._meta lacks "{PREFIX}protocolVersion" ({LATEST_MODERN}), and no initialize came before.',
            )
        if message.id in self._calls:
            raise RpcError(INVALID_REQUEST, "A request with this id is still being answered.")
        if era is Era.LEGACY and self._session is not None:
            call.session = self._session
            version = self._session.version
        return Exchange(message, era, ANONYMOUS, call, body, version, call.session)

    def _restart(self, message: Message, body: bytes) -> None:
        """Open the legacy session, in place of one that was open: its calls end without a reply."""
        asked = UNSET if message.params is UNSET else message.params.version
        if asked is UNSET:  # the dispatcher refuses
            return
        capabilities = declared(body)
        if self._session is not None:
            self._session.close()
            for call in list(self._calls.values()):
                if call.session is self._session:
                    call.cancel()
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None
        self._session = LegacySession(self.bus, negotiate(asked), capabilities)

    def _take_batch(self, line: bytes) -> None:
        """Answer a batch with a batch: 2025-03-26 obliges a server to receive them."""
        try:
            parts = split(line)
        except RpcError as refusal:
            self.reply(encode_error(None, refusal))
            return
        batch = Batch(self)
        for body, part in parts:
            if isinstance(part, UnreadableMessage):
                batch.expect()
                batch.reply(encode_error(part.request_id, part))
                continue
            if part.method is not UNSET and part.id is not UNSET:
                batch.expect()
            self._route(part, body, batch)
        batch.reply(None)
