"""The JSON-RPC envelope of both ends: one decode of a message, and the bytes of requests, results and errors.

A message is decoded once, straight into `Message`; only when that fails is it read again, slowly, to say what is wrong.
Specification: basic (2025-11-25 and 2026-07-28), JSON-RPC 2.0 §4-5.
"""

from typing import Any, Generic, Literal, TypeVar

import msgspec
from msgspec import UNSET, Raw, UnsetType, field

from portway.protocol.errors import INVALID_PARAMS, INVALID_REQUEST, PARSE_ERROR, RpcError
from portway.protocol.versions import LEGACY_VERSIONS

PREFIX = "io.modelcontextprotocol/"


class Meta(msgspec.Struct):
    """`params._meta`, as far as the protocol itself reads it."""

    version: str | UnsetType = field(name=PREFIX + "protocolVersion", default=UNSET)
    capabilities: Raw | UnsetType = field(name=PREFIX + "clientCapabilities", default=UNSET)
    progress_token: int | str | UnsetType = field(name="progressToken", default=UNSET)
    log_level: str | UnsetType = field(name=PREFIX + "logLevel", default=UNSET)


class Params(msgspec.Struct):
    """The parameters that routing and the core methods read; the rest of an object is left alone."""

    meta: Meta | UnsetType = field(name="_meta", default=UNSET)
    name: str | UnsetType = UNSET
    uri: str | UnsetType = UNSET
    arguments: Raw | UnsetType = UNSET
    cursor: str | UnsetType | None = UNSET
    version: str | UnsetType = field(name="protocolVersion", default=UNSET)
    request_id: int | str | UnsetType = field(name="requestId", default=UNSET)


class ErrorBody(msgspec.Struct):
    """The `error` member of a reply."""

    code: int
    message: str
    data: Any = None


class Message(msgspec.Struct):
    """One JSON-RPC message; which kind it is follows from `method` and `id`."""

    jsonrpc: Literal["2.0"]
    id: int | str | UnsetType = UNSET
    method: str | UnsetType = UNSET
    params: Params | UnsetType = UNSET
    result: Raw | UnsetType = UNSET
    error: ErrorBody | UnsetType = UNSET

    @property
    def meta(self) -> Meta | None:
        """`params._meta`, or None when either is absent."""
        params = self.params
        if params is UNSET or params.meta is UNSET:
            return None
        return params.meta


T = TypeVar("T")


class _Body(msgspec.Struct, Generic[T]):
    params: T


_decoders: dict[type, Any] = {}  # Any: a decoder of each type asked for


def decode_params(body: bytes, kind: type[T]) -> T:
    """Decode the params of a message again as `kind`, for methods that have some of their own.

    Raises RpcError (INVALID_PARAMS) where they are not of that kind.
    """
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.json.Decoder(_Body[kind])  # type: ignore[valid-type]
    try:
        body_of_kind: _Body[T] = decoder.decode(body)
        return body_of_kind.params
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RpcError(INVALID_PARAMS, f"Invalid params: {str(error).replace('`$.', '`')}.") from None


_decode = msgspec.json.Decoder(Message).decode
_encode = msgspec.json.encode
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def decode(body: bytes) -> Message:
    """Decode one message.

    Raises RpcError with status 400: PARSE_ERROR for what is not JSON, INVALID_REQUEST for what is no single JSON-RPC
    message, INVALID_PARAMS for parameters of the wrong type. Its `request_id` is the id where one could be read.
    """
    try:
        message = _decode(body)
    except (msgspec.ValidationError, *_UNREADABLE):
        return _read_again(body)
    if message.method is UNSET:
        is_one_kind = (message.result is UNSET) is not (message.error is UNSET)
    else:
        is_one_kind = message.result is UNSET and message.error is UNSET
    return message if is_one_kind else _read_again(body)


class UnreadableMessage(RpcError):
    """What `decode` raises; `request_id` lets the reply name the request where it could be read."""

    def __init__(self, code: int, message: str, request_id: int | str | None = None) -> None:
        super().__init__(code, message)
        self.request_id = request_id

    def status_under(self, version_header: bytes | None) -> int:
        """The HTTP status: legacy errors travel with 200 where the request was understood but for its params."""
        version = None if version_header is None else version_header.decode("latin-1").strip(" \t")
        legacy = version is None or version in LEGACY_VERSIONS
        return 200 if legacy and self.code == INVALID_PARAMS and self.request_id is not None else self.status


# The parameters `Params` types, and the methods they are meant for: to any other they are no concern.
_MEANT_FOR = {
    "name": ("tools/call", "prompts/get"),
    "uri": ("resources/read",),
    "cursor": ("tools/list", "prompts/list", "resources/list", "resources/templates/list"),
    "protocolVersion": ("initialize",),
    "requestId": ("notifications/cancelled",),
}


