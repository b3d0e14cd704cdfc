"""Legacy sessions over HTTP: ids that any process with the keys can read, how long they live, when an idle one is
forgotten, and what a process remembers beside them.

The id holds what every call needs, so a session goes on after a restart and on another replica. Log level,
subscriptions, questions and event log are remembered where they were made, bounded, and forgotten when idle.
Specification: basic/transports, "Session Management" (2025-11-25).
"""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import UNSET

from portway.auth.principal import Principal
from portway.protocol.capabilities import Capability, DeclaredClient
from portway.protocol.errors import REFUSED, RpcError
from portway.sessions.early_cancellations import EarlyCancellations
from portway.sessions.event_log import EventLog, Shelf, Stream, names_reply
from portway.sessions.legacy_session import LegacySession

if TYPE_CHECKING:
    from collections.abc import Callable

    from msgspec import UnsetType

    from portway.protocol.jsonrpc import Message
    from portway.protocol.sealing import Keys
    from portway.sessions.change_bus import Bus

LIFE_SECONDS = 24 * 3600
"""Age at which an id expires."""
IDLE_SECONDS = 3600
"""Time without a request after which what is remembered of a session may be dropped."""
LIVE_LIMIT = 24_000
"""Sessions remembered at a time: more than there may be calls and streams, so there is always an idle one to forget."""
ENDED_LIMIT = 50_000
"""Ids remembered as ended."""
_SWEEP = 16  # idle sessions looked at whenever one is added
_LONGEST_ID = 1024
_NAME_LENGTH, _VERSION_LENGTH = 100, 40  # characters kept of what a client calls itself: an id is a header field
_PURPOSE: Final = b"session"
_log = logging.getLogger("portway.sessions")


class _Sealed(msgspec.Struct, array_like=True, frozen=True):
    """What an id holds: `issued` is in seconds since the epoch, `minted_by` the process, `owner` a digest."""

    version: str
    capabilities: int
    name: str
    software_version: str
    issued: int
    minted_by: bytes
    owner: bytes
    nonce: bytes


