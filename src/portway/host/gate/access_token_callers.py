"""Callers of the gate who log in: their access tokens are verified, remembered, doubted again, and what is open ends
with them.

A caller is in one of these states:

    (none) → known    its token was verified; the next calls with it are a look-up
    known  → doubted  the provider's keys, or the app's login, have changed: the token is verified again
    doubted → known   it is still good
    known, doubted → ended    it has expired, is not good any more or has lost a scope: what is open ends

The caller of an opaque token is doubted by each call, for the provider may revoke it; the answer is kept for a minute
(`oauth/introspection.py`). What it has open is looked at as often.

One timer watches all callers.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Container, Mapping, Sequence
from weakref import WeakSet

from portway.auth.tokens import bearer, is_still_good
from portway.exceptions import SettingError
from portway.host.gate.callers import Caller
from portway.host.gate.protected_app import ProtectedApp
from portway.host.new_token import is_of_a_host
from portway.host.routing_table import Auth
from portway.oauth.access_tokens import Outcome
from portway.oauth.jwt import read_jwt
from portway.oauth.settings import OAuth
from portway.oauth.signing_keys import SigningKeys
from portway.protocol.errors import REFUSED, RpcError

_MOST_KNOWN = 4096
_QUESTION_SECONDS = 60.0  # between questions about opaque tokens
_TICK = 1.0  # seconds between looks at expiry and at the keys
_log = logging.getLogger("portway.gate")


class AccessTokenCallers:
    """The protected apps, and the callers of each.

    `review` is called when a caller has ended, `count` with the issuer and the outcome of each check of a token.
    """

    def __init__(self) -> None:
        self.review: Callable[[], None] = lambda: None
        self.count: Callable[[str, Outcome], None] = lambda _issuer, _outcome: None
        self.known: dict[tuple[str, bytes], Caller] = {}  # by app and Authorization value; the oldest first
        self._apps: dict[str, ProtectedApp] = {}
        self._keys: dict[tuple[str, bool], SigningKeys] = {}
        self._editions: dict[SigningKeys, int] = {}
        self._open: WeakSet[Caller] = WeakSet()  # those that are known, or have calls
        self._opaque: WeakSet[Caller] = WeakSet()  # those of opaque tokens
        self._next_end, self._next_question = math.inf, 0.0  # seconds since the epoch
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def protect(
        self, app: str, auth: Auth | None, urls: Mapping[str, str], announced: Sequence[str] = ()
    ) -> ProtectedApp | None:
        """Return an app as a protected resource at its `urls`, None where nobody logs in."""
        former = self._apps.get(app)
        if former is not None and auth is not None and former.is_made_of(auth, announced, urls):
            return former
        made = None
        if auth is not None:
            try:
                made = self._apps[app] = ProtectedApp(app, auth, announced, urls, self._keys_of, self.count)
            except SettingError as error:  # of a control of another version
                _log.error("nobody can log in at %s: %s", app, error)
        if made is None:
            self._apps.pop(app, None)
        if former is not None:
            in_use = {keys for each in self._apps.values() for keys in each.keys.values()}
            self._keys = {of: keys for of, keys in self._keys.items() if keys in in_use}
            self._editions = {keys: edition for keys, edition in self._editions.items() if keys in in_use}
            self._doubt((app,))
        return made

    async def find(self, app: ProtectedApp, authorization: bytes, token: str) -> Caller | None:
        """Return who calls an app with a token; None for one that is not valid there. Raises `VerifierUnavailable`."""
        principal = None if is_of_a_host(token) else await app.tokens.verify(token)
        if principal is None or self._apps.get(app.name) is not app:
            return None
        caller = self.known.get((app.name, authorization))
        if caller is not None:
            return caller
        caller = Caller(app.name, principal, authorization)
        self._watch(caller, app.keys[principal.issuer])
        if read_jwt(token) is None:
            self._opaque.add(caller)
            return caller
        if len(self.known) >= _MOST_KNOWN:
            del self.known[next(iter(self.known))]
        self.known[app.name, authorization] = caller
        return caller

    def _watch(self, caller: Caller, keys: SigningKeys) -> None:
        self._open.add(caller)
        self._next_end = min(self._next_end, _expiry(caller))
        self._editions.setdefault(keys, keys.edition)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_TICK, self._look)

    def _keys_of(self, provider: OAuth) -> SigningKeys:
        """Return the keys of a provider, which all its apps share."""
        return self._keys.setdefault((provider.issuer, provider.private), SigningKeys(provider))

    def _look(self) -> None:
        """End who has expired, and doubt whom the provider's keys may not vouch for any more."""
        now = time.time()
        if now >= self._next_end:
            ended = [caller for caller in self._open if now >= _expiry(caller)]
            self._end(ended, "The access token has expired: log in again, or refresh it.")
            self._next_end = min(map(_expiry, self._open), default=math.inf)
        for keys, edition in list(self._editions.items()):
            keys.refresh()
            if keys.edition != edition:
                self._editions[keys] = keys.edition
                self._doubt({name for name, app in self._apps.items() if keys in app.keys.values()})
        if self._opaque and now >= self._next_question:
            self._next_question = now + _QUESTION_SECONDS
            self._verify_soon(list(self._opaque))
        if self._open:
            self._timer = asyncio.get_running_loop().call_later(_TICK, self._look)
        else:
            self._timer = None
            self._editions.clear()

    def _doubt(self, apps: Container[str]) -> None:
        """Forget the callers of some apps, and verify again those who have something open."""
        self.known = {key: caller for key, caller in self.known.items() if caller.app not in apps}
        self._verify_soon([caller for caller in self._open if caller.app in apps])

    def _verify_soon(self, doubted: list[Caller]) -> None:
        if doubted:
            task = asyncio.get_running_loop().create_task(self._verify_again(doubted))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _verify_again(self, doubted: list[Caller]) -> None:
        bad = []
        for caller in doubted:
            app, token = self._apps.get(caller.app), bearer(caller.authorization)
            if app is None or token is None or not await is_still_good(app.tokens, token, caller.principal):
                bad.append(caller)
            await asyncio.sleep(0)  # so that many do not keep the calls waiting
        self._end(bad, "The access token is not valid any more: log in again.")

    def _end(self, callers: list[Caller], reason: str) -> None:
        for caller in callers:
            caller.revoked = caller.revoked or RpcError(REFUSED, reason, status=401)
            self.known.pop((caller.app, caller.authorization), None)
            self._open.discard(caller)
            self._opaque.discard(caller)
        if callers:
            self.review()


def _expiry(caller: Caller) -> float:
    """Return when the token of a caller expires, in seconds since the epoch."""
    return math.inf if caller.principal.expires is None else caller.principal.expires
