"""The session of a legacy client that has a connection of its own, as over stdio: it lives as long as that does."""

from __future__ import annotations

from portway.protocol.capabilities import Capability
from portway.protocol.log_levels import INFO
from portway.sessions.change_bus import LIST_KINDS, URI_LIMIT, Bus
from portway.sessions.pending_questions import Pending


class LegacySession:
    """The `Session` of handlers and the dispatcher (server/context.py): what `initialize` agreed on and came after it.

    `listener` hears of every list and of what was subscribed to; it holds each change once, so it never overflows.
    `pending` holds the questions the client has yet to answer.
    """

    __slots__ = ("capabilities", "level", "listener", "pending", "version")

    def __init__(self, bus: Bus, version: str, capabilities: Capability) -> None:
        self.version = version
        self.capabilities = capabilities
        self.level = INFO
        self.listener = bus.listen(LIST_KINDS, pending_limit=URI_LIMIT + len(LIST_KINDS))
        self.pending = Pending()

    def subscribe(self, uri: str) -> None:
        """Tell the client when the resource at `uri` changes. Raises RpcError at the bound."""
        self.listener.want(uri)

    def unsubscribe(self, uri: str) -> None:
        """Stop that."""
        self.listener.unwant(uri)

    def close(self) -> None:
        """The client has gone, or began another session: nobody is told or asked any more. Idempotent."""
        self.listener.close()
        self.pending.close()
