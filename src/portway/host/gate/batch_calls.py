"""Answers JSON-RPC batches at the gate: each element is handled as a call of its own."""

from collections.abc import Awaitable, Callable

from portway.host.gate.reply_stream import one_line
from portway.host.gate.request_ids import is_reply
from portway.http.asgi import Message, Receive, Send
from portway.http.event_stream import EventParser, EventStream
from portway.protocol.batch import BATCH_VERSION, join, split
from portway.protocol.jsonrpc import UnreadableMessage, encode_error

VERSION = BATCH_VERSION.encode()
_HELD = 1024 * 1024  # bytes of replies kept for the array; beyond, they are streamed


class _Replies:
    """The replies to a batch: one array, unless an element sends other messages or too much; then an event stream."""

    def __init__(self, stream: EventStream) -> None:
        self.held: list[bytes] = []
        self._size = 0
        self._stream = stream

    async def add(self, reply: bytes) -> None:
        self.held.append(reply)
        self._size += len(reply)
        if self._stream.opened or self._size > _HELD:
            await self._flush()

    async def add_other(self, message: bytes) -> None:
        await self._flush()
        await self._stream.event(message)

    async def _flush(self) -> None:
        for reply in self.held:
            await self._stream.event(one_line(reply))
        self.held.clear()


class _Element:
    """One element of a batch in the role of an HTTP request: its `receive` and `send` (ASGI)."""

    def __init__(self, body: bytes, receive: Receive, replies: _Replies) -> None:
        self._body: bytes | None = body
        self._receive = receive
        self._replies = replies
        self._reply = b""
        self._events: EventParser | None = None

    async def receive(self) -> Message:
        body, self._body = self._body, None
        if body is None:
            return await self._receive()  # which returns when the client leaves
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            if any(value.startswith(b"text/event-stream") for _, value in message["headers"]):
                self._events = EventParser()
            return
        if self._events is None:
            self._reply += message.get("body", b"")
        for event in self._events.feed(message.get("body", b"")) if self._events is not None else ():
            if event.data:
                await (self._replies.add(event.data) if is_reply(event.data) else self._replies.add_other(event.data))
        if self._reply and not message.get("more_body", False):
            await self._replies.add(self._reply)


async def answer(
    body: bytes, serve: Callable[[Receive, Send], Awaitable[None]], receive: Receive, stream: EventStream
) -> bytes:
    """Answer the batch in `body`; return the array of replies, empty when there are none or `stream` carried them.

    `serve` answers one element; `receive` is that of the batch, whose body has been read. Raises RpcError when `body`
    is not a valid batch.
    """
    replies = _Replies(stream)
    for part, message in split(body):
        if isinstance(message, UnreadableMessage):
            await replies.add(encode_error(message.request_id, message))
            continue
        element = _Element(part, receive, replies)
        await serve(element.receive, element.send)
    if stream.opened:
        await stream.close()
        return b""
    return join(replies.held)
