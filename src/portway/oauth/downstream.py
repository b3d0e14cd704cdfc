"""Tokens for other services, which a tool gets by `Context.token_for`: token exchange (RFC 8693) or client credentials,
and their cache.

missing   → obtaining  at the first call; others that want the same wait for the same answer
obtaining → held       what the provider gave
held      → renewing   in its last minute, or half; calls get the token at hand meanwhile
renewing  → held       also when the provider refuses, until the token at hand expires
held      → missing    it has expired, the caller's own has, or others were used later and fill the cache
"""

import asyncio
import hashlib
import logging
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

import msgspec

from portway.auth.caller_header import ASSERTION
from portway.auth.principal import Principal
from portway.auth.tokens import LONGEST_TOKEN, bearer, is_sendable
from portway.exceptions import DownstreamError, SettingError
from portway.oauth.client_authentication import FORM, authentication
from portway.oauth.guarded_fetch import Answer, GuardedFetchError, fetch
from portway.oauth.jwt import read_jwt
from portway.oauth.provider_metadata import KeptMetadata
from portway.oauth.settings import OAuth, check_scopes, reaches_private
from portway.protocol.jsonrpc import UNREADABLE

_MOST_HELD = 1024
_LONGEST_AUDIENCE = 16_384  # characters
_MOST_OBTAINED = 64  # at a time
_UNSTATED_SECONDS = 60.0  # how long a token is kept whose lifetime the provider does not state
_MARGIN_SECONDS = 10.0  # before it expires, a token is not handed out any more: the service must still take it
_RENEW_SECONDS, _RENEW_SHARE = 60.0, 0.5
_PAUSE_SECONDS = 10.0  # after a renewal that failed
_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
_ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 - the name of a kind
_JWT = "urn:ietf:params:oauth:token-type:jwt"
_KINDS = ("", _ACCESS_TOKEN, _JWT)
_NO_EXCHANGE = "the provider does not exchange this caller's token"
_NO_TRUST = "let the provider take this host's assertions for the app as subject tokens"
_MENDS = {
    "invalid_client": "check PORTWAY_AUTH_CLIENT_ID and PORTWAY_AUTH_CLIENT_SECRET",
    "unauthorized_client": "allow this grant to the server's client at the provider",
    "unsupported_grant_type": "use another PORTWAY_AUTH_DOWNSTREAM, or switch the grant on at the provider",
    "invalid_target": "register the audience at the provider, and allow it to the server's client",
    "invalid_scope": "allow the scopes to the server's client at the provider",
    "invalid_grant": _NO_EXCHANGE,
    "invalid_request": _NO_EXCHANGE,
}
"""What an operator can do about an error of the token endpoint (RFC 6749 section 5.2, RFC 8693 section 2.2.2)."""
_log = logging.getLogger("portway.oauth")

_Key = tuple[bytes, str, frozenset[str]]


class _Given(msgspec.Struct):
    access_token: str
    token_type: str
    expires_in: float = _UNSTATED_SECONDS
    issued_token_type: str = ""


class _Refusal(msgspec.Struct):
    error: str = ""


@dataclass(slots=True, repr=False)
class _Held:
    """A token, until when it is handed out, and from when on another one is asked for, in seconds since the epoch."""

    token: str
    until: float
    renew: float


@dataclass(frozen=True, slots=True, repr=False)
class _Wish:
    """What a call wants, and as whom.

    `own` is the caller's token of type `kind`, "" where the server asks as itself. `rights` are what the answer hangs
    on: the token, for another one of the same caller may have other rights, or what the gate's assertion says.
    """

    own: str
    kind: str
    rights: bytes
    audience: str
    scopes: frozenset[str]

    def key(self) -> _Key:
        """Return what the answer is kept under."""
        return hashlib.sha256(self.rights).digest(), self.audience, self.scopes


