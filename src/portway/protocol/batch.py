"""JSON-RPC batches: split, of 100 messages at most, and joined. A server must accept them in revision 2025-03-26; every
later one forbids them.
"""

from collections.abc import Sequence

import msgspec
from msgspec import Raw

from portway.protocol.errors import INVALID_REQUEST, RpcError
from portway.protocol.jsonrpc import UNREADABLE, Message, UnreadableMessage, decode

BATCH_VERSION = "2025-03-26"
BATCH_LIMIT = 100
"""Messages in one batch."""


def is_batch(body: bytes) -> bool:
    """Return whether a body is a JSON array, if it is JSON."""
    return body[:1] != b"{" and body.lstrip()[:1] == b"["


def join(replies: Sequence[bytes]) -> bytes:
    """Return the batch of these replies, empty bytes if there are none."""
    return b"[%b]" % b",".join(replies) if replies else b""


def split(body: bytes) -> list[tuple[bytes, Message | UnreadableMessage]]:
    """Return the messages of a batch with their bytes; in place of a bad message, the error that answers it.

    Raises RpcError for what is no batch.
    """
    try:
        parts = msgspec.json.decode(body, type=list[Raw])
    except UNREADABLE:
        parts = []
    if not 0 < len(parts) <= BATCH_LIMIT:
        raise RpcError(INVALID_REQUEST, f"A batch must be a JSON array of 1 to {BATCH_LIMIT} messages.")
    return [(part, _read(part)) for part in map(bytes, parts)]


def _read(part: bytes) -> Message | UnreadableMessage:
    try:
        message = decode(part)
    except UnreadableMessage as error:
        return error
    if message.method == "initialize":
        request_id = None if message.id is msgspec.UNSET else message.id
        return UnreadableMessage(INVALID_REQUEST, "initialize must not be part of a batch.", request_id)
    return message
