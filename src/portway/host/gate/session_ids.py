"""Session ids as clients of the gate hold them: the instance's own id, with who minted it for whom, under a seal.

So the gate keeps no table of sessions that a flood could empty or a restart lose: the id itself leads to the instance,
and only for the caller it was given to. Specification: basic/transports, session management (2025-11-25).
"""

import base64
import hmac
from hashlib import blake2b

import msgspec

from portway.host.gate.routing import Caller
from portway.protocol.errors import REFUSED, RpcError

HEADER = b"mcp-session-id"
_LONGEST = 4096  # of an instance's own id
_LONGEST_ID = 256  # of a call that can be cancelled
_MOST_CALLS = 10_000
_MOST_ENDED = 10_000


class Session(msgspec.Struct, frozen=True):
    """`token` is the id as the client holds it, `upstream` the instance's own."""

    token: bytes
    upstream: bytes
    instance: str


class Running:
    """The fresh ids of sessions' calls that their clients may still cancel.

    Of too many, the oldest are forgotten, and long ids are not kept at all: clients choose them.
    """

    def __init__(self) -> None:
        self._fresh: dict[tuple[bytes, int | str], str] = {}

    def add(self, session: Session, original: int | str, fresh: str) -> None:
        if isinstance(original, str) and len(original) > _LONGEST_ID:
            return
        if len(self._fresh) >= _MOST_CALLS:
            del self._fresh[next(iter(self._fresh))]
        self._fresh[session.token, original] = fresh

    def drop(self, session: Session, original: int | str) -> None:
        self._fresh.pop((session.token, original), None)

    def find(self, session: Session, original: int | str) -> str | None:
        return self._fresh.get((session.token, original))


class Sessions:
    """Seals and opens session ids. Only those that have been ended are remembered, the last of them."""

    def __init__(self, secret: bytes) -> None:
        self._ended: dict[bytes, None] = {}
        self._keyed = blake2b(key=secret[:64], digest_size=18, person=b"portway-session")

    def seal(self, app: str, caller: Caller, instance: str, upstream: bytes) -> bytes | None:
        """The client's id of a session an instance has minted; None for an id that is not visible ASCII."""
        if not 0 < len(upstream) <= _LONGEST or min(upstream) < 0x21 or max(upstream) > 0x7E:
            return None
        token = b"%b.%b.%b" % (self._mac(app, caller, instance, upstream), instance.encode(), upstream)
        self._ended.pop(token, None)  # an instance may give an id again
        return token

    def open(self, app: str, caller: Caller, token: bytes) -> Session:
        """The session a client names. Raises RpcError (status 404) unless this caller was given it for this app."""
        mac, _, rest = token.partition(b".")
        instance, _, upstream = rest.partition(b".")
        name = instance.decode("latin-1")
        genuine = hmac.compare_digest(mac, self._mac(app, caller, name, upstream))
        if not genuine or token in self._ended:
            text = "There is no such session any more, or it is another caller's: initialize a new one."
            raise RpcError(REFUSED, text, status=404)
        return Session(token, upstream, name)

    def end(self, session: Session) -> None:
        """From now on there is no such session."""
        if len(self._ended) >= _MOST_ENDED:
            del self._ended[next(iter(self._ended))]
        self._ended[session.token] = None

    def _mac(self, app: str, caller: Caller, instance: str, upstream: bytes) -> bytes:
        mac = self._keyed.copy()
        mac.update(f"{app}\0{caller.identity}\0{instance}\0".encode())  # a NUL is in none of them
        mac.update(upstream)
        return base64.urlsafe_b64encode(mac.digest())