class DownstreamTokens:
    """Obtains tokens from one provider, and keeps them.

    Behind a gate, it exchanges the assertion that the gate has signed about the caller, whose token ends there.
    """

    def __init__(self, settings: OAuth, *, behind_gate: bool = False) -> None:
        self._settings = settings
        self._exchanges = settings.downstream == "exchange"
        self._behind_gate = behind_gate
        self._held: OrderedDict[_Key, _Held] = OrderedDict()  # the one unused for longest first
        self._obtaining: dict[_Key, asyncio.Task[str]] = {}
        self._metadata = KeptMetadata(settings)

    @property
    def needs_token(self) -> bool:
        """Whether a call must keep the token that its caller has sent."""
        return self._exchanges and not self._behind_gate

    async def token(
        self, caller: Principal, fields: Mapping[bytes, bytes], audience: str, scopes: Sequence[str]
    ) -> str:
        """Return a token for `audience` with `scopes`. `fields` are the call's header. Raises DownstreamError."""
        wish = self._wish(caller, fields, audience, scopes)
        ends = caller.expires if self._exchanges else None
        key, now = wish.key(), time.time()
        held = self._held.get(key)
        if held is None or now >= held.until:
            return await asyncio.shield(self._begin(key, wish, ends))
        self._held.move_to_end(key)
        if now >= held.renew:
            self._renew(key, wish, ends, held)
        return held.token

    def _wish(self, caller: Principal, fields: Mapping[bytes, bytes], audience: str, scopes: Sequence[str]) -> _Wish:
        if isinstance(scopes, str):
            raise DownstreamError("scopes are a list of texts, as in token_for(audience, ['read'])")
        try:
            check_scopes(scopes)
        except SettingError as error:
            raise DownstreamError(str(error)) from None
        if not audience.isascii() or not audience.isprintable() or not 0 < len(audience) <= _LONGEST_AUDIENCE:
            raise DownstreamError(
                f"{audience[:100]!r} is no audience: give the URL of the service, or its name at the provider"
            )
        if caller.expires is not None and time.time() >= caller.expires:
            raise DownstreamError(
                "the caller's token has expired during the call, and so has the right to others: call again"
            )
        if not self._exchanges:
            return _Wish("", "", b"", audience, frozenset(scopes))
        if self._behind_gate:  # a new assertion comes every half minute, and says the same
            own = fields.get(ASSERTION, b"").decode("latin-1")
            kind, rights = _JWT, caller.digest() + " ".join(sorted(caller.scopes)).encode()
        else:
            own = bearer(fields.get(b"authorization")) or ""
            kind, rights = _ACCESS_TOKEN, own.encode()
        if caller.issuer != self._settings.issuer or not own:
            raise DownstreamError(
                f"only a token of {self._settings.issuer} is exchanged, and {caller.subject} came without: log in there"
            )
        return _Wish(own, kind, rights, audience, frozenset(scopes))

    def _begin(self, key: _Key, wish: _Wish, ends: float | None) -> asyncio.Task[str]:
        loop = asyncio.get_running_loop()
        running = self._obtaining.get(key)
        if running is not None and running.get_loop() is loop:  # several loops may serve an application
            return running
        if len(self._obtaining) >= _MOST_OBTAINED:
            raise DownstreamError("too many tokens are being obtained at this moment: try again")
        task = self._obtaining[key] = loop.create_task(self._obtain(key, wish, ends))
        task.add_done_callback(lambda done: done.cancelled() or done.exception())  # without waiters, it is no news
        return task

    def _renew(self, key: _Key, wish: _Wish, ends: float | None, held: _Held) -> None:
        held.renew = time.time() + _PAUSE_SECONDS
        if len(self._obtaining) < _MOST_OBTAINED:
            self._begin(key, wish, ends)

    async def _obtain(self, key: _Key, wish: _Wish, ends: float | None) -> str:
        began = time.time()
        try:
            answer = await self._ask(wish)
        except DownstreamError as error:
            _log.warning("%s", error)
            raise
        finally:
            self._obtaining.pop(key, None)
        expires = began + answer.expires_in if ends is None else min(began + answer.expires_in, ends)
        early = min(_RENEW_SECONDS, answer.expires_in * _RENEW_SHARE)
        self._held[key] = _Held(answer.access_token, expires - _MARGIN_SECONDS, expires - early)
        self._held.move_to_end(key)
        if len(self._held) > _MOST_HELD:
            self._held.popitem(last=False)
        return answer.access_token

    async def _ask(self, wish: _Wish) -> _Given:
        """Ask the token endpoint (RFC 8693 section 2.1, RFC 6749 section 4.4.2)."""
        settings = self._settings
        if wish.kind == _JWT and _is_over(wish.own):
            raise DownstreamError(
                "the gate's assertion of the caller ends within a minute, which this call has outlasted: "
                "ask for the token sooner"
            )
        try:
            metadata = await self._metadata.get()
            headers, form = authentication(settings, metadata.token_endpoint_auth_methods_supported)
            form |= {"grant_type": _EXCHANGE if wish.own else "client_credentials", "audience": wish.audience}
            if "://" in wish.audience:
                form["resource"] = wish.audience  # providers know one of the two (RFC 8707)
            if wish.scopes:
                form["scope"] = " ".join(sorted(wish.scopes))
            if wish.own:
                form |= {"subject_token": wish.own, "subject_token_type": wish.kind}
                form["requested_token_type"] = _ACCESS_TOKEN
            body = urlencode(form).encode()
            answer = await fetch(
                metadata.token_endpoint, private=reaches_private(settings), body=body, headers=[FORM, *headers]
            )
        except GuardedFetchError as error:
            raise DownstreamError(f"no token for {wish.audience}: {error}") from None
        if answer.status != 200:
            raise DownstreamError(f"no token for {wish.audience}: {_reason(answer, wish)}")
        try:
            given = msgspec.json.decode(answer.body, type=_Given)
        except UNREADABLE:
            raise DownstreamError(f"{settings.issuer} does not answer as a token endpoint does") from None
        self._check(given, wish)
        return given

    def _check(self, given: _Given, wish: _Wish) -> None:
        token = given.access_token
        is_usable = is_sendable(token) and 0 < len(token) <= LONGEST_TOKEN
        if given.token_type.lower() != "bearer" or given.issued_token_type not in _KINDS or not is_usable:
            raise DownstreamError(f"{self._settings.issuer} gave no bearer token for {wish.audience}")
        if token == wish.own:
            raise DownstreamError(f"{self._settings.issuer} gave the caller's own token back for {wish.audience}")


def _reason(answer: Answer, wish: _Wish) -> str:
    try:
        code = msgspec.json.decode(answer.body, type=_Refusal).error
    except UNREADABLE:
        code = ""
    if code in _MENDS:
        mend = _NO_TRUST if wish.kind == _JWT and _MENDS[code] == _NO_EXCHANGE else _MENDS[code]
        return f"the provider answers {code}: {mend}"
    return f"its token endpoint answers with status {answer.status}"


def _is_over(assertion: str) -> bool:
    """Return whether the gate's assertion has expired. Whether it is genuine is for the provider to say."""
    found = read_jwt(assertion)
    ends = found.claims.get("exp") if found else None
    return isinstance(ends, int) and time.time() >= ends
