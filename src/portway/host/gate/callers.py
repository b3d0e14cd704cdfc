"""The callers of the gate by their tokens: found, changed, expired, revoked."""

import dataclasses
import heapq
import time
from collections.abc import Iterable

import msgspec
from msgspec.structs import replace

from portway.auth.caller_header import HEADER, relay
from portway.auth.principal import ANONYMOUS, Principal
from portway.auth.tokens import bearer, digest
from portway.host.token_table import Token, TokenChange
from portway.policy.groups import Groups
from portway.protocol.errors import REFUSED, RpcError

_KNOWN_HEADERS = 1024
_LONGEST = 255  # characters of a subject (OIDC Core section 2), and of its issuer, in the call record


class Caller:
    """The owner of a token: its `name` in the call record, `identity` for sessions, `header` for instances.

    `authorization` is the header with an access token, empty for a named token. `scopes` are those of its token, and of
    its `groups` in the app; `visible` are these and those that it could get, so what they open is listed. `assertion`
    is the header that was last signed for it, to be used until `asserted_until` (`caller_assertions.py`).
    """

    __slots__ = (
        *("app", "groups", "header", "identity", "name", "principal", "revoked", "scopes", "visible"),
        *("__weakref__", "asserted_until", "assertion", "authorization"),
    )

    def __init__(self, app: str, principal: Principal, authorization: bytes = b"") -> None:
        self.app = app
        self.principal = principal
        self.authorization = authorization
        if authorization:
            self.name = f"{principal.issuer[:_LONGEST]}|{principal.subject[:_LONGEST]}"  # no named token has that name
            self.identity = msgspec.json.encode((principal.issuer, principal.subject)).decode()  # has no NUL
        else:
            self.name = principal.subject
            self.identity = f"{principal.issuer}\0{principal.subject}"
        self.join(None)
        self.revoked: RpcError | None = None  # why the requests of this caller must end

    def join(self, groups: Groups | None) -> None:
        """Have the scopes of these groups, and of no others."""
        principal = self.principal if groups is None else groups.joined(self.principal)
        self.groups, self.scopes, self.header = groups, principal.scopes, (HEADER, relay(principal))
        self.visible = self.scopes | principal.obtainable
        self.assertion, self.asserted_until = (b"", b""), 0.0


NOBODY = Caller("", ANONYMOUS)
"""The caller without a token, whom public apps admit."""


class Callers:
    """All tokens by digest. A caller is made from its token at its first call."""

    def __init__(self) -> None:
        self.known = False  # the tokens have been read once
        self.revoked = 0  # number of callers so far whose requests had to end
        self._tokens: dict[str, Token] = {}
        self._callers: dict[str, Caller] = {}
        self._ends: list[tuple[int, str]] = []  # a heap of the times at which tokens expire, in Unix seconds
        self.by_header: dict[bytes, Caller] = {}  # by valid Authorization value, to save hashing

    def find(self, authorization: bytes) -> Caller | None:
        """Return the caller of an Authorization value, None when it has no valid token."""
        if (token := bearer(authorization)) is None:
            return None
        key = digest(token)
        caller = self._callers.get(key)
        if caller is None and (found := self._tokens.get(key)) is not None:
            principal = Principal("portway", found.name, found.name, frozenset(found.scopes), expires=found.expires)
            caller = self._callers[key] = Caller(found.app, principal)
        if caller is not None and len(self.by_header) < _KNOWN_HEADERS:
            self.by_header[authorization] = caller
        return caller

    def replace(self, tokens: dict[str, Token]) -> None:
        """Use exactly these tokens, by digest, from now on."""
        before, self._tokens, self.known = self._tokens, tokens, True
        self._ends = [(token.expires, key) for key, token in tokens.items() if token.expires is not None]
        heapq.heapify(self._ends)
        for key in list(self._callers):
            self._revise(key, before[key], tokens.get(key))

    def change(self, changes: Iterable[TokenChange]) -> None:
        """Add and drop tokens."""
        for change in changes:
            if change.add is not None:
                if change.add.expires is not None:
                    heapq.heappush(self._ends, (change.add.expires, change.add.digest))
                before = self._tokens.get(change.add.digest)
                self._tokens[change.add.digest] = change.add
                if before is not None:
                    self._revise(before.digest, before, change.add)
            elif (before := self._tokens.pop(change.drop, None)) is not None:
                self._revise(before.digest, before, None)

    @property
    def next_end(self) -> float | None:
        """The time at which the next token expires, in Unix seconds; None if none does."""
        return self._ends[0][0] if self._ends else None

    def end_expired(self) -> None:
        """Drop the tokens that have expired by now."""
        now = time.time()
        while self._ends and self._ends[0][0] <= now:
            _, key = heapq.heappop(self._ends)
            token = self._tokens.get(key)
            if token is not None and token.expires is not None and token.expires <= now:
                del self._tokens[key]
                self._revise(key, token, None, "The token has expired.")

    def _revise(self, key: str, before: Token, after: Token | None, why: str = "The token has been revoked.") -> None:
        """Forget the caller of a token that has changed, and mark one that may do less than before.

        One whose token ends at another time than before is the same caller.
        """
        if after is not None and replace(after, expires=before.expires) == before:
            if (caller := self._callers.get(key)) is not None:
                caller.principal = dataclasses.replace(caller.principal, expires=after.expires)
                caller.join(caller.groups)
            return
        if (caller := self._callers.pop(key, None)) is None:
            return
        self.by_header.clear()
        if after is None or (after.app, after.name) != (before.app, before.name):
            self.revoked += 1
            caller.revoked = RpcError(REFUSED, why, status=401)
        elif not set(before.scopes) <= set(after.scopes):
            self.revoked += 1
            caller.revoked = RpcError(REFUSED, "The scopes of the token have been narrowed.", status=403)
