"""The messages about changes, in both eras: the filter and the acknowledgement of `subscriptions/listen`, list_changed
and resources/updated notifications, the end of a stream.

Specification: basic/patterns/subscriptions and cancellation (2026-07-28); the list_changed notifications,
`notifications/resources/updated` and basic/utilities/cancellation (2025-11-25).
"""

import msgspec

from portway.protocol.jsonrpc import PREFIX, encode_id, encode_notification, encode_result


class Filter(msgspec.Struct, rename="camel", omit_defaults=True):
    """The changes a client asks for, or the part of them that a server will send."""

    tools_list_changed: bool | None = None
    prompts_list_changed: bool | None = None
    resources_list_changed: bool | None = None
    resource_subscriptions: list[str] | None = None

    @property
    def kinds(self) -> list[str]:
        """The lists asked for: "tools", "prompts", "resources"."""
        return [kind for kind in ("tools", "prompts", "resources") if getattr(self, f"{kind}_list_changed")]


class ListenParams(msgspec.Struct):
    """The params of `subscriptions/listen`."""

    notifications: Filter


def acknowledgement(request_id: int | str, honoured: Filter) -> bytes:
    """Return the first message of a listen stream."""
    params = b'{"_meta":%b,"notifications":%b}' % (_meta(request_id), msgspec.json.encode(honoured))
    return encode_notification("notifications/subscriptions/acknowledged", params)


def notice(kind: str, uri: str | None, request_id: int | str | None = None) -> bytes:
    """Return the notification of a change of the list `kind`, or of the resource at `uri`.

    In a listen stream `request_id` is the id of its request.
    """
    meta = b"" if request_id is None else b'"_meta":%b' % _meta(request_id)
    if uri is None:
        return encode_notification(f"notifications/{kind}/list_changed", b"{%b}" % meta)
    comma = b"," if meta else b""
    return encode_notification("notifications/resources/updated", b'{%b%b"uri":%b}' % (meta, comma, _encode(uri)))


def listen_result(request_id: int | str, server_info: bytes = b"") -> bytes:
    """Return the reply that ends a listen stream (SubscriptionsListenResult). `server_info` is JSON, if it is known."""
    meta = _meta(request_id)
    if server_info:
        meta = b'%b,"%bserverInfo":%b}' % (meta[:-1], PREFIX.encode(), server_info)
    return encode_result(request_id, b'{"resultType":"complete","_meta":%b}' % meta)


_encode = msgspec.json.encode


def _meta(request_id: int | str) -> bytes:
    return b'{"%bsubscriptionId":%b}' % (PREFIX.encode(), encode_id(request_id))
