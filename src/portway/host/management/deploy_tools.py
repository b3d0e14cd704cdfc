"""The tool `deploy` of the management API: a source with the rights of its caller."""

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated

from msgspec import Meta

from portway.exceptions import SettingError, ToolError
from portway.host.app_config import Access, ContractPolicy, Disk, RuntimeName
from portway.host.git.remote import RemoteSource
from portway.host.management.callers import Caller, caller_of
from portway.host.management.management_types import Deployment, Deployments
from portway.host.management.progress import report_to
from portway.host.management.tool_rights import Rule, Tools
from portway.host.paths import Paths
from portway.host.releases.deploy import Deployer
from portway.host.releases.deploy_error import DeployError, Superseded
from portway.host.releases.make_releases import Deployed
from portway.host.releases.source_apps import DeployOptions
from portway.host.releases.steps import Report
from portway.host.sources.named_source import is_folder, named_source
from portway.host.sources.source import Source
from portway.host.store import Cause
from portway.http.cors import Cors
from portway.server.context import Context


class DeployTools:
    """The tool `deploy`. `tell` makes a release's answer."""

    def __init__(self, paths: Paths, deployer: Deployer, tell: Callable[[Deployed], Deployment]) -> None:
        self._paths = paths
        self._deployer = deployer
        self._tell = tell

    def register(self, tools: Tools) -> None:
        """Add the tool. Without a name the source names its apps; the deploy looks at the rights to each of them.

        It destroys the values that `variables` replace, as `set_variables` does.
        """
        tools.add(self.deploy, Rule("deploy", app="name", without_app="deploy"), destroys=True, reaches_out=True)

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
        """Build `source` and serve it as `name`: `template:NAME`, GIT-URL#REF or, for the operator, a folder's path.

        A render.yaml in it says what each of its services is; they become apps, all of them or none. With `skip`, what
        of it is not hosted here is left out.

        `access` says who may call it: only callers with a token of this host ("gate", a new app's default), anybody
        ("public"), or those whom the app itself lets in ("app"). `upstream_token` names the variable with the token
        that the app's own server asks for; the gate gives it ("gate").
        `origins` are the web pages that may call it, by scheme, host and port, as in "https://app.example.com".
        `build_command` and `start_command` are for a shell and run in `root_dir`, a folder of the source; `server`
        names the file that holds a server, as FILE or FILE:OBJECT. What is empty is looked for in the source, as is
        the language without `runtime`.
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
        options = DeployOptions(name, changes, variables or {}, allowed or [], skip, accept=accept or [])
        return await self._deploy_for(caller_of(ctx.caller), source, options, report_to(ctx, self._paths))

    async def _deploy_for(self, caller: Caller, source: str, options: DeployOptions, report: Report) -> Deployments:
        """Deploy what a text names, with the rights of the caller. Raises `ToolError`."""
        if is_folder(source) and not caller.is_local:
            raise ToolError(
                "only who is logged in to the host deploys one of its folders: give template:NAME or the URL of a git "
                "repository, or push to the app's"
            )
        cause = Cause("deploy", asked_by=caller.user.name)
        options = replace(options, cause=cause, user=None if caller.is_local else caller.user)
        return await self.deploy_source(named_source(source, options.name), report, options)

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
        return Deployments([self._tell(one) for one in done])
