"""The session ids that the gate gives to clients: the instance's id and name, sealed; one that is unknown or has ended
is refused.

The gate keeps no table of sessions, which a flood could fill or a restart lose: the id itself names the instance, and
is valid only for the caller and the app it was given for. Where the instance's server is not Portway's, the id also
holds the params of the client's `initialize`, by which `moved_sessions` opens the session again elsewhere.
Specification: basic/transports (2025-11-25).
"""

import base64
import hmac
from hashlib import blake2b

import msgspec

from portway.host.gate.callers import Caller
from portway.protocol.errors import REFUSED, RpcError

_LONGEST = 4096  # bytes of an instance's own session id
_LONGEST_OPENING = 8192  # bytes of the params in an id
_MOST_ENDED = 10_000
_SHOWS_FORMS = "!"  # after the name of the instance
_MAC_BYTES, _MAC_LENGTH = 18, 24  # as it is, and in base64


class Session(msgspec.Struct, frozen=True):
    """A client's legacy session. `token` is the id the client holds, `upstream` the instance's own.

    `opening` is the params of its `initialize`, empty for a server of Portway's: any instance takes its ids.
    `shows_forms`: its client says so; where there is an `opening`, that says it.
    """

    token: bytes
    upstream: bytes
    instance: str
    opening: bytes = b""
    shows_forms: bool = False

    @property
    def key(self) -> str:
        """The part of the id by which the session is known, and which nobody can use it by: the MAC."""
        return self.token[:_MAC_LENGTH].decode()


class SessionIds:
    """Seals and opens session ids. Remembers only which sessions have ended, a bounded number of them."""

    def __init__(self, secret: bytes) -> None:
        self._ended: dict[bytes, None] = {}
        self._keyed = blake2b(key=secret, digest_size=_MAC_BYTES, person=b"portway-session")

    def seal(
        self,
        app: str,
        caller: Caller,
        instance: str,
        upstream: bytes,
        opening: bytes = b"",
        *,
        shows_forms: bool = False,
    ) -> bytes | None:
        """Return the client's id of a session of `instance`; None when the instance's id is not visible ASCII."""
        if not is_session_id(upstream):
            return None
        if opening:
            if len(opening) > _LONGEST_OPENING:
                opening = b"null"  # no server opens a session by that
            instance += "~" + base64.urlsafe_b64encode(opening).decode()
        elif shows_forms:
            instance += _SHOWS_FORMS
        token = b"%b.%b.%b" % (self._mac(app, caller, instance, upstream), instance.encode(), upstream)
        self._ended.pop(token, None)  # an instance may use an id again
        return token

    def open(self, app: str, caller: Caller, token: bytes) -> Session:
        """Return the session of an id. Raises RpcError (404) unless it was given to this caller, for this app."""
        mac, _, rest = token.partition(b".")
        instance, _, upstream = rest.partition(b".")
        name = instance.decode("latin-1")
        genuine = hmac.compare_digest(mac, self._mac(app, caller, name, upstream))
        if not genuine or token in self._ended:
            raise has_ended()
        name, _, opening = name.partition("~")
        shows_forms = name.endswith(_SHOWS_FORMS)
        name = name.removesuffix(_SHOWS_FORMS)
        return Session(token, upstream, name, base64.urlsafe_b64decode(opening), shows_forms)

    def end(self, session: Session) -> None:
        """Refuse this session from now on."""
        if len(self._ended) >= _MOST_ENDED:
            del self._ended[next(iter(self._ended))]
        self._ended[session.token] = None

    def _mac(self, app: str, caller: Caller, instance: str, upstream: bytes) -> bytes:
        mac = self._keyed.copy()
        mac.update(f"{app}\0{caller.identity}\0{instance}\0".encode())  # a NUL is in none of them
        mac.update(upstream)
        return base64.urlsafe_b64encode(mac.digest())


def has_ended() -> RpcError:
    """Return the error upon which a client initializes a new session."""
    return RpcError(REFUSED, "The session has ended, or belongs to another caller: initialize a new one.", status=404)


def is_session_id(upstream: bytes) -> bool:
    """Whether an instance's session id is one: visible ASCII, and not too long."""
    return 0 < len(upstream) <= _LONGEST and min(upstream) >= 0x21 and max(upstream) <= 0x7E
