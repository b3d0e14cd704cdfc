"""The id of a call, exchanged for a fresh one on the way in and restored on the way out.

Clients choose their ids, and two of them choose the same one: an instance sees only ids the gate made. Outside a
session a fresh id is a number, and the gate remembers whose it is while the call lasts. A session's reply can come on
another stream than the call went in by, even through a gate started since: there the fresh id holds the client's own.
"""

import itertools
import re
import time

import msgspec
from msgspec import UNSET, Raw, UnsetType

from portway.http.http_client import BrokenResponse
from portway.protocol.jsonrpc import encode_id, encode_request


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


class _Cancelled(msgspec.Struct):
    params: dict[str, Raw]


_params = msgspec.json.Decoder(_Params).decode
_reply = msgspec.json.Decoder(_Reply).decode
_error = msgspec.json.Decoder(_Error).decode
_result = msgspec.json.Decoder(_Result).decode
_encode = msgspec.json.encode

# Ids of a gate that was killed may still be in use: seconds in the high bits keep a new one's apart. Below 2^53.
_fresh = itertools.count(int(time.time()) << 20)


_MARK = "portway."  # begins the ids of sessions' calls
_IS_ERROR = b'"isError"'
_SUBSCRIPTION = re.compile(rb'("io\.modelcontextprotocol\\?/subscriptionId"\s*:\s*)"?(\d+)"?')
"""Can match a member only: the quotes of a name within a string are escaped."""


def readdress(body: bytes, method: str) -> tuple[int, bytes]:
    """A fresh id, and the request in `body` (known to be one, of `method`) under it."""
    fresh = next(_fresh)
    params = _params(body).params
    if params is UNSET:
        return fresh, b'{"jsonrpc":"2.0","id":%d,"method":%b}' % (fresh, _encode(method))
    return fresh, b'{"jsonrpc":"2.0","id":%d,"method":%b,"params":%b}' % (fresh, _encode(method), params)


def readdress_in_session(body: bytes, method: str, original: int | str) -> tuple[str, bytes]:
    """A fresh id that holds the `original`, and the request in `body` (of `method`) under it."""
    fresh = f"{_MARK}{next(_fresh):x}.{encode_id(original).decode()}"
    params = _params(body).params
    return fresh, encode_request(fresh, method, b"{}" if params is UNSET else bytes(params))


def marker(fresh: int | str) -> bytes:
    """What stands in every message that holds `fresh`, however its JSON is written."""
    return b"%d" % fresh if isinstance(fresh, int) else ".".join(fresh.split(".", 2)[:2]).encode()


def restore(
    message: bytes, fresh: int | str, original: int | str, *, any_error: bool = False
) -> tuple[bytes, str] | None:
    """The reply to `fresh` under its `original` id, and its outcome: "ok", "isError" or the error's code.

    None when it is no reply (a notification, or a request to the client). Raises BrokenResponse for a reply to
    something else, or what is neither; with `any_error`, an error is taken for the reply whatever id it bears.
    """
    try:
        reply = _reply(message)
        if reply.method is not UNSET:
            return None
        if reply.error is not UNSET and (any_error or reply.id in (fresh, None, UNSET)):
            outcome = f"error {_error(reply.error).code}"
            return b'{"jsonrpc":"2.0","id":%b,"error":%b}' % (encode_id(original), reply.error), outcome
        if reply.result is not UNSET and reply.id == fresh and type(reply.id) is type(fresh):
            result = bytes(reply.result)
            outcome = "isError" if _is_error(result) else "ok"
            return b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (encode_id(original), result), outcome
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BrokenResponse("it answered with what is not JSON-RPC") from None
    raise BrokenResponse("it answered with what is not the reply to this request")


def _is_error(result: bytes) -> bool:
    """Whether a result says `"isError": true`; read only where it may. (`in` costs several times `find`, on 3.11.)"""
    at = result.find(_IS_ERROR)
    if at < 0 or (result.startswith(b":false", at + len(_IS_ERROR)) and result.find(_IS_ERROR, at + 1) < 0):
        return False
    return _result(result).isError


def is_reply(message: bytes) -> bool:
    """Whether a message of an instance, known to be JSON-RPC, answers a request."""
    return _reply(message).method is UNSET


def restore_resumed(message: bytes) -> tuple[bytes, int | str] | None:
    """A reply that comes on a session's later stream, under the client's own id, and that id; None if it is none."""
    if _MARK.encode() not in message:
        return None
    try:
        reply = _reply(message)
        if reply.method is not UNSET or not isinstance(reply.id, str) or not reply.id.startswith(_MARK):
            return None
        original = msgspec.json.decode(reply.id.split(".", 2)[-1], type=int | str)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    head = b'{"jsonrpc":"2.0","id":%b,' % encode_id(original)
    if reply.error is not UNSET:
        return head + b'"error":%b}' % reply.error, original
    return (head + b'"result":%b}' % reply.result, original) if reply.result is not UNSET else None


def resubscribe(message: bytes, fresh: int, original: int | str) -> bytes:
    """A frame of a `subscriptions/listen` stream, named by the client's id instead of the fresh one."""
    ours, theirs = b"%d" % fresh, encode_id(original)
    return _SUBSCRIPTION.sub(lambda found: found[1] + theirs if found[2] == ours else found[0], message)


def cancellation(body: bytes, fresh: str) -> bytes:
    """The `notifications/cancelled` in `body`, of the call that the instance knows as `fresh`."""
    params = msgspec.json.decode(body, type=_Cancelled).params | {"requestId": Raw(_encode(fresh))}
    return b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":%b}' % _encode(params)
