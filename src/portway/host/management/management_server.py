"""The management API: an MCP server on control's socket, whose client is the command line. There is no other API."""

import asyncio
from typing import Annotated

from msgspec import Meta

from portway.app import Server
from portway.exceptions import SettingError, ToolError
from portway.host.app_config import Access, ContractPolicy, Disk, RuntimeName
from portway.host.blueprint.document import service_document
from portway.host.git.remote import RemoteSource
from portway.host.instances.instance_group import InstanceGroup
from portway.host.instances.running_apps import RunningApps
from portway.host.instances.storage import GIGABYTE
from portway.host.links.linker import Linker
from portway.host.logs.log_reader import last_lines
from portway.host.management.find_app import find_app
from portway.host.management.link_tools import LinkTools
from portway.host.management.log_tools import LogTools
from portway.host.management.management_types import (
    AppList,
    AppService,
    AppStatus,
    Deployment,
    Deployments,
)
from portway.host.management.progress import report_to
from portway.host.management.release_tools import ReleaseTools
from portway.host.management.token_tools import TokenTools
from portway.host.management.user_tools import UserTools
from portway.host.management.variable_tools import VariableTools
from portway.host.paths import Paths
from portway.host.processes import local_user
from portway.host.public_address import PublicAddress
from portway.host.releases.deploy import Deployer
from portway.host.releases.deploy_error import DeployError, Superseded
from portway.host.releases.make_releases import Deployed
from portway.host.releases.prune import remove_app
from portway.host.releases.release import Release
from portway.host.releases.source_apps import DeployOptions
from portway.host.releases.steps import Report
from portway.host.secrets.redact import hide
from portway.host.sources.named_source import named_source
from portway.host.sources.source import Source
from portway.host.store import AppRecord, Cause, Store, StoreError
from portway.host.token_table import TokenChange
from portway.host.users import Users
from portway.http.cors import Cors
from portway.server.context import Context

_STORAGE_SECONDS = 2.0  # to measure storage; what takes longer is shown as it was last measured


