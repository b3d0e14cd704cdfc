"""The tools for variables: set, unset, list, import, rekey, and the restart of the apps that use them. No answer holds
a value.
"""

from collections.abc import Callable
from typing import Annotated

from msgspec import Meta

from portway.exceptions import ToolError
from portway.host.instances.running_apps import RunningApps
from portway.host.management.arguments import AppOrNot, GroupOrNot, Restart
from portway.host.management.callers import caller_of
from portway.host.management.management_types import (
    AppRestart,
    Rekeyed,
    VariableChange,
    VariableInfo,
    VariableList,
)
from portway.host.management.progress import report_to
from portway.host.management.tool_rights import Rule, Tools
from portway.host.paths import Paths
from portway.host.releases.deploy import Deployer
from portway.host.releases.deploy_error import DeployError
from portway.host.secrets.dotenv_file import read_dotenv
from portway.host.secrets.variables import Owner, VariableError
from portway.host.sources.source import SourceError, app_name
from portway.host.store import Store, StoreError
from portway.server.context import Context


class VariableTools:
    """The tools for variables. Each names an `app` or a `group`."""

    def __init__(self, paths: Paths, store: Store, deployer: Deployer, running: RunningApps) -> None:
        self._paths = paths
        self._store = store
        self._environments = deployer.environments
        self._variables = deployer.environments.variables
        self._deployer = deployer
        self._running = running

    def register(self, tools: Tools) -> None:
        """Add the tools. A group of variables is of no one app, so only an admin may use it."""
        tools.add(self.set_variables, Rule("deploy"), destroys=True, repeatable=True)
        tools.add(self.unset_variables, Rule("deploy"), destroys=True)
        tools.add(self.import_variables, Rule("deploy"), destroys=True, repeatable=True)
        tools.add(self.list_variables, Rule("read"))
        tools.add(self.rekey, Rule("admin", app=None))

    async def set_variables(
        self,
        variables: Annotated[dict[str, str], Meta(description="The values by name.")],
        ctx: Context,
        app: AppOrNot = "",
        group: GroupOrNot = "",
        restart: Restart = True,  # noqa: FBT002  # a tool's caller names its arguments
    ) -> VariableChange:
        """Set variables of an app, which may not be deployed yet, or of a group; then restart the apps that use them.

        Others keep their values. A value cannot be read back. If a restart fails, the variables stay set.
        """
        owner = _owner(app, group)
        return await self._change(
            owner, list(variables), lambda: self._environments.put(owner, variables), ctx, restart
        )

    async def import_variables(
        self,
        text: Annotated[str, Meta(description="The text of the file.")],
        ctx: Context,
        app: AppOrNot = "",
        group: GroupOrNot = "",
        restart: Restart = True,  # noqa: FBT002  # a tool's caller names its arguments
    ) -> VariableChange:
        """Do what `set_variables` does, with the variables of a file in the .env format."""
        try:
            values = read_dotenv(text)
        except VariableError as error:
            raise ToolError(str(error)) from None
        return await self.set_variables(values, ctx, app, group, restart)

    async def unset_variables(
        self,
        names: Annotated[list[str], Meta(description="The names of those to remove.")],
        ctx: Context,
        app: AppOrNot = "",
        group: GroupOrNot = "",
        restart: Restart = True,  # noqa: FBT002  # a tool's caller names its arguments
    ) -> VariableChange:
        """Remove variables of an app or a group; then restart the apps that use them.

        Nothing shows their values afterwards; `rollback` to a release that had them brings them back.
        """
        owner = _owner(app, group)
        return await self._change(owner, names, lambda: self._variables.unset(owner, names), ctx, restart)

    async def list_variables(self, app: AppOrNot = "", group: GroupOrNot = "") -> VariableList:
        """List the variables of an app or a group by name, and where each comes from; values are never shown."""
        owner = _owner(app, group)
        found = [VariableInfo(name, source) for name, source in self._environments.sources(owner).items()]
        if not found and app and self._store.app(app) is None:
            raise ToolError(f"{app!r} is no app of this host, and has no variables: see `portway ps`")
        return VariableList(found)

    async def rekey(self) -> Rekeyed:
        """Encrypt the variables of all apps by a new key, and write that to the host's key file. Values stay."""
        try:
            done = Rekeyed(old_key_removed=self._variables.rekey())
            await self._running.publish()  # the table has tokens that are encrypted by the old key
            return done
        except (VariableError, StoreError) as error:
            raise ToolError(str(error)) from None

    async def _change(
        self, owner: Owner, names: list[str], change: Callable[[], None], ctx: Context, restart: bool
    ) -> VariableChange:
        try:
            change()
        except (VariableError, StoreError) as error:
            raise ToolError(str(error)) from None
        restarts = []
        report = report_to(ctx, self._paths)
        apps = {*self._environments.users(owner)} if restart else set()
        if restart and owner.kind == "app" and owner.name in self._deployer.turns.under_way():
            apps.add(owner.name)  # also during its first deploy, which may have read the variables before the change
        for app in sorted(apps):
            try:
                if done := await self._deployer.apply_variables(app, owner, report, caller_of(ctx.caller).user.name):
                    restarts.append(AppRestart(app, done.release))
            except DeployError as error:
                restarts.append(AppRestart(app, None, str(error)))
        return VariableChange(names, restarts)


def _owner(app: str, group: str) -> Owner:
    if bool(app) == bool(group):
        raise ToolError("give the name of an app, or --group")
    if group:
        return Owner("group", group)
    try:
        return Owner("app", app_name("", app))
    except SourceError as error:
        raise ToolError(str(error)) from None
