"""Legacy sessions over HTTP: an id any process with the keys can read, and what one process remembers beside it.

The id holds what every call needs, so a restart or another replica strands no client. Log level, subscriptions,
questions and event log are remembered where they were made, bounded, and forgotten when the session is idle.
Specification: basic/transports, "Session Management" (2025-11-25).
"""

from __future__ import annotations

import os
import struct
import time
from typing import TYPE_CHECKING, Final, Protocol

from msgspec import UNSET

from portway.protocol.capabilities import Capability
from portway.protocol.errors import REFUSED, RpcError
from portway.protocol.log_levels import INFO
from portway.protocol.versions import LEGACY_VERSIONS
from portway.sessions.change_bus import LIST_KINDS, URI_LIMIT
from portway.sessions.event_log import EventLog, Shelf, Stream, names_reply
from portway.sessions.pending_questions import Pending

if TYPE_CHECKING:
    from collections.abc import Callable

    from msgspec import UnsetType

    from portway.auth.principal import Principal
    from portway.protocol.jsonrpc import Message
    from portway.protocol.sealing import Keys
    from portway.sessions.change_bus import Bus, Listener

LIFE_SECONDS = 24 * 3600
"""How long an id is good for."""
IDLE_SECONDS = 3600
"""How long a session nobody uses is remembered beyond its id."""
LIVE_LIMIT = 24_000
"""Sessions remembered at a time: more than there may be calls and streams, so there is always an idle one to forget."""
ENDED_LIMIT = 50_000
"""Ids remembered as ended."""
_SWEEP = 16
_PURPOSE: Final = b"session"
_FORMAT: Final = 1
_SEALED: Final = struct.Struct(">BBHQ8s16s16s")  # format, version, capabilities, issued, home, principal, nonce


class Cancellable(Protocol):
    """A call being answered."""

    def cancel(self) -> None:
        """Stop it; it gets no reply."""


class HttpSession:
    """One legacy client's session, as this process knows it."""

    __slots__ = (
        "_listener",
        "_log",
        "_owner",
        "_pending",
        "_sessions",
        "at_home",
        "calls",
        "capabilities",
        "id",
        "issued",
        "level",
        "owner_digest",
        "used",
        "version",
    )

    def __init__(
        self,
        sessions: Sessions,
        session_id: str,
        version: str,
        capabilities: Capability,
        issued: int,
        owner_digest: bytes,
        *,
        at_home: bool,
    ) -> None:
        self._sessions = sessions
        self.id = session_id
        self.version = version
        self.capabilities = capabilities
        self.issued = issued
        self.owner_digest = owner_digest
        self.at_home = at_home
        self.level = INFO
        self.used = 0.0
        self.calls: dict[int | str, Cancellable] = {}
        """The calls in flight, for the client to cancel."""
        self._owner: Principal | None = None
        self._pending: Pending | None = None
        self._log: EventLog | None = None
        self._listener: Listener | None = None

    def belongs_to(self, principal: Principal) -> bool:
        """Whether the session was opened by this caller; a renewed token of the same name is the same caller."""
        if principal is not self._owner:
            if principal.digest() != self.owner_digest:
                return False
            self._owner = principal
        return True

    @property
    def busy(self) -> bool:
        """Whether something is under way that must not be forgotten."""
        return bool(self.calls) or (self._log is not None and bool(self._log.standalone.carriers))

    @property
    def questions(self) -> Pending:
        """What the client has been asked by this process."""
        if self._pending is None:
            self._pending = Pending()
        return self._pending

    def give_up_questions(self) -> None:
        """Fail what the client has been asked so far."""
        if self._pending is not None:
            self._pending.close()
            self._pending = None

    def answer(self, message: Message) -> None:
        """Take the client's answer to a question. Raises RpcError (400) when none waits for it."""
        if self._pending is not None and self._pending.answer(message):
            return
        text = "No question waits for this answer: it was answered already, or given up."
        if not self.at_home:
            text = "This answer reached another process than asked: route a session's requests by their Mcp-Session-Id."
        raise RpcError(REFUSED, text, status=400)

    @property
    def log(self) -> EventLog:
        """What was said on the session's streams by this process."""
        if self._log is None:
            self._log = self._sessions.new_log()
        return self._log

    @property
    def listener(self) -> Listener:
        """What the client is to hear of that belongs to no call; made anew when it has ended."""
        listener = self._listener
        if listener is None or listener.ended:
            bus, uris = self._sessions.bus(), () if listener is None else tuple(listener.uris)
            listener = self._listener = bus.listen(
                LIST_KINDS, uris, pending_limit=URI_LIMIT + len(LIST_KINDS)
            )  # never overflows
        return listener

    def subscribe(self, uri: str) -> None:
        """Tell the client when the resource at `uri` changes. Raises RpcError as `Listener.want`."""
        self.listener.want(uri)

    def unsubscribe(self, uri: str) -> None:
        """Stop that."""
        self.listener.unwant(uri)

    def cancel(self, request_id: int | str | UnsetType) -> None:
        """Stop a call; one that is unknown or answered is left alone."""
        call = None if request_id is UNSET else self.calls.pop(request_id, None)
        if call is not None:
            call.cancel()

    def resume(self, last_event_id: bytes | None) -> tuple[Stream, int]:
        """The stream a GET is for, and the number of the event after which to go on.

        An id that says nothing here means the stand-alone stream, from now on. Raises RpcError (400) for a reply of
        which nothing is kept.
        """
        log = self.log
        found = None if last_event_id is None else log.find(last_event_id)
        if found is not None:
            return found
        if last_event_id is not None and names_reply(last_event_id):
            text = "The events after this Last-Event-ID are not kept here any more: send the request again."
            raise RpcError(REFUSED, text, status=400)
        return log.standalone, log.standalone.last

    def close(self) -> None:
        """Forget everything beside the id, and what calls in flight say yet; streams end, questions fail."""
        self.questions.close()
        self.log.close()
        if self._listener is not None:
            self._listener.close()


