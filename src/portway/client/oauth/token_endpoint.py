"""The provider's token endpoint: tokens for a code or a refresh token, and a login taken back (RFC 6749 sections 4.1.3
and 6, RFC 7009).
"""

import time

import msgspec

from portway.auth.tokens import LONGEST_TOKEN, is_sendable
from portway.client.errors import LoginError, Step, not_now
from portway.client.oauth.authorization import AuthorizationRequest
from portway.client.oauth.problem import is_of_client, read_problem
from portway.client.oauth.provider_web import ProviderWeb
from portway.client.oauth.stored_login import Login, RegisteredClient
from portway.oauth.client_authentication import client_authentication
from portway.oauth.guarded_fetch import Answer, GuardedFetchError
from portway.protocol.jsonrpc import UNREADABLE

_LONGEST_LIFE = 10 * 365 * 86_400.0  # seconds


class LoginOver(LoginError):
    """The provider does not take the refresh token any more, or does not know the client: only a new login helps."""


class _Tokens(msgspec.Struct):
    access_token: str
    token_type: str = "bearer"  # noqa: S105 - the name of a kind
    expires_in: float | None = None
    refresh_token: str | None = None


async def redeem(web: ProviderWeb, request: AuthorizationRequest, code: str) -> Login:
    """Return the login that a code stands for. Raises LoginError."""
    provider, client = request.discovery.provider, request.client
    fields = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": request.redirect_uri,
        "code_verifier": request.verifier,
        "resource": request.discovery.resource,
    }
    answer = await _ask(web, provider.token_endpoint, client, fields)
    tokens = _tokens(answer, provider.token_endpoint, (code, request.verifier, client.secret))
    return Login(
        provider.issuer,
        provider.token_endpoint,
        request.discovery.resource,
        client,
        tokens.access_token,
        tokens.refresh_token or "",
        _expires(tokens),
        request.scopes,
        provider.revocation_endpoint or "",
    )


async def refresh(web: ProviderWeb, login: Login) -> Login:
    """Return a login with a new access token, and the new refresh token if there is one. Raises LoginError."""
    fields = {"grant_type": "refresh_token", "refresh_token": login.refresh_token, "resource": login.resource}
    answer = await _ask(web, login.token_endpoint, login.client, fields)
    secrets = (login.refresh_token, login.client.secret)
    if answer.status in (400, 401):
        told = read_problem(answer.body, secrets)
        over = LoginOver(Step.TOKEN, f"{login.issuer} ends the login{told} (RFC 6749 section 5.2): log in again")
        over.client_is_unknown = is_of_client(told)
        raise over
    tokens = _tokens(answer, login.token_endpoint, secrets)
    return msgspec.structs.replace(
        login,
        access_token=tokens.access_token,
        refresh_token=tokens.refresh_token or login.refresh_token,
        expires=_expires(tokens),
    )


async def revoke(web: ProviderWeb, login: Login) -> bool:
    """Take a login back at the provider (RFC 7009). Return whether it has confirmed that."""
    if not login.revocation_endpoint:
        return False
    fields = {"token": login.refresh_token or login.access_token}
    try:
        answer = await _ask(web, login.revocation_endpoint, login.client, fields)
    except LoginError:
        return False
    return answer.status == 200


async def _ask(web: ProviderWeb, endpoint: str, client: RegisteredClient, fields: dict[str, str]) -> Answer:
    headers, named = client_authentication(client.client_id, client.secret, client.method)
    try:
        return await web.post_form(endpoint, fields | named, headers)
    except GuardedFetchError as error:
        raise not_now(Step.TOKEN, "RFC 6749 section 3.2", error) from None


def _tokens(answer: Answer, endpoint: str, secrets: tuple[str, ...]) -> _Tokens:
    """Return the tokens of an answer (RFC 6749 section 5.1). Raises LoginError without the `secrets` sent."""
    if answer.status != 200:
        mend = "log in again" if answer.status < 500 else "try again later"
        told = read_problem(answer.body, secrets)
        refused = LoginError(
            Step.TOKEN, f"{endpoint} answers with status {answer.status}{told} (RFC 6749 section 5.2): {mend}"
        )
        refused.client_is_unknown = is_of_client(told)
        raise refused
    try:
        tokens = msgspec.json.decode(answer.body, type=_Tokens, strict=False)  # some send "3600"
    except UNREADABLE:
        tokens = _Tokens("")
    is_usable = is_sendable(tokens.access_token) and 0 < len(tokens.access_token) <= LONGEST_TOKEN
    if not is_usable or tokens.token_type.lower() != "bearer":
        raise LoginError(
            Step.TOKEN, f"{endpoint} gives no bearer token (RFC 6749 section 5.1): ask who runs the provider"
        )
    return tokens


def _expires(tokens: _Tokens) -> float | None:
    if tokens.expires_in is None:
        return None
    return time.time() + min(max(tokens.expires_in, 0.0), _LONGEST_LIFE)
