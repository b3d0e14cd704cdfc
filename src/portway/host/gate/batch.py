"""A batch of JSON-RPC messages, which revision 2025-03-26 obliges to receive: each element is a call of its own."""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

from portway.http.asgi import Message, Receive, Send
from portway.protocol.errors import INVALID_REQUEST, RpcError
from portway.protocol.jsonrpc import encode_error
from portway.protocol.sse import EventParser

VERSION = b"2025-03-26"
_LIMIT = 100

_parts = msgspec.json.Decoder(list[msgspec.Raw]).decode


class _Method(msgspec.Struct):
    method: object = None


class _Element:
    """One element as a request: what it says, and the reply to it."""

    def __init__(self, body: bytes) -> None:
        self._body: bytes | None = body
        self._reply = b""
        self._streamed = False

    async def receive(self) -> Message:
        body, self._body = self._body, None
        if body is None:
            await asyncio.Event().wait()  # the element does not leave; who waits for that is cancelled in time
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._streamed = any(value.startswith(b"text/event-stream") for _, value in message["headers"])
        else:
            self._reply += message.get("body", b"")

    def reply(self) -> bytes:
        """The JSON-RPC reply, empty where none is due."""
        events = EventParser().feed(self._reply) if self._streamed else [self._reply]
        return events[-1] if events else b""


async def answer(body: bytes, serve: Callable[[Receive, Send], Awaitable[None]]) -> bytes:
    """The array of replies to the batch in `body`, empty when no element wants one; `serve` answers one element.

    Raises RpcError (INVALID_REQUEST) for what is no batch of 1 to 100 elements.
    """
    try:
        parts = [bytes(part).strip() for part in _parts(body)]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        parts = []
    if not 0 < len(parts) <= _LIMIT:
        raise RpcError(INVALID_REQUEST, f"A batch must be a JSON array of 1 to {_LIMIT} messages.")
    replies: list[bytes] = []
    for part in parts:
        if not part.startswith(b"{") or msgspec.json.decode(part, type=_Method).method == "initialize":
            error = RpcError(INVALID_REQUEST, "An element of a batch must be a message, and not initialize.")
            replies.append(encode_error(None, error))
            continue
        element = _Element(part)
        await serve(element.receive, element.send)
        replies.append(element.reply())
    replies = [reply for reply in replies if reply]
    return b"[%b]" % b",".join(replies) if replies else b""
