"""The tools of the management API for variables: set, unset, list, import, rekey. No answer of theirs holds a value."""

from collections.abc import Callable

from portway.exceptions import ToolError
from portway.host.instances.running_apps import RunningApps
from portway.host.management.callers import caller_of
from portway.host.management.management_types import (
    AppRestart,
    Rekeyed,
    VariableChange,
    VariableInfo,
    VariableList,
)
from portway.host.management.progress import report_to
from portway.host.management.tools import Rule, Tools
from portway.host.releases.deploy import Deployer
from portway.host.releases.deploy_error import DeployError
from portway.host.secrets.dotenv_file import read_dotenv
from portway.host.secrets.variables import Owner, VariableError
from portway.host.sources.source import SourceError, app_name
from portway.host.store import Store, StoreError
from portway.server.context import Context


class VariableTools:
    """The tools for variables. Each names an `app` or a `group`."""

    def __init__(self, store: Store, deployer: Deployer, running: RunningApps) -> None:
        self._store = store
        self._environments = deployer.environments
        self._variables = deployer.environments.variables
        self._deployer = deployer
        self._running = running

    def register(self, tools: Tools) -> None:
        """Add the tools. A group of variables is of no one app, so only an admin may use it."""
        tools.add(self.set_variables, Rule("deploy"), repeatable=True)
        tools.add(self.unset_variables, Rule("deploy"), destroys=True)
        tools.add(self.import_variables, Rule("deploy"), repeatable=True)
        tools.add(self.list_variables, Rule("read"))
        tools.add(self.rekey, Rule("admin", app=None))

    async def set_variables(
        self,
        variables: dict[str, str],
        ctx: Context,
        app: str = "",
        group: str = "",
        restart: bool = True,  # noqa: FBT002  # a tool's caller names its arguments
    ) -> VariableChange:
        """Set variables of an app, which may not be deployed yet, or of a group; then restart the apps that use them.

        A restart is a new release of the same files. If it fails, the variables stay set.
        """
        owner = _owner(app, group)
        return await self._change(
            owner, list(variables), lambda: self._environments.put(owner, variables), ctx, restart
        )

    async def import_variables(
        self,
        text: str,
        ctx: Context,
        app: str = "",
        group: str = "",
        restart: bool = True,  # noqa: FBT002  # a tool's caller names its arguments
    ) -> VariableChange:
        """Do what `set_variables` does, with the variables of a file in the .env format."""
        try:
            values = read_dotenv(text)
        except VariableError as error:
            raise ToolError(str(error)) from None
        return await self.set_variables(values, ctx, app, group, restart)

    async def unset_variables(
        self,
        names: list[str],
        ctx: Context,
        app: str = "",
        group: str = "",
        restart: bool = True,  # noqa: FBT002  # a tool's caller names its arguments
    ) -> VariableChange:
        """Remove variables of an app or a group; then restart the apps that use them."""
        owner = _owner(app, group)
        return await self._change(owner, names, lambda: self._variables.unset(owner, names), ctx, restart)

    async def list_variables(self, app: str = "", group: str = "") -> VariableList:
        """List the variables of an app or a group by name, without their values."""
        owner = _owner(app, group)
        found = [VariableInfo(name, source) for name, source in self._environments.sources(owner).items()]
        if not found and app and self._store.app(app) is None:
            raise ToolError(f"{app!r} is no app of this host, and has no variables: see `portway ps`")
        return VariableList(found)

    async def rekey(self) -> Rekeyed:
        """Encrypt all variables by a new key, and write that to the key file."""
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
        report = report_to(ctx)
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
