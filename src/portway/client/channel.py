"""What the two channels of the client share: the outgoing call, the incoming message, and the errors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import msgspec
from msgspec import UNSET, Raw, UnsetType

from portway.protocol.errors import RpcError
from portway.protocol.jsonrpc import ErrorBody, encode_notification

MESSAGE_BYTES = 64 * 1024 * 1024
"""The longest message taken from a server."""


UNREADABLE = (ValueError, RecursionError)
"""What decoding raises for bytes that are no message: no JSON, no UTF-8, not of the type, too deep."""


class ClientError(Exception):
    """The server could not be reached or understood; `status` is the HTTP status when that is what was wrong."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class SessionLost(ClientError):
    """The server no longer knows the session (404, 2025-11-25 basic/transports): a new handshake mends it."""


class Incoming(msgspec.Struct):
    """Any message of a server. Laxer than `protocol.jsonrpc.Message`: servers in the field send errors with id null."""

    id: int | str | None = None
    method: str | None = None
    params: Raw | UnsetType = UNSET
    result: Raw | UnsetType = UNSET
    error: ErrorBody | UnsetType = UNSET


@dataclass(slots=True, frozen=True)
class Call:
    """A request on its way: `name` is what Mcp-Name says; `version` is None before a version is agreed on.

    `headers` are the Mcp-Param-* fields of a modern tools/call over HTTP.
    """

    id: int
    method: str
    name: str | None
    body: bytes
    version: str | None
    modern: bool
    headers: tuple[tuple[bytes, bytes], ...] = ()


Handler = Callable[[Incoming], None]
"""Takes a request or notification of the server; the answer to a request is sent with `Channel.notify`."""


class Channel(Protocol):
    """Carries calls to one server. The handler gets every message that is no reply to a call."""

    has_headers: bool
    """Whether a request has header fields."""

    async def request(self, call: Call) -> Incoming:
        """The reply to `call`. Being cancelled tells the server in the era's way. Raises ClientError or RpcError."""

    async def notify(self, body: bytes, version: str | None) -> None:
        """Send a notification, or the answer to a request of the server. Raises ClientError."""

    async def attend(self, version: str | None) -> None:
        """From now on, take what a legacy server says outside of any call; returns when it can."""

    async def close(self) -> None:
        """End the session and whatever was started for it."""


decode_incoming = msgspec.json.Decoder(Incoming).decode


def read_reply(data: bytes, call: Call) -> Incoming:
    """The reply to `call` in `data`; ClientError when it is none."""
    try:
        reply = decode_incoming(data)
    except UNREADABLE as error:
        raise ClientError(f"the server's answer to {call.method} is no JSON-RPC message: {error}") from None
    if not is_reply(reply, call):
        raise ClientError(f"the server answered {call.method} with a message that is no reply to it (id {reply.id!r})")
    return reply


def is_reply(message: Incoming, call: Call) -> bool:
    """Whether `message` answers `call`; an error may lack the id, when the server could not read it."""
    if message.method is not None:
        return False
    if type(message.id) is int and message.id == call.id:
        return True
    return message.id is None and message.error is not UNSET


def cancelled(call: Call) -> bytes:
    """The notification that cancels `call`."""
    return encode_notification("notifications/cancelled", b'{"requestId":%d,"reason":"the caller gave up"}' % call.id)


def raise_error(error: ErrorBody, status: int = 200) -> None:
    """Raise the JSON-RPC error a server sent."""
    raise RpcError(error.code, error.message, error.data, status=status)
