"""The tools for releases: the history of an app (`list_releases`), rollback, restart."""

from collections.abc import Callable
from pathlib import PurePath
from typing import Annotated

from msgspec import Meta

from portway.exceptions import ToolError
from portway.host.disk_use import disk_use
from portway.host.management.arguments import AppName
from portway.host.management.callers import caller_of
from portway.host.management.management_types import Deployment, ReleaseInfo, ReleaseList
from portway.host.management.progress import report_to
from portway.host.management.tool_rights import Rule, Tools
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

    async def list_releases(self, app: AppName, ctx: Context) -> ReleaseList:
        """List the releases of an app that are kept, newest first: what made each, who asked, and why one failed."""
        live = self._find(app).live
        is_local = caller_of(ctx.caller).is_local
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
                    record.source if is_local else _from_afar(record.source),
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

    async def rollback(
        self,
        app: AppName,
        ctx: Context,
        release: Annotated[
            int | None, Meta(description="Its number, of those that `list_releases` has as ready.")
        ] = None,
    ) -> Deployment:
        """Serve an earlier release again, by default the one before: its files, configuration and variables.

        It becomes a new release, so a second rollback undoes the first. Nothing is built, no call is lost, and what the
        app has stored stays as it is.
        """
        self._find(app)
        try:
            return self._tell(
                await self._deployer.rollback(
                    app, release, report_to(ctx, self._paths), caller_of(ctx.caller).user.name
                )
            )
        except DeployError as error:
            raise ToolError(str(error)) from None

    async def restart(self, app: AppName, ctx: Context) -> Deployment:
        """Start an app anew without a lost call, as a new release with the files and variables of the live one."""
        self._find(app)
        try:
            return self._tell(
                await self._deployer.restart(app, report_to(ctx, self._paths), caller_of(ctx.caller).user.name)
            )
        except DeployError as error:
            raise ToolError(str(error)) from None


def _from_afar(source: str) -> str:
    """Return a source as those are told it who are not on the host: of a folder, its name."""
    return PurePath(source).name if source.startswith("/") else source
