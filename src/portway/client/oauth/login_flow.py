"""The steps of a new login, from a challenge to stored tokens: provider, client id, scopes, browser, code."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from portway.auth.challenge import BearerChallenge
from portway.client.errors import LoginError, Step
from portway.client.oauth.authorization import AuthorizationRequest
from portway.client.oauth.discovery import Discovery, discover
from portway.client.oauth.loopback import Loopback, can_listen, loopback
from portway.client.oauth.provider_web import ForbiddenAddress, ProviderWeb, web_of
from portway.client.oauth.registration import Registrar
from portway.client.oauth.settings import OAuthLogin
from portway.client.oauth.stored_login import Login, RegisteredClient
from portway.client.oauth.token_endpoint import redeem

_MOST_LOGINS = 3  # of one call
_OFFLINE = "offline_access"


async def new_login(
    settings: OAuthLogin,
    url: str,
    last: Login | None,
    challenge: BearerChallenge | None,
    asked: Sequence[tuple[str, ...]] = (),
) -> Login:
    """Log in at the server at `url`, which answered with this challenge, and store that. Raises LoginError.

    `last` is the login before, whose scopes are asked for again; `asked` are the scopes of logins that did not help.
    """
    web = await web_of(url)
    _refuse_clear_text(web, url)
    discovery = await discover(web, url, challenge, [settings.issuer, last.issuer if last is not None else ""])
    scopes = _scopes(settings, discovery, challenge, last)
    if scopes in asked or len(asked) == _MOST_LOGINS:
        needed = challenge.scope if challenge is not None and challenge.asks_for_scopes else ""
        raise in_vain(discovery.provider.issuer, discovery.resource, needed)
    asking = _NewLogin(settings, web, discovery, last)
    try:
        login = await asking.log_in(scopes)
    except LoginError as error:
        if not error.client_is_unknown or settings.client_id or asking.registered() is None:
            raise
        await settings.storage.save(url, None)
        login = await _NewLogin(settings, web, discovery, None).log_in(scopes)  # as a client that is registered anew
    await settings.storage.save(url, login)
    return login


def _scopes(
    settings: OAuthLogin, discovery: Discovery, challenge: BearerChallenge | None, last: Login | None
) -> tuple[str, ...]:
    """Return the scopes to ask for (MCP 2026-07-28, basic/authorization: Scope Selection Strategy, Step-Up)."""
    named = challenge.scope.split() if challenge is not None else []
    wanted = {*(named or discovery.scopes), *settings.scopes}
    if last is not None and last.issuer == discovery.provider.issuer:
        wanted |= {*last.scopes}
    if wanted and _OFFLINE in (discovery.provider.scopes_supported or ()):
        wanted.add(_OFFLINE)
    return tuple(sorted(wanted))


@dataclass(frozen=True, slots=True)
class _NewLogin:
    settings: OAuthLogin
    web: ProviderWeb
    discovery: Discovery
    last: Login | None

    async def log_in(self, scopes: tuple[str, ...]) -> Login:
        """Return the login of a user who agrees. Raises LoginError."""
        request, response = await self._authorize(scopes)
        return await redeem(self.web, request, request.code(response))

    async def _authorize(self, scopes: tuple[str, ...]) -> tuple[AuthorizationRequest, str]:
        """Take the user to the provider. Return the request, and the URL that the browser came back to."""
        registrar = Registrar(self.settings, self.discovery.provider, self.web)
        client = registrar.known_client(self.last) or self.registered()
        port = self.settings.callback_port
        if client is not None and client.redirect_uri:
            if can_listen(registered := urlsplit(client.redirect_uri).port or 0):
                port = registered
            else:  # another program has it now
                client = None
        async with loopback(port) as listener:
            if client is None:
                client = await registrar.register(listener.uri)
            request = AuthorizationRequest(self.discovery, client, scopes, listener.uri)
            listener.is_expected = request.has_state
            return request, await self._visit(request, listener)

    def registered(self) -> RegisteredClient | None:
        """Return the client that was registered at this provider before, and at no other."""
        last = self.last
        if last is None or last.issuer != self.discovery.provider.issuer or not last.client.registered:
            return None
        expires = last.client.expires
        return last.client if expires is None or time.time() < expires else None

    async def _visit(self, request: AuthorizationRequest, listener: Loopback) -> str:
        """Return the response of the provider, from the user's function or from the loopback address."""
        assert self.settings.visit is not None
        visiting = asyncio.ensure_future(self.settings.visit(request.url))
        try:
            async with asyncio.timeout(self.settings.timeout):
                await asyncio.wait((visiting, listener.response), return_when=asyncio.FIRST_COMPLETED)
                if not listener.response.done() and (given := await visiting) is not None:
                    return given
                return await asyncio.shield(listener.response)
        except TimeoutError:
            raise LoginError(
                Step.AUTHORIZATION,
                f"nobody logged in within {self.settings.timeout:g} s (RFC 6749 section 4.1.2): try again",
            ) from None
        finally:
            visiting.cancel()
            await asyncio.gather(visiting, return_exceptions=True)


def _refuse_clear_text(web: ProviderWeb, url: str) -> None:
    """Raise LoginError for a server that would get its tokens in clear text."""
    try:
        web.check(url)
    except ForbiddenAddress:
        raise LoginError(
            Step.RESOURCE, f"{url} would get tokens in clear text (RFC 6750 section 5.3): give its https:// address"
        ) from None


def in_vain(issuer: str, resource: str, needed: str = "") -> LoginError:
    """Return the error for a server that refuses what its own provider has just given; `needed` are scopes it wants."""
    if needed:
        return LoginError(
            Step.SCOPES,
            f"the server asks for {needed} again after a login with it (RFC 6750 section 3.1): ask who runs the "
            "provider for that right",
        )
    return LoginError(
        Step.TOKEN,
        f"the server refuses the token that {issuer} has just given for {resource} (RFC 6750 section 3.1): ask who "
        "runs the server which tokens it takes",
    )
