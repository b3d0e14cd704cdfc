"""The id of a call, exchanged for a fresh one on the way in and restored on the way out.

Clients choose their ids, and two of them choose the same one: an instance sees only ids the gate made.
"""

import itertools
import time

import msgspec
from msgspec import UNSET, Raw, UnsetType

from portway.http.client import BrokenResponse
from portway.protocol.jsonrpc import encode_id


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
_encode = msgspec.json.encode

# Ids of a gate that was killed may still be in use: seconds in the high bits keep a new one's apart. Below 2^53.
_fresh = itertools.count(int(time.time()) << 20)


def readdress(body: bytes, method: str) -> tuple[int, bytes]:
    """A fresh id, and the request in `body` (known to be one, of `method`) under it."""
    fresh = next(_fresh)
    params = _params(body).params
    if params is UNSET:
        return fresh, b'{"jsonrpc":"2.0","id":%d,"method":%b}' % (fresh, _encode(method))
    return fresh, b'{"jsonrpc":"2.0","id":%d,"method":%b,"params":%b}' % (fresh, _encode(method), params)


def restore(message: bytes, fresh: int, original: int | str) -> tuple[bytes, str] | None:
    """The reply to `fresh` under its `original` id, and its outcome: "ok", "isError" or the error's code.

    None when it is no reply (a notification). Raises BrokenResponse for a reply to something else, or what is neither.
    """
    try:
        reply = _reply(message)
        if reply.method is not UNSET:
            return None
        if reply.error is not UNSET and (reply.id == fresh or reply.id is None or reply.id is UNSET):
            outcome = f"error {_error(reply.error).code}"
            return b'{"jsonrpc":"2.0","id":%b,"error":%b}' % (encode_id(original), reply.error), outcome
        if reply.result is not UNSET and reply.id == fresh and type(reply.id) is int:
            result = bytes(reply.result)
            outcome = "isError" if b'"isError"' in result and _result(result).isError else "ok"
            return b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (encode_id(original), result), outcome
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BrokenResponse("it answered with what is not JSON-RPC") from None
    raise BrokenResponse("it answered with what is not the reply to this request")
