"""JSON-RPC messages: decode them, say what is wrong with a bad one, and encode requests, notifications, results and
errors.

A message is decoded once into `Message`. If that fails it is read again, more slowly, to say what is wrong.
Specification: basic (2025-11-25 and 2026-07-28), JSON-RPC 2.0 §4-5.
"""

from typing import Any, Generic, Literal, TypeVar

import msgspec
from msgspec import UNSET, Raw, UnsetType, field

from portway.protocol.errors import INVALID_PARAMS, INVALID_REQUEST, PARSE_ERROR, RpcError
from portway.protocol.versions import LEGACY_VERSIONS

PREFIX = "io.modelcontextprotocol/"
UNREADABLE = (ValueError, RecursionError)
"""What msgspec raises for bytes that are not the JSON expected: wrong type, no JSON, no UTF-8, nested too deeply."""


class Meta(msgspec.Struct):
    """The members of `params._meta` that the protocol itself reads."""

    version: str | UnsetType = field(name=PREFIX + "protocolVersion", default=UNSET)
    capabilities: Raw | UnsetType = field(name=PREFIX + "clientCapabilities", default=UNSET)
    progress_token: int | str | UnsetType = field(name="progressToken", default=UNSET)
    log_level: str | UnsetType = field(name=PREFIX + "logLevel", default=UNSET)


class Params(msgspec.Struct):
    """The members of `params` that routing and the core methods read. Others are ignored."""

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
    """One JSON-RPC message. `method` and `id` tell of which kind."""

    jsonrpc: Literal["2.0"]
    id: int | str | UnsetType = UNSET
    method: str | UnsetType = UNSET
    params: Params | UnsetType = UNSET
    result: Raw | UnsetType = UNSET
    error: ErrorBody | UnsetType = UNSET

    @property
    def meta(self) -> Meta | None:
        """`params._meta`, None if absent."""
        params = self.params
        if params is UNSET or params.meta is UNSET:
            return None
        return params.meta


T = TypeVar("T")


class _Body(msgspec.Struct, Generic[T]):
    params: T


_decoders: dict[type, Any] = {}  # Any: a decoder of each type asked for


def decode_params(body: bytes, kind: type[T]) -> T:
    """Decode the params of the message `body` as `kind`. Raise RpcError (INVALID_PARAMS) if they are not."""
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.json.Decoder(_Body[kind])  # type: ignore[valid-type]
    try:
        body_of_kind: _Body[T] = decoder.decode(body)
        return body_of_kind.params
    except UNREADABLE as error:
        raise RpcError(INVALID_PARAMS, f"Invalid params: {str(error).replace('`$.', '`')}.") from None


_decode = msgspec.json.Decoder(Message).decode
_members = msgspec.json.Decoder(dict[str, Raw]).decode
_encode = msgspec.json.encode


def decode(body: bytes) -> Message:
    """Decode one message.

    Raise UnreadableMessage: PARSE_ERROR for no JSON, INVALID_REQUEST for no single JSON-RPC message, INVALID_PARAMS for
    params of the wrong type.
    """
    try:
        message = _decode(body)
    except UNREADABLE:
        return _read_again(body)
    if message.method is UNSET:
        is_one_kind = (message.result is UNSET) is not (message.error is UNSET)
    else:
        is_one_kind = message.result is UNSET and message.error is UNSET
    return message if is_one_kind else _read_again(body)


class UnreadableMessage(RpcError):
    """Bytes that are no valid message. `request_id` is the id, None if it could not be read. The status is 400."""

    def __init__(self, code: int, message: str, request_id: int | str | None = None) -> None:
        super().__init__(code, message)
        self.request_id = request_id

    def status_under(self, version_header: bytes | None) -> int:
        """Return the HTTP status: 200 for a legacy request of which only the params are wrong, else 400."""
        version = None if version_header is None else version_header.decode("latin-1").strip(" \t")
        legacy = version is None or version in LEGACY_VERSIONS
        return 200 if legacy and self.code == INVALID_PARAMS and self.request_id is not None else self.status


# Which methods have the params that `Params` declares. Other methods may use these names for anything.
_MEANT_FOR = {
    "name": ("tools/call", "prompts/get"),
    "uri": ("resources/read",),
    "cursor": ("tools/list", "prompts/list", "resources/list", "resources/templates/list"),
    "protocolVersion": ("initialize",),
    "requestId": ("notifications/cancelled",),
}


