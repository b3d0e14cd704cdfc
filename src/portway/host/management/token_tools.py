"""The tools for the tokens of apps: create, rotate, list, revoke."""

import time
from typing import Annotated

from msgspec import Meta

from portway.auth.tokens import digest
from portway.exceptions import SettingError, ToolError
from portway.host.instances.running_apps import RunningApps, as_tokens
from portway.host.management.arguments import AppName, Lifetime, Overlap, expiry
from portway.host.management.find_app import find_app
from portway.host.management.management_types import NewToken, TokenInfo, TokenList
from portway.host.management.tool_rights import Rule, Tools
from portway.host.new_token import new_token
from portway.host.public_address import PublicAddress
from portway.host.store import Store, StoreError, TokenRecord
from portway.host.token_table import TokenChange
from portway.oauth.settings import check_scopes

TokenName = Annotated[str, Meta(description="Its name, as `list_tokens` tells it.")]


class TokenTools:
    """The tools for tokens."""

    def __init__(self, store: Store, running: RunningApps, address: PublicAddress) -> None:
        self._store = store
        self._running = running
        self._address = address

    def register(self, tools: Tools) -> None:
        """Add the tools."""
        tools.add(self.create_token, Rule("deploy"))
        tools.add(self.rotate_token, Rule("deploy"), destroys=True)
        tools.add(self.list_tokens, Rule("read"))
        tools.add(self.revoke_token, Rule("deploy"), destroys=True)

    async def create_token(
        self,
        app: AppName,
        name: Annotated[str, Meta(description="What the token is called, such as the caller it is for.")],
        scopes: Annotated[
            Annotated[list[Annotated[str, Meta(max_length=100)]], Meta(max_length=50)] | None,
            Meta(description="What the app's own functions ask of its callers; most ask nothing."),
        ] = None,
        expires_in: Lifetime = None,
    ) -> NewToken:
        """Create a token by which callers use an app. It is in this answer and never shown again."""
        find_app(self._store, app)
        if not name or not name.isprintable() or len(name) > 100:
            raise ToolError("give the token a name of 1 to 100 printable characters")
        token = new_token()
        try:
            check_scopes(scopes or [])
            added = self._store.add_token(app, name, digest(token), scopes or [], expiry(expires_in))
            await self._running.publish_tokens(*map(TokenChange, as_tokens(added)))
        except (SettingError, StoreError, OSError) as error:
            raise ToolError(str(error)) from None
        return self._told(added, token)

    async def rotate_token(
        self,
        app: AppName,
        name: TokenName,
        overlap: Overlap = 0,
        expires_in: Lifetime = None,
    ) -> NewToken:
        """Give a token of an app another secret, in this answer only. It keeps its name, scopes and open sessions.

        Without `expires_in` it lives as long as the one before, from now on.
        """
        find_app(self._store, app)
        token = new_token()
        try:
            before = self._found(app, name)
            if expires_in is None and before.expires is not None:
                expires_in = before.expires - before.created
            ends = int(time.time()) + overlap
            after = self._store.rotate_token(before, digest(token), expiry(expires_in), ends)
            kept = as_tokens(after)
            dropped = {each.digest for each in as_tokens(before)} - {each.digest for each in kept}
            changes = [TokenChange(drop=each) for each in dropped]
            await self._running.publish_tokens(*changes, *map(TokenChange, kept))
        except (StoreError, OSError) as error:
            raise ToolError(str(error)) from None
        return self._told(after, token)

    async def renewed(self, app: str, name: str) -> NewToken:
        """Return a token with a new secret, whether the app has one of that name or not. Raises `ToolError`."""
        if self._store.token(app, name) is None:
            return await self.create_token(app, name)
        return await self.rotate_token(app, name)

    async def list_tokens(self, app: AppName) -> TokenList:
        """List the tokens of an app by name, with their scopes; never the tokens themselves."""
        find_app(self._store, app)
        return TokenList(
            [
                TokenInfo(token.name, list(token.scopes), token.created, token.expires, token.former_expires)
                for token in self._store.tokens(app)
            ]
        )

    async def revoke_token(self, app: AppName, name: TokenName) -> None:
        """Revoke a token of an app: calls with it are refused from now on, and those that run end."""
        find_app(self._store, app)
        try:
            found = self._found(app, name)
            self._store.drop_token(app, name)
            await self._running.publish_tokens(*(TokenChange(drop=each.digest) for each in as_tokens(found)))
        except (StoreError, OSError) as error:
            raise ToolError(str(error)) from None

    def _found(self, app: str, name: str) -> TokenRecord:
        found = self._store.token(app, name)
        if found is None:
            raise ToolError(f"{app} has no token named {name!r}: see `portway token list {app}`")
        return found

    def _told(self, record: TokenRecord, token: str) -> NewToken:
        return NewToken(
            record.app, record.name, token, list(record.scopes), self._address.endpoint(record.app), record.expires
        )
