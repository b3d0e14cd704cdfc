"""Whether an app's policies let a caller send a message (403), decided on the message as the instance will read it.

What is judged is what the instance gets: a message is written anew, with each member once, unless it is so already. A
member that some servers would take for one of the protocol's, because they do not look at its letter case, is refused.
"""

import msgspec
from msgspec import UNSET, Raw, UnsetType, field

from portway.auth.authorize import Forbidden
from portway.host.gate.gate_call import GateCall
from portway.host.gate.list_view import LISTS, ListView
from portway.policy.name_patterns import folded
from portway.policy.policies import NO_POLICY, Kind, Policies
from portway.protocol.batch import split
from portway.protocol.errors import INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND, REFUSED, RpcError
from portway.protocol.jsonrpc import UNREADABLE, Message, UnreadableMessage

Names = list[tuple[Kind, str]]

_NAMED: dict[str, tuple[Kind, str]] = {
    "tools/call": ("tool", "name"),
    "prompts/get": ("prompt", "name"),
    "resources/read": ("resource", "uri"),
    "resources/subscribe": ("resource", "uri"),
    "resources/unsubscribe": ("resource", "uri"),
}
"""What a method is for, and the member of its params that names it."""
_HOLDERS = {"completion/complete": "ref", "subscriptions/listen": "notifications"}
"""The member of the params that holds the names."""
_METHODS = _NAMED.keys() | _HOLDERS.keys()
_ENVELOPE = frozenset(("jsonrpc", "id", "method", "params", "result", "error"))
_PARAMS = frozenset(("_meta", "name", "uri", "arguments", "ref", "notifications"))
_INNER = frozenset(("type", "name", "uri", "resourceSubscriptions"))
_LONGEST = 256  # characters of a method, or of a member that is not the protocol's
_MOST = 64  # members that are not the protocol's
_MOST_WATCHED = 65_536  # characters of the URIs that one stream is for


class _CompactParams(msgspec.Struct):
    name: Raw
    arguments: Raw | UnsetType = UNSET
    meta: Raw | UnsetType = field(name="_meta", default=UNSET)


class _CompactCall(msgspec.Struct):
    jsonrpc: Raw
    id: Raw
    method: Raw
    params: _CompactParams


_compact_call = msgspec.json.Decoder(_CompactCall).decode
_object = msgspec.json.Decoder(dict[str, Raw]).decode
_text = msgspec.json.Decoder(str).decode
_texts = msgspec.json.Decoder(list[str] | None).decode
_encode = msgspec.json.encode


def permit(call: GateCall, policies: Policies, message: Message, body: bytes) -> bytes:
    """Return a message that the caller may send, as it goes to the instance. Raises RpcError for any other.

    Notes the limits of a tool, or the view of a list, in the call.
    """
    body, names = _read(message, body, policies)
    policy, needed = NO_POLICY, NO_POLICY.scopes
    for kind, name in names:
        policy = policies.of(kind, name)
        if policy.is_off:
            text = f"Unknown tool: {name[:200]}. It is switched off on this host."
            raise RpcError(INVALID_PARAMS, text, status=400 if call.line.era == "modern" else 200)
        needed = needed | policy.scopes if needed else policy.scopes
    _authorize(call, needed)
    if policy.limits and message.method == "tools/call":  # of which there is one name at most
        call.policy = policy
    if message.method in LISTS or (needed and message.method == "resources/read"):
        call.view = ListView(policies, call.caller.visible, is_private=bool(needed))
    return body


def permit_batch(call: GateCall, policies: Policies, body: bytes) -> None:
    """Raise RpcError for a batch with a call that the caller may not make: nothing of the batch is done then.

    The refusal names what all calls of the batch need. What else is wrong with a call is the answer to it.
    """
    needed: set[str] = set()
    for part, message in split(body):
        if not isinstance(message, UnreadableMessage):
            try:
                names = _read(message, part, policies)[1]
            except RpcError:
                continue
            needed.update(*(policies.of(kind, name).scopes for kind, name in names))
    _authorize(call, frozenset(needed))


