"""`portway login URL` and `logout URL` at a server: log in, log out and the stored token, by a program's wish and not
because a call was refused.
"""

from dataclasses import replace

from portway.auth.challenge import BearerChallenge, read_challenge
from portway.client.client import Client
from portway.client.errors import ClientError, LoginError, LoginNeeded, Refused, Step
from portway.client.oauth.connection_login import LoginSession
from portway.client.oauth.discovery import find_resource
from portway.client.oauth.login_flow import in_vain, new_login
from portway.client.oauth.provider_web import web_of
from portway.client.oauth.settings import OAuthLogin
from portway.client.oauth.storage import FileStorage
from portway.client.oauth.stored_login import Login
from portway.client.oauth.token_endpoint import revoke
from portway.oauth.claims import normalised


async def log_in(url: str, settings: OAuthLogin) -> Login:
    """Log in at the server at `url`, try that, and store it. Raises ClientError, RpcError."""
    name = normalised(url)
    challenge = await _challenge(url)
    if challenge is None and await find_resource(await web_of(name), name, "") is None:
        raise LoginError(Step.RESOURCE, f"{url} asks nobody to log in (RFC 9728): call it without a login")
    login = await new_login(settings, name, await settings.storage.load(name), challenge)
    try:
        async with Client(url, auth=replace(settings, visit=None)) as client:
            await client.list_tools()
    except LoginNeeded as needed:
        if not needed.scopes:
            await settings.storage.save(name, None)
            raise in_vain(login.issuer, login.resource) from None
    return login


async def _challenge(url: str) -> BearerChallenge | None:
    """Return the challenge of a server that refuses a caller without a token; None if it does not."""
    try:
        async with Client(url) as client:
            await client.list_tools()
    except Refused as refused:
        return read_challenge(refused.challenge) or BearerChallenge()
    return None


async def log_out(url: str) -> bool:
    """Forget the stored login at the server at `url`, and take it back at the provider if that can be done.

    Return False if there is none. Raises LoginError.
    """
    storage, name = FileStorage(), normalised(url)
    try:
        login = await storage.load(name)
    except ClientError:  # a file that cannot be used
        login = None
    else:
        if login is None:
            return False
    await storage.save(name, None)
    if login is not None:
        await revoke(await web_of(name), login)
    return True


async def stored_token(url: str) -> str:
    """Return the access token of the stored login at the server at `url`, refreshed if need be, or "".

    Raises LoginError.
    """
    held = ""

    def use(token: str) -> None:
        nonlocal held
        held = token

    await LoginSession(OAuthLogin(visit=None), url, use).ready()
    return held
