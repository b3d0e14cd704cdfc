"""The interface of the client's channels, the messages they carry, and the error for an answer that is no MCP."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

import msgspec
from msgspec import UNSET, Raw, UnsetType

from portway.client.errors import ClientError
from portway.protocol.errors import PeerError
from portway.protocol.jsonrpc import UNREADABLE, ErrorBody, encode_cancelled

T = TypeVar("T")
MESSAGE_BYTES = 64 * 1024 * 1024
"""The longest message taken from a server."""
NO_PARAMS = Raw(b"{}")


class Incoming(msgspec.Struct):
    """Any message of a server. Laxer than `protocol.jsonrpc.Message`: real servers send errors with id null."""

    id: int | str | None = None
    method: str | None = None
    params: Raw = NO_PARAMS
    result: Raw | UnsetType = UNSET
    error: ErrorBody | UnsetType = UNSET


@dataclass(slots=True, frozen=True)
class OutgoingCall:
    """A request to a server. `name` is the value of Mcp-Name; `version` is None before one is agreed on.

    `headers` are the Mcp-Param-* fields of a modern tools/call over HTTP.
    """

    id: int
    method: str
    name: str | None
    body: bytes
    version: str | None
    modern: bool
    headers: tuple[tuple[bytes, bytes], ...] = ()

    def cancellation(self) -> bytes:
        """Return the notification that cancels this call."""
        return encode_cancelled(self.id, "the caller gave up")


Handler = Callable[[Incoming], None]
"""Takes a request or notification of the server. A request is answered with `ClientChannel.notify`."""


class ClientChannel(Protocol):
    """Carries calls to one server. Its handler gets every message that is no reply to a call."""

    has_headers: bool
    """Whether requests have header fields."""

    async def request(self, call: OutgoingCall) -> Incoming:
        """Return the reply to `call`. When cancelled, tell the server. Raise ClientError or RpcError."""

    async def notify(self, body: bytes, version: str | None) -> None:
        """Send a notification, or the answer to a request of the server. Raise ClientError."""

    async def open_session_stream(self, version: str | None) -> None:
        """Receive what a legacy server sends outside any call, from now on. Return once that works."""

    async def close(self) -> None:
        """End the session and release everything opened for it."""


decode_incoming = msgspec.json.Decoder(Incoming).decode


def decode_params(params: Raw, kind: type[T]) -> T | None:
    """Decode the params of a notification. Return None for malformed ones, which are ignored."""
    try:
        return msgspec.json.decode(params, type=kind)
    except UNREADABLE:
        return None


def read_reply(data: bytes, call: OutgoingCall) -> Incoming:
    """Decode the reply to `call`. Raise ClientError if `data` is something else."""
    try:
        reply = decode_incoming(data)
    except UNREADABLE as error:
        raise ClientError(f"the server's answer to {call.method} is not a JSON-RPC message: {error}") from None
    if not is_reply(reply, call):
        raise ClientError(f"the server answered {call.method} with a message that is not its reply (id {reply.id!r})")
    return reply


def is_reply(message: Incoming, call: OutgoingCall) -> bool:
    """Return whether `message` answers `call`. An error may lack the id: the server could not read it."""
    if message.method is not None:
        return False
    if type(message.id) is int and message.id == call.id:
        return True
    return message.id is None and message.error is not UNSET


def raise_error(error: ErrorBody, status: int = 200) -> None:
    """Raise the JSON-RPC error of a server as PeerError."""
    raise PeerError(error.code, error.message, error.data, status=status)
