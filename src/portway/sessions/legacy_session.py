"""The session of a legacy client, whatever the transport: what `initialize` agreed on, its subscriptions, its open
questions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from portway.protocol.log_levels import INFO
from portway.sessions.change_bus import LIST_KINDS, URI_LIMIT
from portway.sessions.pending_questions import PendingQuestions

if TYPE_CHECKING:
    from collections.abc import Callable

    from portway.protocol.capabilities import DeclaredClient
    from portway.sessions.change_bus import Bus, Listener


class LegacySession:
    """What `initialize` agreed on, and what came after it; open until `close()`.

    `level` is the index in `LEVELS` of the least severe log message the client wants. `bus` returns the change bus of
    the running event loop.
    """

    __slots__ = ("_bus", "_listener", "_questions", "client", "level", "version")

    def __init__(self, bus: Callable[[], Bus], version: str, client: DeclaredClient) -> None:
        self._bus = bus
        self.version = version
        self.client = client
        self.level = INFO
        self._questions: PendingQuestions | None = None
        self._listener: Listener | None = None

    @property
    def questions(self) -> PendingQuestions:
        """What the client has been asked by this process."""
        if self._questions is None:
            self._questions = PendingQuestions()
        return self._questions

    def listen(self) -> Listener:
        """Return the listener for all lists and the subscribed resources; make a new one if it has ended.

        It cannot overflow: it has room for every distinct change.
        """
        listener = self._listener
        if listener is None or listener.ended:
            uris = () if listener is None else tuple(listener.uris)
            listener = self._bus().listen(LIST_KINDS, uris, pending_limit=URI_LIMIT + len(LIST_KINDS))
            self._listener = listener
        return listener

    def subscribe(self, uri: str) -> None:
        """Tell the client when the resource at `uri` changes. Raises RpcError as `Listener.want`."""
        self.listen().want(uri)

    def unsubscribe(self, uri: str) -> None:
        """Stop telling the client of the resource at `uri`."""
        self.listen().unwant(uri)

    def close(self) -> None:
        """End the notifications to the client, and fail every question, also those asked later."""
        self.questions.close()
        if self._listener is not None:
            self._listener.close()
