"""One `subscriptions/listen` of a modern client: what it listens to, and the messages of its stream.

A transport sends them in this order (2026-07-28, basic/patterns/subscriptions): `ack`, then `frames()` until there are
none, then `result` (over stdio `cancelled` before it). It calls `close()` however the stream ends.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import UNSET

from portway.protocol.change_messages import Filter, ListenParams, acknowledgement, listen_result, notice
from portway.protocol.jsonrpc import encode_cancelled
from portway.sessions.change_bus import Bus
from portway.sessions.exchange import Exchange

LISTEN = "subscriptions/listen"


class Subscription:
    """A stream of changes that a modern client has asked for.

    Every frame carries the request's id as `_meta["io.modelcontextprotocol/subscriptionId"]`, of the same JSON type.
    """

    __slots__ = ("_id", "_server_info", "ack", "listener")

    def __init__(self, bus: Bus, exchange: Exchange, server_info: bytes, check: Callable[[list[str]], None]) -> None:
        """Listen from here on, before the acknowledgement is sent, so that no change is missed in between.

        `server_info` is the server's name and version as JSON; `check` raises an error for URIs that the caller may not
        watch. Raises RpcError: INVALID_PARAMS for params without a filter, and as `Listener.want`.
        """
        request_id = exchange.message.id
        assert request_id is not UNSET
        asked = exchange.params(ListenParams).notifications
        uris = list(dict.fromkeys(asked.resource_subscriptions or ()))
        check(uris)
        self.listener = bus.listen(asked.kinds, uris)
        self._server_info = server_info
        self._id = request_id
        honoured = Filter(
            asked.tools_list_changed or None,
            asked.prompts_list_changed or None,
            asked.resources_list_changed or None,
            uris or None,
        )
        self.ack = acknowledgement(request_id, honoured)

    async def frames(self) -> list[bytes]:
        """Wait for notifications and return them; none when the server ends the stream, or the client was too slow."""
        return [notice(change.kind, change.uri, self._id) for change in await self.listener.changes()]

    def taken(self) -> list[bytes]:
        """Return the notifications since the last time; there may be none. `listener.woken` says when to look."""
        return [notice(change.kind, change.uri, self._id) for change in self.listener.taken()]

    @property
    def result(self) -> bytes:
        """The reply that ends the stream: a SubscriptionsListenResult."""
        return listen_result(self._id, self._server_info)

    @property
    def cancelled(self) -> bytes:
        """The `notifications/cancelled` of the request, which over stdio comes before the result."""
        slow = self.listener.overflowed
        return encode_cancelled(
            self._id, "The client took its notifications too slowly." if slow else "The server stops."
        )

    def close(self) -> None:
        """Stop listening. Idempotent."""
        self.listener.close()