def _read_again(body: bytes) -> Message:
    """Read what the typed decoder has refused: say why, unless it was for a parameter its method does not have."""
    value = _read_object(body)
    request_id = _id_in(value)
    method, params = value.get("method"), value.get("params")
    if value.get("jsonrpc") != "2.0":
        raise UnreadableMessage(INVALID_REQUEST, 'The message must carry "jsonrpc": "2.0".', request_id)
    if "id" in value and request_id is None:
        raise UnreadableMessage(INVALID_REQUEST, "The id must be a string or an integer.")
    kinds = (method is not None) + ("result" in value) + (value.get("error") is not None)
    if kinds == 1 and "result" in value:  # beside null members, as clients of JSON-RPC 1.0 write it
        return Message("2.0", UNSET if request_id is None else request_id, result=Raw(_encode(value["result"])))
    if kinds != 1 or method is None:
        raise UnreadableMessage(
            INVALID_REQUEST, "The message must have one of method, result and error, and no other of them.", request_id
        )
    if not isinstance(method, str):
        raise UnreadableMessage(INVALID_REQUEST, "The method must be a string.", request_id)
    if not isinstance(params, dict) and params is not None:  # null is how some clients write that there are none
        raise UnreadableMessage(INVALID_REQUEST, "The params must be a JSON object.", request_id)
    known = {"jsonrpc": "2.0", "method": method} | ({} if request_id is None else {"id": request_id})
    kept = {key: item for key, item in (params or {}).items() if method in _MEANT_FOR.get(key, (method,))}
    try:
        return _decode(_encode(known if params is None else known | {"params": kept}))
    except msgspec.ValidationError as error:
        said = str(error).replace("`$.", "`")
        raise UnreadableMessage(INVALID_PARAMS, f"Invalid params: {said}.", request_id) from None


def _read_object(body: bytes) -> dict[str, object]:
    try:
        value: object = msgspec.json.decode(body)
    except RecursionError:
        raise UnreadableMessage(PARSE_ERROR, "The message is nested too deeply.") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        text = f"The message is not valid JSON in UTF-8: {error}."
        raise UnreadableMessage(PARSE_ERROR, text, _id_in(_read_leniently(body))) from None
    if isinstance(value, list):
        raise UnreadableMessage(
            INVALID_REQUEST,
            "A batch is not accepted: send one JSON-RPC message at a time (batches ended with 2025-06-18).",
        )
    if not isinstance(value, dict):
        raise UnreadableMessage(INVALID_REQUEST, "The message must be a JSON object.")
    return value


def _read_leniently(body: bytes) -> object:
    """Decode JSON whose strings may hold anything, half a surrogate pair for one; None for what is no JSON."""
    import json  # for this alone

    try:
        return json.loads(body.decode("utf-8", "replace"), strict=False)
    except (ValueError, RecursionError):
        return None


def _id_in(value: object) -> int | str | None:
    """Return the id of a message, None where it has none that UTF-8 can carry back."""
    raw_id = value.get("id") if isinstance(value, dict) else None
    if isinstance(raw_id, bool) or not isinstance(raw_id, (int, str)):
        return None
    if isinstance(raw_id, str) and raw_id.encode(errors="ignore").decode() != raw_id:
        return None
    return raw_id


def encode_id(request_id: int | str) -> bytes:
    """The JSON of an id."""
    return b"%d" % request_id if type(request_id) is int else _encode(request_id)


def encode_result(request_id: int | str, result: bytes) -> bytes:
    """A reply around the JSON of its result."""
    return b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (encode_id(request_id), _on_one_line(result))


def encode_error(request_id: int | str | None, error: RpcError) -> bytes:
    """Return an error reply; its id is null where none could be read (JSON-RPC 2.0 §5)."""
    body: dict[str, object] = {"code": error.code, "message": error.message}
    if error.data is not None:
        body["data"] = error.data
    known_id = b"null" if request_id is None else encode_id(request_id)
    return b'{"jsonrpc":"2.0","id":%b,"error":%b}' % (known_id, _encode(body))


def encode_request(request_id: int | str, method: str, params: bytes) -> bytes:
    """A request around the JSON of its params."""
    return b'{"jsonrpc":"2.0","id":%b,"method":%b,"params":%b}' % (
        encode_id(request_id),
        _encode(method),
        _on_one_line(params),
    )


def encode_notification(method: str, params: bytes) -> bytes:
    """A notification around the JSON of its params."""
    return b'{"jsonrpc":"2.0","method":%b,"params":%b}' % (_encode(method), _on_one_line(params))


def encode_cancelled(request_id: int | str, reason: str) -> bytes:
    """Return the notification by which the sender of a request withdraws it (basic/utilities/cancellation)."""
    params = b'{"requestId":%b,"reason":%b}' % (encode_id(request_id), _encode(reason))
    return encode_notification("notifications/cancelled", params)


def _on_one_line(body: bytes) -> bytes:
    """JSON as transports carry it: what an author has as `msgspec.Raw` may hold line breaks."""
    return msgspec.json.format(body, indent=-1) if b"\n" in body or b"\r" in body else body
