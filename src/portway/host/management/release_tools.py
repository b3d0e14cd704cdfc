"""The tools of the management API for releases: the history of an app, ways back, restarts."""

from collections.abc import Callable

from portway.exceptions import ToolError
from portway.host.disk_use import disk_use
from portway.host.management.callers import caller_of
from portway.host.management.management_types import Deployment, ReleaseInfo, ReleaseList
from portway.host.management.progress import report_to
from portway.host.management.tools import Rule, Tools
from portway.host.paths import Paths
from portway.host.releases.deploy import Deployer
from portway.host.releases.deploy_error import DeployError
from portway.host.releases.make_releases import Deployed
from portway.host.store import AppRecord, Store
from portway.server.context import Context

_MEASURE_SECONDS = 2.0


class ReleaseTools:
    """The tools for releases. `find` returns a known app or raises `ToolError`; `tell` makes a release's answer."""

    def __init__(
        self,
        paths: Paths,
        store: Store,
        deployer: Deployer,
        find: Callable[[str], AppRecord],
        tell: Callable[[Deployed], Deployment],
    ) -> None:
        self._paths = paths
        self._store = store
        self._deployer = deployer
        self._find = find
        self._tell = tell

    def register(self, tools: Tools) -> None:
        """Add the tools."""
        tools.add(self.list_releases, Rule("read"))
        tools.add(self.rollback, Rule("deploy"))
        tools.add(self.restart, Rule("deploy"))

    async def list_releases(self, app: str) -> ReleaseList:
        """List the releases of an app that are kept, newest first."""
        live = self._find(app).live
        records = self._store.releases(app)
        folders = {record.number: str(self._paths.release(app, record.number)) for record in records}
        used = await disk_use(folders.values(), _MEASURE_SECONDS)
        return ReleaseList(
            [
                ReleaseInfo(
                    record.number,
                    "live" if record.number == live else record.status,
                    record.cause,
                    record.detail,
                    record.source,
                    record.asked_by,
                    record.commit,
                    record.created,
                    used.get(folders[record.number]),
                    record.error,
                    record.accepted,
                )
                for record in reversed(records)
            ]
        )

    async def rollback(self, app: str, ctx: Context, release: int | None = None) -> Deployment:
        """Serve an earlier release again, by default the one before: its files, configuration and variables.

        It becomes a new release. Nothing is built. What the app has stored stays as it is.
        """
        self._find(app)
        try:
            return self._tell(
                await self._deployer.rollback(app, release, report_to(ctx), caller_of(ctx.caller).user.name)
            )
        except DeployError as error:
            raise ToolError(str(error)) from None

    async def restart(self, app: str, ctx: Context) -> Deployment:
        """Start an app anew, as a new release with the files, configuration and variables of the live one."""
        self._find(app)
        try:
            return self._tell(await self._deployer.restart(app, report_to(ctx), caller_of(ctx.caller).user.name))
        except DeployError as error:
            raise ToolError(str(error)) from None
