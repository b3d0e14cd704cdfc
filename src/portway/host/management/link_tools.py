"""The tools `link` and `unlink` of the management API."""

from collections.abc import Callable
from typing import Annotated

from msgspec import Meta

from portway.exceptions import ToolError
from portway.host.links.linker import Linker, LinkError
from portway.host.management.arguments import AppName
from portway.host.management.callers import caller_of
from portway.host.management.management_types import Deployment, EndedLink, NewLink
from portway.host.management.progress import report_to
from portway.host.management.tool_rights import Rule, Tools
from portway.host.paths import Paths
from portway.host.public_address import PublicAddress
from portway.host.releases.make_releases import Deployed
from portway.host.store import StoreError
from portway.server.context import Context


class LinkTools:
    """The tools for links. `tell` makes a release's answer."""

    def __init__(
        self, paths: Paths, linker: Linker, tell: Callable[[Deployed], Deployment], address: PublicAddress
    ) -> None:
        self._paths = paths
        self._linker = linker
        self._tell = tell
        self._address = address

    def register(self, tools: Tools) -> None:
        """Add the tools. What a repository says later may be about any app.

        A new link ends the one before, with its key and secret.
        """
        tools.add(self.link, Rule("deploy", every_app=True), destroys=True, reaches_out=True)
        tools.add(self.unlink, Rule("deploy"), destroys=True)

    async def link(
        self,
        app: Annotated[str, Meta(description="The name of the app, which may be new.")],
        repository: Annotated[str, Meta(description="https://HOST/OWNER/NAME, or git@HOST:OWNER/NAME with a `key`.")],
        ctx: Context,
        branch: Annotated[str, Meta(description="The branch; left out, the repository's default one.")] = "",
        root_dir: Annotated[str, Meta(description="The folder of the repository that holds the app.")] = "",
        key: Annotated[str, Meta(description="The private key by which ssh is let in.")] = "",
        allowed: Annotated[
            list[Annotated[str, Meta(pattern=r"^[^\n\r]{1,500}$")]],
            Meta(description="Files, or patterns, that may hold secrets, in later commits too.", max_length=100),
        ] = [],  # noqa: B006  # it is only read
    ) -> NewLink:
        """Deploy a branch of a repository as an app, and from now on each new commit of it.

        The answer has the address and the secret of a webhook, by which a commit is deployed at once instead of within
        a minute. They are never shown again.
        """
        try:
            link, secret, done = await self._linker.link(
                app,
                repository,
                branch,
                root_dir,
                key,
                allowed,
                report_to(ctx, self._paths),
                caller_of(ctx.caller).user.name,
            )
        except LinkError as error:
            raise ToolError(str(error)) from None
        hook = self._address.hook(link.app)
        apps = [self._tell(one) for one in done]
        return NewLink(link.app, link.url, link.branch, hook, secret, f"{hook}?key={secret}", apps)

    async def unlink(self, app: AppName) -> EndedLink:
        """End the link of an app to its repository, with its key and secret; what is live stays."""
        try:
            link = self._linker.unlink(app)
        except (LinkError, StoreError) as error:
            raise ToolError(str(error)) from None
        return EndedLink(link.app, link.url, link.branch)