class ManagementServer:
    """The tools of the management API; `server()` registers them."""

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
        self._user = local_user()
        self.tokens = TokenTools(store, running, address)

    def server(self) -> Server:
        """Return an MCP server with this class's methods as its tools."""
        server = Server("portway-control", instructions="Manages the apps of one Portway host.")
        server.tool(self.deploy)
        server.tool(self.list_apps)
        server.tool(self.config)
        server.tool(self.destroy)
        LogTools(self._paths, self._store, self._deployer.environments.variables).register(server)
        VariableTools(self._store, self._deployer, self._running, self._user).register(server)
        releases = ReleaseTools(self._paths, self._store, self._deployer, self._app, self._deployment, self._user)
        releases.register(server)
        UserTools(Users(self._store), self._address).register(server)
        self.tokens.register(server)
        LinkTools(self._linker, self._deployment, self._address, self._user).register(server)
        return server

    async def deploy(
        self,
        source: str,
        ctx: Context,
        name: str | None = None,
        access: Access | None = None,
        upstream_token: str | None = None,
        origins: list[str] | None = None,
        runtime: RuntimeName | None = None,
        root_dir: str | None = None,
        build_command: str | None = None,
        start_command: str | None = None,
        server: str | None = None,
        endpoint: str | None = None,
        storage_gb: Annotated[int, Meta(ge=0, le=100_000)] | None = None,
        num_instances: Annotated[int, Meta(ge=1, le=100)] | None = None,
        variables: dict[str, str] | None = None,
        allowed: list[str] | None = None,
        skip: bool = False,  # noqa: FBT002  # a tool's caller names its arguments
        contract: ContractPolicy | None = None,
        accept: list[str] | None = None,
    ) -> Deployments:
        """Build `source` and serve it as `name`: a folder of the host (absolute path), `template:NAME`, GIT-URL#REF.

        A render.yaml in it says what each of its services is; they become apps, all of them or none. With `skip`, what
        of it is not hosted here is left out.

        `access` says who may call it: only callers with a token of this host ("gate", a new app's default), anybody
        ("public"), or those whom the app itself lets in ("app"). `upstream_token` names the variable with the token
        that the app's own server asks for; the gate gives it ("gate").
        `origins` are the web pages that may call it, by scheme, host and port, as in "https://app.example.com".
        `build_command` and `start_command` are for a shell and run in `root_dir`, a folder of the source; `server`
        names the file that holds a server, as FILE or FILE:OBJECT. What is empty is looked for in the source.
        `endpoint` is the path of the MCP endpoint. `num_instances` run at once. `storage_gb` is the size of a
        folder that outlives releases (PORTWAY_STORAGE), 0 for none. What is left out is as the
        blueprint says, or stays as it is. `variables` are set first, as by `set_variables`. The files `allowed`, paths
        or patterns, may hold secrets. `contract` says which changes of what the server shows stop the deploy: none
        ("report", the default), those that callers may fail by ("breaking"), or all ("locked"). `accept` has the ids of
        changes that do not stop it; the error that stops one names its id.
        """
        given = {
            "access": access,
            "upstream_token": upstream_token,
            "origins": origins,
            "runtime": runtime,
            "root_dir": root_dir,
            "build_command": build_command,
            "start_command": start_command,
            "server": server,
            "path": endpoint,
            "num_instances": num_instances,
            "contract": contract,
        }
        changes: dict[str, object] = {field: value for field, value in given.items() if value is not None}
        if storage_gb is not None:
            changes["disk"] = Disk(size_gb=storage_gb) if storage_gb else None
        cause = Cause("deploy", asked_by=self._user)
        options = DeployOptions(name, changes, variables or {}, allowed or [], skip, cause, accept or [])
        return await self.deploy_source(named_source(source, name), report_to(ctx), options)

    async def deploy_source(self, source: Source | RemoteSource, report: Report, options: DeployOptions) -> Deployments:
        """Do what `deploy` does, with each step given to `report`. Raises `ToolError`."""
        try:
            origins = options.changes.get("origins")
            Cors(origins if isinstance(origins, list) else ())
            done = await self._deployer.deploy(source, report, options)
        except Superseded as error:
            return Deployments([], str(error))
        except (DeployError, SettingError) as error:
            raise ToolError(str(error)) from None
        return Deployments([self._deployment(one) for one in done])

    async def list_apps(self) -> AppList:
        """List every app with its state and what it uses."""
        await self._running.storage.measure(_STORAGE_SECONDS)
        return AppList([self._status(app, self._running.groups.get(app.name)) for app in self._store.apps()])

    async def config(self, app: str) -> AppService:
        """Return what an app is, with the names of a blueprint."""
        record = self._app(app)
        if record.live is None:
            raise ToolError(f"{app} has no live release, so no configuration: deploy it")
        service = service_document(app, self._running.release(app, record.live).config)
        if (link := self._store.link(app)) is not None:
            service |= {"repo": link.url, "branch": link.branch}
        return AppService(app, service)

    async def destroy(self, app: str) -> None:
        """Stop an app and delete its releases, stored data, variables, logs and tokens."""
        self._app(app)
        try:
            await asyncio.shield(self._destroy(app))  # whole, even when the client leaves
        except (DeployError, StoreError, OSError) as error:
            raise ToolError(str(error)) from None

    async def _destroy(self, app: str) -> None:
        with self._deployer.turns.at_once(app):
            mark = self._paths.destroying(app)
            mark.parent.mkdir(exist_ok=True)
            mark.touch()
            try:
                dropped = [TokenChange(drop=token.digest) for token in self._store.tokens(app)]
                self._store.forget_tokens(app)
                self._running.write_tokens(*dropped)
                await self._running.remove(app)
                self._store.destroy(app)
                await asyncio.to_thread(remove_app, self._paths, app)
            except (StoreError, OSError):
                mark.unlink(missing_ok=True)
                raise

    def _deployment(self, done: Deployed) -> Deployment:
        return Deployment(
            done.app,
            done.release,
            self._address.endpoint(done.app),
            done.token,
            done.tools,
            done.duration_ms,
            done.contract,
            done.before,
        )

    def _status(self, app: AppRecord, group: InstanceGroup | None) -> AppStatus:
        if group is None:
            releases = self._store.releases(app.name)
            deploying = bool(releases) and releases[-1].status == "building"
            error = releases[-1].error if releases else ""
            state, reason, log, restarts = "deploying" if deploying else "failed", error, [], 0
        else:
            state, reason, restarts = group.state, group.reason, group.restarts
            log = self._last_lines(group.release) if state == "crashed" else []
        disk = group.release.config.disk if group else None
        stats = [instance.stats() for instance in group.running] if group else []
        return AppStatus(
            app=app.name,
            state=state,
            release=app.live,
            url=self._address.endpoint(app.name),
            access=group.release.config.access if group else "gate",
            isolation=self._running.isolation,
            instances=len(group.up) if group else 0,
            wanted=group.wanted if group else 0,
            restarts=restarts,
            memory=sum(each.memory for each in stats),
            cpu=round(sum(each.cpu for each in stats), 2),
            storage=disk.size_gb * GIGABYTE if disk else None,
            stored=self._running.storage.used.get(app.name),
            reason=reason,
            log=log,
            link=self._link(app.name),
        )

    def _link(self, app: str) -> str:
        link = self._store.link(app)
        return "" if link is None else f"{link.url}#{link.branch}" + (f" ({link.note})" if link.note else "")

    def _last_lines(self, release: Release) -> list[str]:
        """Return the last lines of its log without its secrets."""
        lines = "\n".join(last_lines(release.log))
        secrets = self._deployer.environments.variables.of_release(release.app, release.number)
        return hide(lines, secrets).splitlines()

    def _app(self, name: str) -> AppRecord:
        return find_app(self._store, name)
