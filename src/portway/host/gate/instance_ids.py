"""Ids of an instance's questions and events, with the instance's name added, so that an answer or a resumed stream
finds it.

A later answer, progress or Last-Event-ID of the client is sent to that instance, even if the session's new calls go to
another one or the gate was restarted: the gate keeps no table of these ids.
"""

import base64
import binascii

import msgspec
from msgspec import UNSET, Raw, UnsetType

from portway.protocol.jsonrpc import UNREADABLE, Message, encode_id, encode_notification, encode_request

_MARK = "portway."
_REPLY = b".=."  # prefix of the id of an event after which nothing comes
_CANCELLED = "notifications/cancelled"


class EventPlace(msgspec.Struct, frozen=True):
    """The place of an event: the instance, and the instance's id of the `event`.

    `is_of_call`: the stream is a call's, not the session's own. `call` is the client's id of the call, unless too long.
    """

    instance: str
    event: bytes
    is_of_call: bool = False
    call: int | str | None = None


class _FromInstance(msgspec.Struct):
    method: str
    id: int | str | UnsetType = UNSET
    params: Raw | UnsetType = UNSET


class _Notification(msgspec.Struct):
    method: str
    params: dict[str, Raw] = {}


class _Answer(msgspec.Struct):
    result: Raw | UnsetType = UNSET
    error: Raw | UnsetType = UNSET


_from_instance = msgspec.json.Decoder(_FromInstance).decode
_notification = msgspec.json.Decoder(_Notification).decode
_answer = msgspec.json.Decoder(_Answer).decode
_id = msgspec.json.Decoder(int | str).decode
_encode = msgspec.json.encode


def name_instance(message: bytes, instance: str) -> bytes:
    """Return an instance's request or notification with the instance's name added to its id and progress token."""
    try:
        sent = _from_instance(message)
        if sent.id is not UNSET:
            params = b"{}" if sent.params is UNSET else bytes(sent.params)
            if b"progressToken" in params:
                params = _with_token(params, instance)
            return encode_request(_named(instance, sent.id), sent.method, params)
        if sent.method == _CANCELLED:
            found = _notification(message)
            return _with_param(found, "requestId", _named(instance, _id(found.params["requestId"])))
    except (*UNREADABLE, KeyError):
        pass  # the client reports what is wrong with it
    return message


def cancellation(body: bytes, fresh: int | str) -> bytes:
    """Return the `notifications/cancelled` in `body` with the id `fresh`, by which the instance knows the call."""
    return _with_param(_notification(body), "requestId", fresh)


def asked_by(question_id: object) -> tuple[str, int | str] | None:
    """Return the instance that a client's id of a question names, and the instance's own id of it."""
    if not isinstance(question_id, str) or not question_id.startswith(_MARK):
        return None
    instance, _, original = question_id.removeprefix(_MARK).partition(".")
    try:
        return instance, _id(original.encode())
    except UNREADABLE:
        return None


def answer(message: Message, body: bytes) -> tuple[str, bytes] | None:
    """Return the instance that a client's answer is for, and the answer with the instance's own id of the question."""
    found = asked_by(message.id)
    if found is None:
        return None
    reply = _answer(body)
    member, value = (b"error", reply.error) if reply.result is UNSET else (b"result", reply.result)
    value = Raw(b"null") if value is UNSET else value
    return found[0], b'{"jsonrpc":"2.0","id":%b,"%b":%b}' % (encode_id(found[1]), member, value)


def progress(body: bytes) -> tuple[str, bytes] | None:
    """Return the instance a `notifications/progress` is for, and the notification with the token it chose."""
    try:
        sent = _notification(body)
        found = asked_by(_id(sent.params["progressToken"]))
    except (*UNREADABLE, KeyError):
        return None
    return None if found is None else (found[0], _with_param(sent, "progressToken", found[1]))


def encode_place(place: EventPlace) -> bytes:
    """Return the event id that names a place to the client."""
    call = b""
    if place.is_of_call:
        call = b"-" if place.call is None else base64.urlsafe_b64encode(encode_id(place.call)).rstrip(b"=")
    return b"%b.%b.%b" % (place.instance.encode(), call, place.event)


def decode_place(event_id: bytes) -> EventPlace | None:
    """Return the place that an event id names, None when the gate has not made the id."""
    instance, _, rest = event_id.partition(b".")
    call, dot, event = rest.partition(b".")
    try:
        original = _id(base64.urlsafe_b64decode(call + b"=" * (-len(call) % 4))) if call not in (b"", b"-") else None
        return EventPlace(instance.decode("ascii"), event, bool(call), original) if dot else None
    except (*UNREADABLE, binascii.Error):
        return None


def reply_event_id(identity: bytes) -> bytes:
    """Return the event id of the reply that ends a call's stream; `identity` is of the request whose stream it is."""
    return _REPLY + identity


def names_reply(event_id: bytes) -> bool:
    """Whether an event id is one of `reply_event_id`, so that there is nothing to resume."""
    return event_id.startswith(_REPLY)


def _named(instance: str, original: int | str) -> str:
    return f"{_MARK}{instance}.{encode_id(original).decode()}"


def _with_param(notification: _Notification, name: str, value: int | str) -> bytes:
    params = notification.params | {name: Raw(encode_id(value))}
    return encode_notification(notification.method, _encode(params))


def _with_token(params: bytes, instance: str) -> bytes:
    """Return the params of a question with a progress token that names the instance."""
    members = msgspec.json.decode(params, type=dict[str, Raw])
    meta = msgspec.json.decode(members.get("_meta", b"{}"), type=dict[str, Raw])
    if "progressToken" in meta:
        meta["progressToken"] = Raw(_encode(_named(instance, _id(meta["progressToken"]))))
        members["_meta"] = Raw(_encode(meta))
    return _encode(members)
