"""The one client of stdio, or of a test in memory: its messages in either era, its legacy session, its calls,
cancellation and subscriptions.

The connection has no legacy session until `initialize`; another `initialize` begins a new session and cancels the old
one's calls. A call is in flight from its request until it is answered or cancelled; a cancelled one gets no reply.
Specification: basic/versioning and basic/patterns (2026-07-28), basic/lifecycle (2025-11-25).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from msgspec import UNSET, Raw

from portway.auth.principal import ANONYMOUS, Principal
from portway.protocol.batch import BATCH_VERSION, is_batch, join, split
from portway.protocol.capabilities import declared
from portway.protocol.change_messages import notice
from portway.protocol.era import classify
from portway.protocol.errors import INTERNAL_ERROR, INVALID_PARAMS, INVALID_REQUEST, REFUSED, RpcError
from portway.protocol.headers import verify_envelope, verify_supported
from portway.protocol.jsonrpc import PREFIX, Message, UnreadableMessage, decode, encode_error
from portway.protocol.versions import LATEST_LEGACY, LATEST_MODERN, Era, negotiate
from portway.sessions.change_bus import Bus
from portway.sessions.exchange import Exchange
from portway.sessions.legacy_session import LegacySession
from portway.sessions.subscription import LISTEN

if TYPE_CHECKING:
    from collections.abc import Callable

    from portway.server.dispatcher import Dispatcher

    SendReply = Callable[[bytes | None], None]
    """Sends the reply to one call, by itself or in a batch; None for a cancelled call."""

LISTEN_LIMIT = 100
"""Subscriptions a client may have at a time."""
_CANCEL_SECONDS = 1.0
"""Longest time that cancelled calls get to end."""


class Output(Protocol):
    """Takes the messages for the client."""

    def write(self, line: bytes) -> None:
        """Take one message or several, a line each."""

    async def drained(self) -> None:
        """Wait until the client has read everything, or is gone."""


class StdioConnection:
    """The connection to the client that reads `output` and calls as `principal`."""

    def __init__(self, dispatcher: Dispatcher, output: Output, principal: Principal = ANONYMOUS) -> None:
        self.dispatcher = dispatcher
        self.bus = Bus(dispatcher.server.changes)
        self.calls: dict[int | str, StdioCall] = {}  # in flight
        self.listens = 0  # in flight
        self._output = output
        self._principal = principal
        self._session: LegacySession | None = None
        self._telling: asyncio.Task[None] | None = None

    def reply(self, body: bytes | None) -> None:
        """Write one message, or several with line breaks between them; nothing for a cancelled call."""
        if body is not None:
            self._output.write(body + b"\n")

    async def send(self, message: bytes) -> None:
        """Write what answers nothing; waits while the client does not read."""
        self.reply(message)
        await self._output.drained()

    async def finish(self, seconds: float) -> None:
        """End subscriptions and questions, answer what can be answered within `seconds`, and cancel the rest."""
        self.bus.close()
        if self._session is not None:
            self._session.close()
        if tasks := [call.task for call in self.calls.values()]:
            await asyncio.wait(tasks, timeout=seconds)
            self._cancel_calls()
            await asyncio.wait(tasks, timeout=_CANCEL_SECONDS)

    def take(self, line: bytes) -> None:
        """Take one line from the client: a message, a batch, or nothing."""
        if not line or line.isspace():
            return
        try:
            self._route(decode(line), line, self.reply)
        except UnreadableMessage as error:
            session = self._session
            if session is not None and session.version == BATCH_VERSION and is_batch(line):
                self._take_batch(line)
            elif session is None or not session.questions.spoil(error.request_id):
                self.reply(encode_error(error.request_id, error))

    def _take_batch(self, line: bytes) -> None:
        """Answer a batch with a batch: 2025-03-26 obliges a server to receive them."""
        try:
            parts = split(line)
        except RpcError as refusal:
            self.reply(encode_error(None, refusal))
            return
        replies: list[bytes] = []
        missing = sum(
            isinstance(part, UnreadableMessage) or (part.method is not UNSET and part.id is not UNSET)
            for _, part in parts
        )

        def reply(body: bytes | None) -> None:
            nonlocal missing
            missing -= 1
            if body is not None:
                replies.append(body)
            if not missing:
                self.reply(join(replies) or None)

        for body, part in parts:
            if isinstance(part, UnreadableMessage):
                reply(encode_error(part.request_id, part))
            else:
                self._route(part, body, reply)

    def _route(self, message: Message, body: bytes, reply: SendReply) -> None:
        """Start answering a request, act on a notification, or take the answer to a question."""
        if message.method is UNSET:
            if self._session is not None:
                self._session.questions.answer(message)
            return
        if message.id is UNSET:
            self._heed(message)
            return
        call = StdioCall(self, message.id, reply)
        try:
            exchange = self._admit(message, body, call)
        except RpcError as error:
            reply(encode_error(message.id, error))
            return
        call.start(exchange)

    def _heed(self, message: Message) -> None:
        session = self._session
        if message.method == "notifications/cancelled" and message.params is not UNSET:
            call = None if message.params.request_id is UNSET else self.calls.get(message.params.request_id)
            if call is not None:
                call.cancel()
        elif message.method == "notifications/initialized" and session is not None and self._telling is None:
            self._telling = asyncio.get_running_loop().create_task(self._tell_changes(session))

    async def _tell_changes(self, session: LegacySession) -> None:
        """Tell the client of a legacy session what changes; unasked-for only after `notifications/initialized`."""
        listener = session.listen()
        while changes := await listener.changes():
            await self.send(b"\n".join(notice(change.kind, change.uri) for change in changes))

    def _admit(self, message: Message, body: bytes, call: StdioCall) -> Exchange:
        """Return the exchange for a request. Raises RpcError for one that cannot be served here and now."""
        era, version = classify(message, None), LATEST_LEGACY
        if era is Era.MODERN:
            version = verify_envelope(message)
            verify_supported(version)
        elif message.method == "initialize":
            self._begin_session(message, body)
        elif self._session is None and message.method != "ping":
            raise RpcError(
                INVALID_PARAMS,
                f'params._meta lacks "{PREFIX}protocolVersion" ({LATEST_MODERN}), and no initialize came before.',
            )
        if call.id in self.calls:
            raise RpcError(INVALID_REQUEST, "A request with this id is still being answered.")
        if era is Era.LEGACY and self._session is not None:
            call.session = self._session
            version = self._session.version
        return Exchange(message, era, self._principal, call, body, version, call.session)

    def _begin_session(self, message: Message, body: bytes) -> None:
        """Begin the legacy session, in place of one that was open."""
        asked = UNSET if message.params is UNSET else message.params.version
        if asked is UNSET:  # the dispatcher refuses
            return
        client = declared(body)
        if self._session is not None:
            self._session.close()
            self._cancel_calls(self._session)
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None
        self._session = LegacySession(lambda: self.bus, negotiate(asked), client)
        self._session.listen()  # so that changes before `notifications/initialized` are not missed

    def _cancel_calls(self, session: LegacySession | None = None) -> None:
        """Cancel the calls in flight, or those of one session."""
        for call in list(self.calls.values()):
            if session is None or call.session is session:
                call.cancel()


class StdioCall:
    """One request being answered, and the channel of its handler's messages. `session` is a legacy client's."""

    __slots__ = ("_connection", "_reply", "id", "session", "task")

    task: asyncio.Task[None]

    def __init__(self, connection: StdioConnection, request_id: int | str, reply: SendReply) -> None:
        self._connection = connection
        self._reply = reply
        self.id = request_id
        self.session: LegacySession | None = None

    def start(self, exchange: Exchange) -> None:
        """Have the request answered in a task of its own."""
        self._connection.calls[self.id] = self
        self.task = asyncio.get_running_loop().create_task(self._run(exchange))

    def cancel(self) -> None:
        """Stop the handler. Whatever it does with that, the call gets no reply and no notification any more."""
        if self._open:
            self._end(None)
            self.task.cancel()

    async def notify(self, message: bytes) -> None:
        """Send a notification that belongs to this call."""
        if self._open:
            await self._connection.send(message)

    async def ask(self, method: str, params: bytes) -> Raw:
        """Ask the client of a legacy session and return its result. Raises RpcError as `PendingQuestions.ask`."""
        if self.session is None or not self._open:
            raise RpcError(INTERNAL_ERROR, "This call has no client that could be asked.", status=200)
        return await self.session.questions.ask(self._connection.send, method, params)

    async def close_stream(self, retry: int | None) -> None:
        """Do nothing: a call over stdio has no stream of its own."""

    @property
    def _open(self) -> bool:
        """Whether the call is in flight."""
        return self._connection.calls.get(self.id) is self

    def _end(self, body: bytes | None) -> None:
        del self._connection.calls[self.id]
        self._reply(body)

    async def _run(self, exchange: Exchange) -> None:
        listens = exchange.era is Era.MODERN and exchange.message.method == LISTEN
        try:
            body = await (self._listen(exchange) if listens else self._connection.dispatcher.dispatch(exchange))
        except RpcError as error:
            body = encode_error(self.id, error)
        if self._open:
            self._end(body)

    async def _listen(self, exchange: Exchange) -> bytes:
        """Send changes until the server stops, or the client cancels or is too slow."""
        connection = self._connection
        if connection.listens >= LISTEN_LIMIT:
            text = f"No more than {LISTEN_LIMIT} subscriptions are served at a time; cancel one first."
            raise RpcError(REFUSED, text, status=429)
        subscription = connection.dispatcher.subscribe(connection.bus, exchange)
        connection.listens += 1
        try:
            await self.notify(subscription.ack)
            while frames := await subscription.frames():
                await self.notify(b"\n".join(frames))
            await self.notify(subscription.cancelled)
            return subscription.result
        finally:
            subscription.close()
            connection.listens -= 1