def _authorize(call: GateCall, needed: frozenset[str]) -> None:
    """Raise RpcError if the caller lacks one of the scopes: 403, or 401 where it has no token."""
    if not needed <= call.caller.scopes:
        told = str(Forbidden(needed, needed - call.caller.scopes))
        status = 403 if call.caller.app else 401
        raise RpcError(REFUSED, told, {"requiredScopes": sorted(needed)}, status=status)


def _read(message: Message, body: bytes, policies: Policies) -> tuple[bytes, Names]:
    """Return a message with each member once, and what it is for. Raises RpcError."""
    method, params_read = message.method, message.params
    if method == "tools/call" and params_read is not UNSET and params_read.name is not UNSET and _is_compact(body):
        return body, [("tool", params_read.name)]
    members = _members(Raw(body), _ENVELOPE, "message", INVALID_REQUEST)
    if method is UNSET or method not in _METHODS:
        if method is not UNSET and (_is_odd(method) or folded(method) in _METHODS):
            raise RpcError(METHOD_NOT_FOUND, f"Method not found: {method[:200]}", status=404)
        return _encode(members), []
    params = _members(members.get("params", Raw(b"{}")), _PARAMS, "params")
    if method in _NAMED:
        kind, member = _NAMED[method]
        names: Names = [(kind, _name(params, member))] if member in params else []
    else:
        names = _held(params, _HOLDERS[method])
    for kind, name in names:
        if kind == "resource" and (fault := policies.fault(name)):
            raise RpcError(INVALID_PARAMS, f"The URI {name[:200]!a} is malformed: {fault}.")
    members["params"] = Raw(_encode(params))
    return _encode(members), names


def _is_compact(body: bytes) -> bool:
    """Whether a call of a tool has the protocol's members alone, each once, without an escape in a name.

    Another member, a second one of a name, an escape in a name and white space between members each make a message
    longer than what an encoder writes of the members that were read. So one of that length has none of them.
    """
    try:
        return len(_encode(_compact_call(body))) == len(body)
    except UNREADABLE:
        return False


def _held(params: dict[str, Raw], holder: str) -> Names:
    """Return what a completion or a listen stream is for. The member that holds the names is written anew."""
    if holder not in params:
        return []
    inner = _members(params[holder], _INNER, holder)
    params[holder] = Raw(_encode(inner))
    names: Names = [("prompt", _name(inner, "name"))] if "name" in inner else []
    if "uri" in inner:
        names.append(("resource", _name(inner, "uri")))
    if "resourceSubscriptions" in inner:
        try:
            uris = _texts(inner["resourceSubscriptions"]) or []
        except UNREADABLE:
            raise _malformed("resourceSubscriptions") from None
        if sum(map(len, uris)) > _MOST_WATCHED:
            raise _malformed("resourceSubscriptions")
        names += [("resource", uri) for uri in uris]
    return names


def _members(text: Raw, known: frozenset[str], holder: str, code: int = INVALID_PARAMS) -> dict[str, Raw]:
    """Return the members of an object; of two with one name the last. Raises RpcError for a name like a known one."""
    try:
        members = _object(text)
    except UNREADABLE:
        raise _malformed(holder) from None
    others = members.keys() - known
    if others and (len(others) > _MOST or any(map(_is_odd, others))):
        raise _malformed(holder)
    for name in others:
        if like := _plain_names[known].get(_plain(name)):
            raise RpcError(code, f"The member {name[:40]!r} is not {like!r}, for which it might be taken.")
    return members


def _is_odd(name: str) -> bool:
    """Whether a name is too long, or has what cannot be seen: a server may leave it out, or stop at it."""
    return len(name) > _LONGEST or not name.isprintable()


def _plain(name: str) -> str:
    return folded(name).replace("_", "")


_plain_names = {known: {_plain(each): each for each in known} for known in (_ENVELOPE, _PARAMS, _INNER)}


def _name(members: dict[str, Raw], member: str) -> str:
    try:
        return _text(members[member])
    except UNREADABLE:
        raise _malformed(member) from None


def _malformed(member: str) -> RpcError:
    return RpcError(INVALID_PARAMS, f"The member {member!r} is malformed.")
