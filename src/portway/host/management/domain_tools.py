"""The tools for custom domains: add (with the DNS records to set), list (where each leads), remove."""

from typing import Annotated

from msgspec import Meta

from portway.exceptions import ToolError
from portway.host.domain_names import DomainError, read_domain
from portway.host.instances.running_apps import RunningApps
from portway.host.management.arguments import AppName
from portway.host.management.find_app import find_app
from portway.host.management.management_types import DnsRecord, DomainInfo, DomainList, NewDomain
from portway.host.management.tool_rights import Rule, Tools
from portway.host.name_lookup import NameLookup
from portway.host.public_address import PublicAddress, is_local
from portway.host.store import Store, StoreError
from portway.http.public_addresses import is_of_this_machine

_LOOK_SECONDS = 3.0
_SHOWN = 3  # addresses of a name


class DomainTools:
    """The tools for custom domains."""

    def __init__(self, store: Store, running: RunningApps, address: PublicAddress) -> None:
        self._store = store
        self._running = running
        self._address = address
        self._lookup = NameLookup()

    def register(self, tools: Tools) -> None:
        """Add the tools."""
        tools.add(self.add_domain, Rule("deploy"), repeatable=True, reaches_out=True)
        tools.add(self.list_domains, Rule("read"), reaches_out=True)
        tools.add(self.remove_domain, Rule("deploy"), destroys=True)

    async def add_domain(
        self, app: AppName, name: Annotated[str, Meta(description="The domain name, without scheme and port.")]
    ) -> NewDomain:
        """Serve an app at a domain name of its own, from now on; return what the DNS must say of the name."""
        find_app(self._store, app)
        try:
            name = read_domain(name)
            self._running.domains.add(app, name)
            await self._running.publish()
        except (DomainError, StoreError, OSError) as error:
            raise ToolError(str(error)) from None
        return NewDomain(app, name, f"{self._address.origin(name)}/mcp", await self._records(name))

    async def list_domains(self, app: AppName) -> DomainList:
        """List the domain names of an app beside its own, and whether each leads to this host."""
        find_app(self._store, app)
        domains, own = self._running.domains.of(app), self._address.domain
        found = await self._lookup.addresses([own, *(domain.name for domain in domains)], _LOOK_SECONDS)
        here = found[own] or []
        return DomainList(
            [
                DomainInfo(
                    domain.name,
                    domain.source,
                    f"{self._address.origin(domain.name)}/mcp",
                    _said_by_dns(found[domain.name], here),
                )
                for domain in domains
            ]
        )

    async def remove_domain(
        self, app: AppName, name: Annotated[str, Meta(description="Its name, as `list_domains` tells it.")]
    ) -> None:
        """Serve an app at a domain name no more. Its own URL stays."""
        find_app(self._store, app)
        try:
            self._running.domains.remove(app, read_domain(name))
            await self._running.publish()
        except (DomainError, StoreError, OSError) as error:
            raise ToolError(str(error)) from None

    async def _records(self, name: str) -> list[DnsRecord]:
        """Return the records of which the DNS needs one, the first if it may be; none for a host without a domain."""
        own = self._address.domain
        if is_local(own):
            return []
        found = (await self._lookup.addresses([own], _LOOK_SECONDS))[own] or []
        addresses = [DnsRecord("AAAA" if ":" in each else "A", name, each) for each in found]
        return [DnsRecord("CNAME", name, own), *addresses]


def _said_by_dns(found: list[str] | None, here: list[str]) -> str:
    """Say where a name leads, which has the addresses `found`; those of the host's own domain are `here`."""
    if found is None:
        return "the DNS does not answer"
    if not found:
        return "not in the DNS"
    if {*found} & {*here} or any(map(is_of_this_machine, found)):
        return "leads here"
    return f"leads to {', '.join(found[:_SHOWN])}"