class Sessions:
    """The sessions of one server in one process.

    `bus` gives the change bus of the running event loop, `now` the time in seconds since the epoch.
    """

    def __init__(self, keys: Keys, bus: Callable[[], Bus], *, now: Callable[[], float] = time.time) -> None:
        self.bus = bus
        self._keys = keys
        self._now = now
        self._home = os.urandom(8)
        self._shelf = Shelf()
        self._live: dict[str, HttpSession] = {}  # the one used last is last
        self._ended: dict[str, None] = {}

    def mint(self, principal: Principal, version: str, capabilities: Capability) -> HttpSession:
        """A session for a client that has asked for one. It is remembered from its first use on, not from here."""
        issued, owner = int(self._now()), principal.digest()
        payload = _SEALED.pack(
            _FORMAT, LEGACY_VERSIONS.index(version), capabilities, issued, self._home, owner, os.urandom(16)
        )
        sealed = self._keys.seal(_PURPOSE, payload)
        return HttpSession(self, sealed, version, capabilities, issued, owner, at_home=True)

    def find(self, session_id: str, principal: Principal) -> HttpSession | None:
        """The session of an id; None when it is forged, over, another caller's, or older than LIFE_SECONDS."""
        session = self._live.get(session_id) or self._open(session_id)
        if session is None or not session.belongs_to(principal):
            return None
        now = self._now()
        if session.issued + LIFE_SECONDS <= now:
            self._forget(session)
            return None
        if self._live.pop(session_id, None) is None:
            self._forget_idle(now)
        self._live[session_id] = session
        session.used = now
        return session

    def end(self, session: HttpSession) -> None:
        """End a session for good, as far as this process decides."""
        self._forget(session)
        self._ended[session.id] = None
        if len(self._ended) > ENDED_LIMIT:
            del self._ended[next(iter(self._ended))]

    def give_up_questions(self) -> None:
        """Fail what clients have been asked: the server stops, and takes no connection that could bring an answer."""
        for session in self._live.values():
            session.give_up_questions()

    def new_log(self) -> EventLog:
        """A log for one session (for `HttpSession`)."""
        return EventLog(self._shelf)

    def _open(self, session_id: str) -> HttpSession | None:
        payload = self._keys.unseal(_PURPOSE, session_id) if len(session_id) <= 512 else None
        if payload is None or len(payload) != _SEALED.size or payload[0] != _FORMAT or session_id in self._ended:
            return None
        _, version, capabilities, issued, home, owner, _ = _SEALED.unpack(payload)
        return HttpSession(
            self,
            session_id,
            LEGACY_VERSIONS[version],
            Capability(capabilities),
            issued,
            owner,
            at_home=home == self._home,
        )

    def _forget(self, session: HttpSession) -> None:
        self._live.pop(session.id, None)
        session.close()

    def _forget_idle(self, now: float) -> None:
        """Make room: whenever a session is added, a few are looked at that nobody has used for longest."""
        for _ in range(_SWEEP):
            oldest = next(iter(self._live.values()), None)
            if oldest is None or (len(self._live) < LIVE_LIMIT and oldest.used + IDLE_SECONDS > now):
                return
            if oldest.busy:
                oldest.used = now
                self._live[oldest.id] = self._live.pop(oldest.id)
            else:
                self._forget(oldest)
