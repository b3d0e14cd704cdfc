"""JSON-RPC ids: replaced by fresh ones on the way to an instance, restored on the way back.

Two clients may choose the same id, so an instance sees only ids that the gate made. Outside a session a fresh id is a
number that the gate remembers while the call lasts. In a session the reply may come on another stream, even through a
gate that was started since, so there the fresh id contains the client's own.
"""

import itertools
import re
import time

import msgspec
from msgspec import UNSET, Raw, UnsetType

from portway.http.http_client import BrokenResponse
from portway.protocol.jsonrpc import UNREADABLE, encode_id, encode_request


class _Params(msgspec.Struct):
    params: Raw | UnsetType = UNSET


class _Reply(msgspec.Struct):
    id: int | str | UnsetType | None = UNSET
    method: str | UnsetType = UNSET
    result: Raw | UnsetType = UNSET
    error: Raw | UnsetType = UNSET


class _Error(msgspec.Struct):
    code: int


class _Result(msgspec.Struct):
    isError: bool = False


_params = msgspec.json.Decoder(_Params).decode
_reply = msgspec.json.Decoder(_Reply).decode
_error = msgspec.json.Decoder(_Error).decode
_result = msgspec.json.Decoder(_Result).decode
_id = msgspec.json.Decoder(int | str).decode
_encode = msgspec.json.encode

# The start time in the high bits keeps the ids apart from those of an earlier gate that may be in use. Below 2^53.
_fresh = itertools.count(int(time.time()) << 20)


_MARK = "portway."  # prefix of the fresh ids of sessions' calls
_IS_ERROR = b'"isError"'
_SUBSCRIPTION = re.compile(rb'("io\.modelcontextprotocol\\?/subscriptionId"\s*:\s*)"?(\d+)"?')
"""Matches only members of an object: within a JSON string the quotes are escaped."""


def params_of(body: bytes) -> bytes:
    """Return the params of the message in `body`, a valid one; `{}` when it has none."""
    params = _params(body).params
    return b"{}" if params is UNSET else bytes(params)


def with_fresh_id(body: bytes, method: str) -> tuple[int, bytes]:
    """Return a fresh id, and the request in `body` (a valid one, of `method`) with that id."""
    fresh = next(_fresh)
    params = _params(body).params
    if params is UNSET:
        return fresh, b'{"jsonrpc":"2.0","id":%d,"method":%b}' % (fresh, _encode(method))
    return fresh, b'{"jsonrpc":"2.0","id":%d,"method":%b,"params":%b}' % (fresh, _encode(method), params)


def with_fresh_session_id(body: bytes, method: str, original: int | str) -> tuple[str, bytes]:
    """Return a fresh id that contains the `original`, and the request in `body` (of `method`) with that id."""
    fresh = f"{_MARK}{next(_fresh):x}.{encode_id(original).decode()}"
    return fresh, encode_request(fresh, method, params_of(body))


def marker(fresh: int | str) -> bytes:
    """Return the bytes that every message with the id `fresh` contains, however its JSON is written."""
    return b"%d" % fresh if isinstance(fresh, int) else ".".join(fresh.split(".", 2)[:2]).encode()


def restore(
    message: bytes, fresh: int | str, original: int | str, *, any_error: bool = False
) -> tuple[bytes, str] | None:
    """Return the reply to `fresh` with its `original` id, and its outcome: "ok", "isError" or "error CODE".

    None when the message is a notification or a request to the client. Raises BrokenResponse for a reply to something
    else, or for what is not JSON-RPC. With `any_error`, an error with any id is taken for the reply.
    """
    try:
        reply = _reply(message)
        if reply.method is not UNSET:
            return None
        if reply.error is not UNSET and (any_error or reply.id in (fresh, None, UNSET)):
            outcome = f"error {_error(reply.error).code}"
            return b'{"jsonrpc":"2.0","id":%b,"error":%b}' % (encode_id(original), reply.error), outcome
        if reply.result is not UNSET and reply.id == fresh:
            result = bytes(reply.result)
            outcome = "isError" if _is_error(result) else "ok"
            return b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (encode_id(original), result), outcome
    except UNREADABLE:
        raise BrokenResponse("it answered with what is not JSON-RPC") from None
    raise BrokenResponse("it answered with what is not the reply to this request")


def _is_error(result: bytes) -> bool:
    """Whether a result has `"isError": true`. Decodes only if needed; `find` is much faster than `in` on 3.11."""
    at = result.find(_IS_ERROR)
    if at < 0 or (result.startswith(b":false", at + len(_IS_ERROR)) and result.find(_IS_ERROR, at + 1) < 0):
        return False
    return _result(result).isError


def is_reply(message: bytes) -> bool:
    """Whether a valid JSON-RPC message of an instance is a reply."""
    return _reply(message).method is UNSET


def restore_resumed(message: bytes) -> tuple[bytes, int | str] | None:
    """Return a reply on a session's later stream with the client's own id, and that id; None if it is no reply."""
    if _MARK.encode() not in message:
        return None
    try:
        reply = _reply(message)
        if reply.method is not UNSET or not isinstance(reply.id, str) or not reply.id.startswith(_MARK):
            return None
        original = _id(reply.id.split(".", 2)[-1])
    except UNREADABLE:
        return None
    head = b'{"jsonrpc":"2.0","id":%b,' % encode_id(original)
    if reply.error is not UNSET:
        return head + b'"error":%b}' % reply.error, original
    return (head + b'"result":%b}' % reply.result, original) if reply.result is not UNSET else None


def restore_subscription(message: bytes, fresh: int, original: int | str) -> bytes:
    """Replace the fresh id by the client's in the `subscriptionId` of an event of a `subscriptions/listen` stream."""
    ours, theirs = b"%d" % fresh, encode_id(original)
    return _SUBSCRIPTION.sub(lambda found: found[1] + theirs if found[2] == ours else found[0], message)
