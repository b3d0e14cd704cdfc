"""The tools of the management API for links: link an app to a branch elsewhere, end that."""

from collections.abc import Callable

from portway.exceptions import ToolError
from portway.host.links.linker import Linker, LinkError
from portway.host.management.callers import caller_of
from portway.host.management.management_types import Deployment, EndedLink, NewLink
from portway.host.management.progress import report_to
from portway.host.management.tools import Rule, Tools
from portway.host.public_address import PublicAddress
from portway.host.releases.make_releases import Deployed
from portway.host.store import StoreError
from portway.server.context import Context


class LinkTools:
    """The tools for links. `tell` makes a release's answer."""

    def __init__(self, linker: Linker, tell: Callable[[Deployed], Deployment], address: PublicAddress) -> None:
        self._linker = linker
        self._tell = tell
        self._address = address

    def register(self, tools: Tools) -> None:
        """Add the tools. What a repository says later may be about any app."""
        tools.add(self.link, Rule("deploy", every_app=True), reaches_out=True)
        tools.add(self.unlink, Rule("deploy"))

    async def link(
        self, app: str, repository: str, ctx: Context, branch: str = "", root_dir: str = "", key: str = ""
    ) -> NewLink:
        """Deploy a branch of a repository as an app, and from now on each new commit of it.

        Without a `branch`, it is the default one. `root_dir` is the folder of the repository that holds the app. `key`
        is the private key by which ssh is let in.
        """
        try:
            link, secret, done = await self._linker.link(
                app, repository, branch, root_dir, key, report_to(ctx), caller_of(ctx.caller).user.name
            )
        except LinkError as error:
            raise ToolError(str(error)) from None
        hook = self._address.hook(link.app)
        apps = [self._tell(one) for one in done]
        return NewLink(link.app, link.url, link.branch, hook, secret, f"{hook}?key={secret}", apps)

    async def unlink(self, app: str) -> EndedLink:
        """End the link of an app; what is live stays."""
        try:
            link = self._linker.unlink(app)
        except (LinkError, StoreError) as error:
            raise ToolError(str(error)) from None
        return EndedLink(link.app, link.url, link.branch)
