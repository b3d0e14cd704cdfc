"""The tools for users: whoami, add, rotate, list, revoke, and roles for groups of the identity provider."""

from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta

from portway.exceptions import ToolError
from portway.host.management.arguments import Lifetime, Overlap, expiry
from portway.host.management.callers import caller_of
from portway.host.management.management_types import GroupInfo, Identity, NewUser, UserInfo, UserList
from portway.host.management.tool_rights import Rule, Tools
from portway.host.public_address import PublicAddress
from portway.host.store import GroupRecord, StoreError
from portway.host.users import Role, UserError, Users
from portway.server.context import Context

UserName = Annotated[str, Meta(description="Its name, as `list_users` tells it.")]

GroupName = Annotated[str, Meta(description="The group, as the claim has it.")]
Claim = Annotated[
    str, Meta(description="The claim of access tokens that lists the groups, such as `roles`, or `sub` for one person.")
]

Issuer = Annotated[str, Meta(description="The URL of the identity provider; needed if the host has several.")]


class UserTools:
    """The tools for users."""

    def __init__(self, users: Users, address: PublicAddress, issuers: Sequence[str]) -> None:
        """`issuers` are the identity providers of the host."""
        self._users = users
        self._address = address
        self._issuers = issuers

    def register(self, tools: Tools) -> None:
        """Add the tools."""
        tools.add(self.whoami, Rule("read", app=None))
        tools.add(self.list_users, Rule("read", app=None))
        tools.add(self.add_user, Rule("admin", app=None))
        tools.add(self.map_group, Rule("admin", app=None))
        tools.add(self.unmap_group, Rule("admin", app=None), destroys=True)
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
        """List the users of the host, without their tokens: all of them for an admin, yourself for others.

        For an admin, also the groups of the identity provider that have a role.
        """
        caller = caller_of(ctx.caller).user
        shown = [user for user in self._users.all() if caller.role == "admin" or user.name == caller.name]
        return UserList(
            [
                UserInfo(user.name, user.role, list(user.apps), user.created, user.expires, user.former_expires)
                for user in shown
            ],
            list(map(_group_info, self._users.groups())) if caller.role == "admin" else [],
        )

    async def map_group(
        self,
        name: GroupName,
        role: Annotated[Role, Meta(description="What its members may do, as the role of a user.")],
        apps: Annotated[
            Annotated[list[str], Meta(max_length=1000)] | None,
            Meta(description="The apps it is bound to; none for all."),
        ] = None,
        claim: Claim = "groups",
        issuer: Issuer = "",
    ) -> GroupInfo:
        """Give those a role on this host who log in at its identity provider and are in a group there."""
        provider = self._provider(issuer)
        if provider not in self._issuers:
            raise ToolError(
                f"{provider[:200]} is no identity provider of this host: {', '.join(self._issuers) or 'none'}"
            )
        try:
            return _group_info(self._users.map_group(provider, claim, name, role, apps or []))
        except (UserError, StoreError) as error:
            raise ToolError(str(error)) from None

    async def unmap_group(self, name: GroupName, claim: Claim = "groups", issuer: Issuer = "") -> None:
        """Take the role of a group: what its members have open ends, unless another group gives them the same."""
        try:
            self._users.unmap_group(self._provider(issuer), claim, name)
        except (UserError, StoreError) as error:
            raise ToolError(str(error)) from None

    def _provider(self, issuer: str) -> str:
        if issuer or len(self._issuers) == 1:
            return issuer or self._issuers[0]
        if not self._issuers:
            raise ToolError("this host has no identity provider: start it with --auth-issuer")
        raise ToolError(f"this host has several identity providers: name one by --issuer: {', '.join(self._issuers)}")

    async def revoke_user(self, name: UserName) -> None:
        """Delete a user: its token is refused from now on, and what it has open ends. Its apps stay."""
        try:
            self._users.revoke(name)
        except (UserError, StoreError) as error:
            raise ToolError(str(error)) from None


def _group_info(group: GroupRecord) -> GroupInfo:
    return GroupInfo(group.issuer, group.claim, group.name, group.role, list(group.apps), group.created)
