"""The login of one connection: what follows a 401 (log in, refresh), a 403 (more scopes), and when it stops trying.

none → held    a stored login, or a new one after the first 401
held → held    refreshed, when its token expires or the server refuses it (401); other processes wait for the new token
held → held    stepped up, when a call needs more scopes (403): a new login with those asked for before, and these
held → none    the provider takes the login back; the next 401 begins a new one

Within one call, each of these is done once for the same scopes, so that a server that refuses everything ends it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec

from portway.auth.challenge import read_challenge
from portway.client.errors import LoginNeeded, Refused
from portway.client.oauth.settings import OAuthLogin
from portway.client.oauth.stored_login import Login
from portway.oauth.claims import normalised

T = TypeVar("T")


class LoginSession:
    """The login at the server at `url`. `use` gets each new access token, "" for none."""

    def __init__(self, settings: OAuthLogin, url: str, use: Callable[[str], None]) -> None:
        self._settings = settings
        self._url = normalised(url)
        self._use = use
        self._login: Login | None = None
        self._is_loaded = False
        self._lock = asyncio.Lock()

    async def run(self, work: Callable[[], Awaitable[T]]) -> T:
        """Return the result of `work`; when the server refuses it, log in and do it again.

        Raises LoginError, LoginNeeded, and what `work` raises.
        """
        await self.ready()
        asked: list[tuple[str, ...]] = []  # the scopes of this call's logins
        renewed = False
        while True:
            held = self._login
            try:
                return await work()
            except Refused as refused:
                async with self._lock:
                    if self._login is not held:  # another call has logged in meanwhile
                        continue
                    if refused.status == 401 and held is not None and held.refresh_token and not renewed and not asked:
                        renewed = True
                        if await self._refresh(held):
                            continue
                    asked.append((await self._log_in(refused, asked)).scopes)

    async def ready(self) -> None:
        """Load the stored login, and refresh its token if that has expired. Raises LoginError."""
        async with self._lock:
            if not self._is_loaded:
                self._hold(await self._settings.storage.load(self._url))
                self._is_loaded = True
            if self._login is not None and self._login.is_over and self._login.refresh_token:
                await self._refresh(self._login)

    async def _log_in(self, refused: Refused, asked: list[tuple[str, ...]]) -> Login:
        """Log in because the server refuses what it was sent. Raises LoginNeeded where nobody can be asked."""
        challenge = read_challenge(refused.challenge)
        if self._settings.visit is None:
            if self._login is None and (challenge is None or not challenge.resource_metadata):
                raise refused
            needed = challenge.scope.split() if challenge is not None and refused.status == 403 else ()
            raise LoginNeeded(self._url, tuple(needed))
        from portway.client.oauth.login_flow import new_login

        login = await new_login(self._settings, self._url, self._login, challenge, asked)
        self._hold(login)
        return login

    async def _refresh(self, held: Login) -> bool:
        """Refresh the token, unless another process has done so. Return False if the login is over."""
        from portway.client.oauth.provider_web import web_of
        from portway.client.oauth.token_endpoint import LoginOver, refresh

        storage = self._settings.storage
        async with storage.lock(self._url):
            current = await storage.load(self._url)
            if current is None or current.access_token != held.access_token:
                self._hold(current)
                return current is not None and bool(current.access_token)
            try:
                login = await refresh(await web_of(self._url), current)
            except LoginOver as over:
                kept = msgspec.structs.replace(current, access_token="", refresh_token="", expires=None)
                self._hold(None if over.client_is_unknown else kept)
                await storage.save(self._url, self._login)
                return False
            await storage.save(self._url, login)
            self._hold(login)
            return True

    def _hold(self, login: Login | None) -> None:
        self._login = login
        self._use(login.access_token if login is not None else "")
