"""The tools of the management API for the tokens of apps: create, list, revoke."""

from typing import Annotated

from msgspec import Meta

from portway.auth.tokens import digest
from portway.exceptions import ToolError
from portway.host.instances.running_apps import RunningApps, as_token
from portway.host.management.arguments import AppName
from portway.host.management.find_app import find_app
from portway.host.management.management_types import NewToken, TokenInfo, TokenList
from portway.host.management.tools import Rule, Tools
from portway.host.new_token import new_token
from portway.host.public_address import PublicAddress
from portway.host.store import Store, StoreError
from portway.host.token_table import TokenChange


class TokenTools:
    """The tools for tokens."""

    def __init__(self, store: Store, running: RunningApps, address: PublicAddress) -> None:
        self._store = store
        self._running = running
        self._address = address

    def register(self, tools: Tools) -> None:
        """Add the tools."""
        tools.add(self.create_token, Rule("deploy"), destroys=True)  # by `rotate`
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
        rotate: Annotated[bool, Meta(description="Replace the token of that name, which ends.")] = False,  # noqa: FBT002  # a tool's caller names its arguments
    ) -> NewToken:
        """Create a token by which callers use an app. It is in this answer and never shown again."""
        find_app(self._store, app)
        if not name or not name.isprintable() or len(name) > 100:
            raise ToolError("give the token a name of 1 to 100 printable characters")
        token = new_token()
        try:
            before = self._store.token(app, name)
            changes = [TokenChange(drop=before.digest)] if before is not None and rotate else []
            if changes:
                self._store.drop_token(app, name)
            added = self._store.add_token(app, name, digest(token), scopes or [])
            await self._running.publish_tokens(*changes, TokenChange(as_token(added)))
        except (StoreError, OSError) as error:
            raise ToolError(str(error)) from None
        return NewToken(app, name, token, scopes or [], self._address.endpoint(app))

    async def list_tokens(self, app: AppName) -> TokenList:
        """List the tokens of an app by name, with their scopes; never the tokens themselves."""
        find_app(self._store, app)
        return TokenList(
            [TokenInfo(token.name, list(token.scopes), token.created) for token in self._store.tokens(app)]
        )

    async def revoke_token(
        self, app: AppName, name: Annotated[str, Meta(description="Its name, as `list_tokens` tells it.")]
    ) -> None:
        """Revoke a token of an app: calls with it are refused from now on, and those that run end."""
        find_app(self._store, app)
        try:
            found = self._store.token(app, name)
            if found is None:
                raise ToolError(f"{app} has no token named {name!r}: see `portway token list {app}`")
            self._store.drop_token(app, name)
            await self._running.publish_tokens(TokenChange(drop=found.digest))
        except (StoreError, OSError) as error:
            raise ToolError(str(error)) from None
