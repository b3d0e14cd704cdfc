"""The tool `destroy` of the management API: what goes with an app, its confirmation, the deletion."""

import asyncio
from typing import Annotated

from msgspec import Meta

from portway.counted import counted
from portway.exceptions import ToolError
from portway.host.instances.running_apps import RunningApps, as_tokens
from portway.host.links.linker import Linker
from portway.host.management.arguments import AppName
from portway.host.management.callers import caller_of
from portway.host.management.find_app import find_app
from portway.host.management.management_types import Destruction
from portway.host.management.plan_confirmation import Confirmations
from portway.host.management.tool_rights import Rule, Tools
from portway.host.paths import Paths
from portway.host.public_address import PublicAddress
from portway.host.releases.deploy import Deployer
from portway.host.releases.deploy_error import DeployError
from portway.host.releases.prune import mark_destroyed, remove_app
from portway.host.secrets.variables import Owner
from portway.host.store import AppRecord, Store, StoreError
from portway.host.token_table import TokenChange
from portway.server.context import Context

_MEASURE_SECONDS = 2.0


class DestroyTool:
    """The tool `destroy`."""

    def __init__(
        self,
        paths: Paths,
        store: Store,
        running: RunningApps,
        deployer: Deployer,
        linker: Linker,
        address: PublicAddress,
    ) -> None:
        self._paths = paths
        self._store = store
        self._running = running
        self._deployer = deployer
        self._linker = linker
        self._address = address
        self._confirmations = Confirmations()

    def register(self, tools: Tools) -> None:
        """Add the tool."""
        tools.add(self.destroy, Rule("admin"), destroys=True)

    async def destroy(
        self,
        app: AppName,
        ctx: Context,
        confirm: Annotated[str, Meta(description="The `confirm` of the plan, left out to get the plan.")] = "",
    ) -> Destruction:
        """Stop an app and delete all it has: releases, stored data, variables, tokens and logs. Nothing brings it back.

        Call it without `confirm` first: nothing is deleted then, and the answer says what would be, with the `confirm`
        by which a second call does it. Show that to the person you work for before you confirm. The value holds for
        five minutes, for you, and for the app as it is now.
        """
        record = find_app(self._store, app)
        caller = caller_of(ctx.caller)
        plan = (app, record.created, record.live, record.last_release, caller.user.name, caller.is_local)
        if not confirm:
            deletes = await self._deletes(record)
            return Destruction(app, destroyed=False, deletes=deletes, confirm=self._confirmations.value(*plan))
        self._confirmations.check(confirm, *plan)
        try:
            await asyncio.shield(self._destroy(record))  # whole, even when the client leaves
        except (DeployError, StoreError, OSError) as error:
            raise ToolError(str(error)) from None
        return Destruction(app, destroyed=True, deletes=[])

    async def _deletes(self, record: AppRecord) -> list[str]:
        """Return what goes with the app, each in a few words."""
        app, releases = record.name, len(self._store.releases(record.name))
        await self._running.storage.measure(_MEASURE_SECONDS)
        stored, link = self._running.storage.used.get(app), self._store.link(app)
        serves = f"release {record.live}, which serves {self._address.endpoint(app)}" if record.live else ""
        had = {
            "release": releases,
            "domain": len(self._running.domains.of(app)),
            "token": len(self._store.tokens(app)),
            "variable": len(self._deployer.environments.variables.list(Owner("app", app))),
        }
        return [
            *([serves] if serves else []),
            *(counted(count, what) for what, count in had.items() if count),
            "its logs and its git repository",
            *([f"{stored / 2**20:.1f} MB of stored data"] if stored is not None else []),
            *([f"its link to {link.url}#{link.branch}"] if link else []),
        ]

    async def _destroy(self, record: AppRecord) -> None:
        app = record.name
        with self._deployer.turns.at_once(app):
            mark_destroyed(self._paths, record)
            try:
                dropped = [
                    TokenChange(drop=token.digest) for record in self._store.tokens(app) for token in as_tokens(record)
                ]
                self._store.forget_tokens(app)
                self._running.write_tokens(*dropped)
                await self._running.remove(app)
                self._store.destroy(app)
                self._linker.forget(app)
                await asyncio.to_thread(remove_app, self._paths, app)
            except (StoreError, OSError):
                if self._store.app(app) is not None:  # else the next start removes what is left
                    self._paths.destroying(app).unlink(missing_ok=True)
                raise
