"""The tools of the management API for users: add, rotate, list, revoke."""

from typing import Annotated

from msgspec import Meta

from portway.exceptions import ToolError
from portway.host.management.arguments import Lifetime, Overlap, expiry
from portway.host.management.callers import caller_of
from portway.host.management.management_types import Identity, NewUser, UserInfo, UserList
from portway.host.management.tools import Rule, Tools
from portway.host.public_address import PublicAddress
from portway.host.store import StoreError
from portway.host.users import Role, UserError, Users
from portway.server.context import Context

UserName = Annotated[str, Meta(description="Its name, as `list_users` tells it.")]


class UserTools:
    """The tools for users."""

    def __init__(self, users: Users, address: PublicAddress) -> None:
        self._users = users
        self._address = address

    def register(self, tools: Tools) -> None:
        """Add the tools."""
        tools.add(self.whoami, Rule("read", app=None))
        tools.add(self.list_users, Rule("read", app=None))
        tools.add(self.add_user, Rule("admin", app=None))
        tools.add(self.rotate_user, Rule("admin", app=None), destroys=True)
        tools.add(self.revoke_user, Rule("admin", app=None), destroys=True)

    async def whoami(self, ctx: Context) -> Identity:
        """Return as whom you call this host: the user's name, its role, and the apps it is bound to, none for all."""
        caller = caller_of(ctx.caller)
        return Identity(caller.user.name, caller.user.role, list(caller.user.apps), caller.is_local, self._address.url)

    async def add_user(
        self,
        name: Annotated[str, Meta(description="What the user is called.")],
        role: Annotated[Role, Meta(description="A viewer reads, a deployer also changes apps, an admin does all.")],
        apps: Annotated[
            Annotated[list[str], Meta(max_length=1000)] | None,
            Meta(description="The apps it is bound to, deployed or not; none for all."),
        ] = None,
        expires_in: Lifetime = None,
    ) -> NewUser:
        """Add a user of the host, who pushes to apps, clones them and calls these tools. Its token is shown once."""
        expires = expiry(expires_in)
        try:
            token = self._users.add(name, role, apps or [], expires)
            return NewUser(name, role, apps or [], token, self._address.repository("APP"), expires)
        except (UserError, StoreError) as error:
            raise ToolError(str(error)) from None

    async def rotate_user(self, name: UserName, overlap: Overlap = 0, expires_in: Lifetime = None) -> NewUser:
        """Give a user another token, in this answer only. It keeps its role and apps.

        Without `expires_in` it lives as long as the one before, from now on.
        """
        try:
            user, token = self._users.rotate(name, overlap, expires_in)
        except (UserError, StoreError) as error:
            raise ToolError(str(error)) from None
        return NewUser(name, user.role, list(user.apps), token, self._address.repository("APP"), user.expires)

    async def list_users(self, ctx: Context) -> UserList:
        """List the users of the host, without their tokens: all of them for an admin, yourself for others."""
        caller = caller_of(ctx.caller).user
        shown = [user for user in self._users.all() if caller.role == "admin" or user.name == caller.name]
        return UserList(
            [
                UserInfo(user.name, user.role, list(user.apps), user.created, user.expires, user.former_expires)
                for user in shown
            ]
        )

    async def revoke_user(self, name: UserName) -> None:
        """Delete a user: its token is refused from now on, and what it has open ends. Its apps stay."""
        try:
            self._users.revoke(name)
        except (UserError, StoreError) as error:
            raise ToolError(str(error)) from None