class HttpSession(LegacySession):
    """One legacy client's session over HTTP, as this process knows it.

    It is minted (`initialize`), then live in each process that a request with its id reaches, until DELETE ends it, it
    is older than LIFE_SECONDS, or nobody has used it for IDLE_SECONDS. A live session that was forgotten for being idle
    is live again with the next request, without what was remembered beside the id.
    """

    __slots__ = ("_log", "_owner", "_sealed", "_sessions", "calls", "id", "used")

    def __init__(self, sessions: Sessions, session_id: str, sealed: _Sealed) -> None:
        client = DeclaredClient(Capability(sealed.capabilities), sealed.name, sealed.software_version)
        super().__init__(sessions.bus, sealed.version, client)
        self._sessions = sessions
        self._sealed = sealed
        self._owner: Principal | None = None
        self._log: EventLog | None = None
        self.id = session_id
        self.used = 0.0
        self.calls: dict[int | str, Callable[[int | str], None]] = {}
        """What cancels a call in flight, by the call's id."""

    @property
    def expires(self) -> int:
        """When the id expires, in seconds since the epoch."""
        return self._sealed.issued + LIFE_SECONDS

    def belongs_to(self, principal: Principal) -> bool:
        """Return whether this caller opened the session; a renewed token of the same name is the same caller."""
        if principal is not self._owner:
            if principal.digest() != self._sealed.owner:
                return False
            self._owner = principal
        return True

    @property
    def busy(self) -> bool:
        """Whether a call or an open stream needs what is remembered."""
        return bool(self.calls) or (self._log is not None and bool(self._log.standalone.carriers))

    def give_up_questions(self) -> None:
        """Fail what the client has been asked so far."""
        if self._questions is not None:
            self._questions.close()
            self._questions = None

    def answer(self, message: Message) -> None:
        """Take the client's answer to a question; nothing happens if none waits for it.

        It may have come too late. A refusal would make the official client 1.x give up the session.
        """
        if not self.questions.answer(message) and self._sealed.minted_by != self._sessions.process:
            self._sessions.warn_of_answers_elsewhere()

    @property
    def log(self) -> EventLog:
        """What this process said on the session's streams."""
        if self._log is None:
            self._log = EventLog(self._sessions.shelf)
        return self._log

    def enter(self, request_id: int | str, cancel: Callable[[int | str], None]) -> None:
        """Let a call be cancelled, at once if its cancellation has overtaken it."""
        self.calls[request_id] = cancel
        early = self._sessions.early
        if early and early.take(self.id, request_id, self._sessions.now()):
            cancel(request_id)

    def cancel(self, request_id: int | str | UnsetType) -> None:
        """Cancel a call, also one that comes within EarlyCancellations' time; nothing happens for one answered."""
        if request_id is UNSET:
            return
        if (cancel := self.calls.pop(request_id, None)) is not None:
            cancel(request_id)
        else:
            self._sessions.early.add(self.id, request_id, self._sessions.now())

    def resume(self, last_event_id: bytes | None) -> tuple[Stream, int]:
        """Return the stream a GET is for, and the number of the event after which to go on.

        Without an id, or with one of an event not kept here, that is the stand-alone stream from now on. Raises
        RpcError (400) for the event of a reply that is not kept.
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
        """Cancel the calls, and end the streams and the questions; messages sent after this are not kept."""
        for request_id in tuple(self.calls):
            self.cancel(request_id)
        super().close()
        self.log.close()


class Sessions:
    """The HTTP sessions of one server in one process.

    `bus` returns the change bus of the running event loop, `now` the time in seconds since the epoch.
    """

    def __init__(self, keys: Keys, bus: Callable[[], Bus], *, now: Callable[[], float] = time.time) -> None:
        self.bus = bus
        self.process = os.urandom(8)
        """Names this process in the ids it mints."""
        self.shelf = Shelf()
        self.early = EarlyCancellations()
        self._keys = keys
        self.now = now
        self._live: dict[str, HttpSession] = {}  # the one used last is last
        self._ended: dict[str, None] = {}
        self._warned = False

    def mint(self, principal: Principal, version: str, client: DeclaredClient) -> HttpSession:
        """Return a new session. It is remembered from its first use on, not from here."""
        name, software_version = client.name[:_NAME_LENGTH], client.version[:_VERSION_LENGTH]
        issued, owner, nonce = int(self.now()), principal.digest(), os.urandom(16)
        sealed = _Sealed(version, client.capabilities, name, software_version, issued, self.process, owner, nonce)
        return HttpSession(self, self._keys.seal(_PURPOSE, msgspec.msgpack.encode(sealed)), sealed)

    def find(self, session_id: str, principal: Principal) -> HttpSession | None:
        """Return the session of an id; None when it is forged, over, another caller's, or older than LIFE_SECONDS."""
        session = self._live.get(session_id) or self._open(session_id)
        if session is None or not session.belongs_to(principal):
            return None
        now = self.now()
        if session.expires <= now:
            self._forget(session)
            return None
        if self._live.pop(session_id, None) is None:
            self._forget_idle(now)
        self._live[session_id] = session
        session.used = now
        return session

    def end(self, session: HttpSession) -> None:
        """End a session: this process refuses its id from now on."""
        self._forget(session)
        self._ended[session.id] = None
        if len(self._ended) > ENDED_LIMIT:
            del self._ended[next(iter(self._ended))]

    def warn_of_answers_elsewhere(self) -> None:
        """Log, once, that an answer came to a process that did not ask: the process that did still waits."""
        if not self._warned:
            self._warned = True
            _log.warning(
                "a client's answer came to a process that did not ask: unless this server has just been restarted, "
                "route a session's requests by their Mcp-Session-Id"
            )

    def give_up_questions(self) -> None:
        """Fail what clients have been asked: the server stops, and takes no connection that could bring an answer."""
        for session in self._live.values():
            session.give_up_questions()

    def _open(self, session_id: str) -> HttpSession | None:
        payload = self._keys.unseal(_PURPOSE, session_id) if len(session_id) <= _LONGEST_ID else None
        if payload is None or session_id in self._ended:
            return None
        try:
            return HttpSession(self, session_id, msgspec.msgpack.decode(payload, type=_Sealed))
        except msgspec.MsgspecError:  # sealed by another release of Portway
            return None

    def _forget(self, session: HttpSession) -> None:
        self._live.pop(session.id, None)
        session.close()

    def _forget_idle(self, now: float) -> None:
        """Look at the few sessions that nobody has used for longest, and forget those that are idle."""
        for _ in range(_SWEEP):
            oldest = next(iter(self._live.values()), None)
            if oldest is None or (len(self._live) < LIVE_LIMIT and oldest.used + IDLE_SECONDS > now):
                return
            if oldest.busy:
                oldest.used = now
                self._live[oldest.id] = self._live.pop(oldest.id)
            else:
                self._forget(oldest)
