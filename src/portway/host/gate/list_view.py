"""Decides what a list leaves out for a caller, by the app's policies."""

import msgspec
from msgspec import Raw

from portway.http.http_client import BrokenResponse
from portway.policy.policies import Kind, Policies
from portway.protocol.jsonrpc import UNREADABLE

LISTS = frozenset(("tools/list", "resources/list", "resources/templates/list", "prompts/list"))
_KINDS: dict[str, tuple[Kind, str]] = {
    "tools": ("tool", "name"),
    "resources": ("resource", "uri"),
    "resourceTemplates": ("resource", "uriTemplate"),
    "prompts": ("prompt", "name"),
}
"""The members of results that are lists: the kind of an entry, and the member of it that names it."""
_PUBLIC = b'"public"'


class _Reply(msgspec.Struct):
    result: dict[str, Raw]
    id: Raw


_reply = msgspec.json.Decoder(_Reply).decode
_entries = msgspec.json.Decoder(list[Raw]).decode
_entry = msgspec.json.Decoder(dict[str, Raw]).decode
_text = msgspec.json.Decoder(str).decode
_encode = msgspec.json.encode


class ListView:
    """What a caller with these scopes sees of an app's lists. `is_private`: the reply is for this caller alone.

    A reply is recognised by what it has, so that one which comes on another stream than its request's is, too.
    """

    def __init__(self, policies: Policies, scopes: frozenset[str], *, is_private: bool = False) -> None:
        self._policies = policies
        self._scopes = scopes
        self._is_private = is_private
        self._is_whole = policies.hide_nothing(scopes)

    def of(self, message: bytes) -> bytes:
        """Return a message of the instance as the caller may see it. Raises BrokenResponse for a malformed list."""
        if self._is_whole and _PUBLIC not in message:
            return message
        try:
            reply = _reply(message)
        except UNREADABLE:
            return message  # it is no reply with a result
        result, is_private = reply.result, self._is_private
        lists = result.keys() & _KINDS
        try:
            for member in lists:
                kind, by = _KINDS[member]
                entries = _entries(result[member])
                result[member] = Raw(_encode([each for each in entries if self._shows(kind, _text(_entry(each)[by]))]))
                is_private = is_private or bool(self._policies.scopes[kind])
        except (*UNREADABLE, KeyError):
            raise BrokenResponse("an entry of its list has no name") from None
        if is_private and "cacheScope" in result:
            result["cacheScope"] = Raw(b'"private"')
        elif not lists:
            return message
        return b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (reply.id, _encode(result))

    def _shows(self, kind: Kind, name: str) -> bool:
        policy = self._policies.of(kind, name)
        return not policy.is_off and policy.scopes <= self._scopes
