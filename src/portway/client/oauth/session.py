"""The login of one connection: from a server's refusal to a token that it takes.

none → held    a stored login, or a new one after the first 401
held → held    refreshed, when its token expires or the server refuses it (401); other processes wait for the new token
held → held    stepped up, when a call needs more scopes (403): a new login with those asked for before, and these
held → none    the provider takes the login back; the next 401 begins a new one

Within one call, each of these is done once for the same scopes, so that a server that refuses everything ends it.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar
from urllib.parse import urlsplit

import msgspec

from portway.client.errors import LoginError, LoginNeeded, Refused
from portway.client.oauth.authorization import AuthorizationRequest
from portway.client.oauth.challenge import BearerChallenge, read_challenge
from portway.client.oauth.discovery import Discovery, discover
from portway.client.oauth.login import Login, RegisteredClient
from portway.client.oauth.loopback import Loopback, can_listen, loopback
from portway.client.oauth.provider_web import ProviderWeb, web_of
from portway.client.oauth.registration import Registrar
from portway.client.oauth.settings import OAuthLogin
from portway.client.oauth.token_endpoint import LoginOver, redeem, refresh
from portway.oauth.claims import normalised

T = TypeVar("T")
_MOST_LOGINS = 3  # of one call
_OFFLINE = "offline_access"


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
                        held = self._login
                        continue
                    challenge = read_challenge(refused.challenge)
                    may_refresh = refused.status == 401 and held is not None and held.refresh_token
                    if held is not None and may_refresh and not renewed and not asked:
                        renewed = True
                        if await self._refresh(held):
                            continue
                    await self._log_in_again(refused, challenge, asked)

    async def ready(self) -> None:
        """Load the stored login, and refresh its token if that has expired. Raises LoginError."""
        async with self._lock:
            if not self._is_loaded:
                self._hold(await self._settings.storage.load(self._url))
                self._is_loaded = True
            if self._login is not None and self._login.is_over and self._login.refresh_token:
                await self._refresh(self._login)

    async def log_in(self, challenge: str) -> Login:
        """Log in anew, as an answer to a server's WWW-Authenticate, "" for none. Raises LoginError."""
        async with self._lock:
            self._hold(await self._settings.storage.load(self._url))
            return await self._log_in(read_challenge(challenge), (), [])

    async def _log_in_again(
        self, refused: Refused, challenge: BearerChallenge | None, asked: list[tuple[str, ...]]
    ) -> None:
        """Log in because the server refuses what it was sent. Raises LoginNeeded where nobody can be asked."""
        needed = tuple(challenge.scope.split()) if challenge is not None and refused.status == 403 else ()
        if self._settings.visit is None:
            if self._login is None and (challenge is None or not challenge.resource_metadata):
                raise refused
            raise LoginNeeded(self._url, needed)
        login = await self._log_in(challenge, needed, asked)
        asked.append(login.scopes)

    async def _log_in(
        self, challenge: BearerChallenge | None, needed: tuple[str, ...], asked: list[tuple[str, ...]]
    ) -> Login:
        """Log in and store it. `needed` are scopes of a 403; the scopes of `asked` were asked for in vain."""
        web = await web_of(self._url)
        last = self._login
        preferred = [self._settings.issuer or (last.issuer if last is not None else "")]
        discovery = await discover(web, self._url, challenge, preferred)
        scopes = self._scopes(discovery, challenge, needed)
        if scopes in asked or len(asked) == _MOST_LOGINS:
            raise _in_vain(discovery, needed)
        request, response = await self._authorize(web, discovery, scopes)
        login = await redeem(web, request, request.code(response))
        await self._settings.storage.save(self._url, login)
        self._hold(login)
        return login

    def _scopes(
        self, discovery: Discovery, challenge: BearerChallenge | None, needed: tuple[str, ...]
    ) -> tuple[str, ...]:
        """Return the scopes to ask for (MCP 2026-07-28, basic/authorization: Scope Selection Strategy, Step-Up)."""
        named = tuple(challenge.scope.split()) if challenge is not None else ()
        wanted = [*(named or discovery.scopes), *needed, *self._settings.scopes]
        if self._login is not None and self._login.issuer == discovery.provider.issuer:
            wanted += self._login.scopes
        if wanted and _OFFLINE in (discovery.provider.scopes_supported or ()):
            wanted.append(_OFFLINE)
        return tuple(sorted(set(wanted)))

    async def _authorize(
        self, web: ProviderWeb, discovery: Discovery, scopes: tuple[str, ...]
    ) -> tuple[AuthorizationRequest, str]:
        """Take the user to the provider. Return the request, and the URL that the browser came back to."""
        registrar = Registrar(self._settings, discovery.provider, web)
        client = registrar.known_client(self._login) or self._registered(discovery.provider.issuer)
        port = self._settings.callback_port
        if client is not None and client.redirect_uri:
            port = urlsplit(client.redirect_uri).port or port
            if not can_listen(port):  # another program has it now
                client, port = None, self._settings.callback_port
        async with loopback(port) as listener:
            if client is None:
                client = await registrar.register(listener.uri)
            request = AuthorizationRequest(discovery, client, scopes, listener.uri)
            listener.is_expected = request.has_state
            return request, await self._visit(request, listener)

    def _registered(self, issuer: str) -> RegisteredClient | None:
        """Return the client that was registered at this issuer before, and at no other."""
        last = self._login
        if last is None or last.issuer != issuer or not last.client.registered:
            return None
        expires = last.client.expires
        return last.client if expires is None or time.time() < expires else None

    async def _visit(self, request: AuthorizationRequest, listener: Loopback) -> str:
        """Return the response of the provider, from the user's function or from the loopback address."""
        assert self._settings.visit is not None
        visiting = asyncio.ensure_future(self._settings.visit(request.url))
        try:
            async with asyncio.timeout(self._settings.timeout):
                await asyncio.wait((visiting, listener.response), return_when=asyncio.FIRST_COMPLETED)
                if not listener.response.done() and (given := await visiting) is not None:
                    return given
                return await asyncio.shield(listener.response)
        except TimeoutError:
            raise LoginError(
                "authorization",
                "RFC 6749 section 4.1.2",
                f"nobody logged in within {self._settings.timeout:g} s",
                "try again",
            ) from None
        finally:
            visiting.cancel()
            await asyncio.gather(visiting, return_exceptions=True)

    async def _refresh(self, held: Login) -> bool:
        """Refresh the token, unless another process has done so. Return False if the login is over."""
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


def _in_vain(discovery: Discovery, needed: tuple[str, ...]) -> LoginError:
    """Return the error for a server that refuses what its own provider has just given."""
    if needed:
        return LoginError(
            "scopes",
            "RFC 6750 section 3.1",
            f"the server asks for {' '.join(needed)} again after a login with it",
            "ask who runs the provider for that right",
        )
    return LoginError(
        "token",
        "RFC 6750 section 3.1",
        f"the server refuses the token that {discovery.provider.issuer} has just given for {discovery.resource}",
        "ask who runs the server which tokens it takes",
    )