def _read_again(body: bytes) -> Message:
    """Say why the typed decoder refused `body`, or read it after all if only params of other methods were wrong."""
    value = _read_object(body)
    request_id = _id_in(value)
    method, params = value.get("method"), value.get("params")
    if value.get("jsonrpc") != "2.0":
        raise UnreadableMessage(INVALID_REQUEST, 'The message must carry "jsonrpc": "2.0".', request_id)
    if "id" in value and request_id is None:
        raise UnreadableMessage(INVALID_REQUEST, "The id must be a string or an integer.")
    kinds = (method is not None) + ("result" in value) + (value.get("error") is not None)
    if kinds == 1 and "result" in value:  # beside null members, as clients of JSON-RPC 1.0 write it
        return Message("2.0", UNSET if request_id is None else request_id, result=_members(body)["result"])
    if kinds != 1 or method is None:
        raise UnreadableMessage(
            INVALID_REQUEST, "The message must have exactly one of method, result and error.", request_id
        )
    if not isinstance(method, str):
        raise UnreadableMessage(INVALID_REQUEST, "The method must be a string.", request_id)
    if not isinstance(params, dict) and params is not None:  # some clients write null for none
        raise UnreadableMessage(INVALID_REQUEST, "The params must be a JSON object.", request_id)
    known: dict[str, object] = {"jsonrpc": "2.0", "method": method} | ({} if request_id is None else {"id": request_id})
    if params is not None:  # as they were sent: a host passes these bytes on, and limits judge them
        sent = _members(_members(body)["params"]).items()
        known["params"] = {key: item for key, item in sent if method in _MEANT_FOR.get(key, (method,))}
    try:
        return _decode(_encode(known))
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
    """Decode JSON whose strings may be invalid, such as half a surrogate pair. Return None for anything else."""
    import json  # for this alone

    try:
        return json.loads(body.decode("utf-8", "replace"), strict=False)
    except (ValueError, RecursionError):
        return None


def _id_in(value: object) -> int | str | None:
    """Return the id of a message, None if it has no id that UTF-8 can encode."""
    raw_id = value.get("id") if isinstance(value, dict) else None
    if isinstance(raw_id, bool) or not isinstance(raw_id, (int, str)):
        return None
    if isinstance(raw_id, str) and raw_id.encode(errors="ignore").decode() != raw_id:
        return None
    return raw_id


def encode_id(request_id: int | str) -> bytes:
    """Return an id as JSON."""
    return b"%d" % request_id if type(request_id) is int else _encode(request_id)


def encode_result(request_id: int | str, result: bytes) -> bytes:
    """Return the reply with this result, which is JSON."""
    return b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (encode_id(request_id), _on_one_line(result))


def encode_tool_error(text: str, tail: bytes) -> bytes:
    """Return the result of a tool that tells the model what was wrong; `tail` is what the era adds to a result."""
    return b'{"content":[{"type":"text","text":%b}],"isError":true%b}' % (_encode(text), tail)


def encode_error(request_id: int | str | None, error: RpcError) -> bytes:
    """Return an error reply. The id is null if it could not be read (JSON-RPC 2.0 §5)."""
    body: dict[str, object] = {"code": error.code, "message": error.message}
    if error.data is not None:
        body["data"] = error.data
    known_id = b"null" if request_id is None else encode_id(request_id)
    return b'{"jsonrpc":"2.0","id":%b,"error":%b}' % (known_id, _encode(body))


def encode_request(request_id: int | str, method: str, params: bytes) -> bytes:
    """Return a request with these params, which are JSON."""
    return b'{"jsonrpc":"2.0","id":%b,"method":%b,"params":%b}' % (
        encode_id(request_id),
        _encode(method),
        _on_one_line(params),
    )


def encode_notification(method: str, params: bytes) -> bytes:
    """Return a notification with these params, which are JSON."""
    return b'{"jsonrpc":"2.0","method":%b,"params":%b}' % (_encode(method), _on_one_line(params))


def encode_cancelled(request_id: int | str, reason: str) -> bytes:
    """Return the notification by which the sender of a request withdraws it (basic/utilities/cancellation)."""
    params = b'{"requestId":%b,"reason":%b}' % (encode_id(request_id), _encode(reason))
    return encode_notification("notifications/cancelled", params)


def _on_one_line(body: bytes) -> bytes:
    """Remove line breaks, which transports do not allow; an author's `msgspec.Raw` may have some."""
    return msgspec.json.format(body, indent=-1) if b"\n" in body or b"\r" in body else body
