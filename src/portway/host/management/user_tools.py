"""The tools of the management API for users: add, list, revoke."""

from portway.app import Server
from portway.exceptions import ToolError
from portway.host.management.management_types import NewUser, UserInfo, UserList
from portway.host.public_address import PublicAddress
from portway.host.store import StoreError
from portway.host.users import Role, UserError, Users


class UserTools:
    """The tools for users."""

    def __init__(self, users: Users, address: PublicAddress) -> None:
        self._users = users
        self._address = address

    def register(self, server: Server) -> None:
        """Add the tools to `server`."""
        server.tool(self.add_user)
        server.tool(self.list_users)
        server.tool(self.revoke_user)

    async def add_user(self, name: str, role: Role, apps: list[str] | None = None) -> NewUser:
        """Add a user, whose token is shown once. Without `apps`, it may use all of them."""
        try:
            token = self._users.add(name, role, apps or [])
            return NewUser(name, role, apps or [], token, self._address.repository("APP"))
        except (UserError, StoreError) as error:
            raise ToolError(str(error)) from None

    async def list_users(self) -> UserList:
        """List the users, without their tokens."""
        return UserList([UserInfo(user.name, user.role, list(user.apps), user.created) for user in self._users.all()])

    async def revoke_user(self, name: str) -> None:
        """Delete a user: its token is refused from now on."""
        try:
            self._users.revoke(name)
        except (UserError, StoreError) as error:
            raise ToolError(str(error)) from None
