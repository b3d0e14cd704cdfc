"""The policies of each app for the routing table: its blueprint's rules, and what they need to know of its contract."""

from portway.host.contracts.tool_hints import tool_hints
from portway.host.releases.release import Release
from portway.host.routing_table import AppPolicies
from portway.host.store import Store
from portway.policy.rules import ToolHints

_NONE = AppPolicies()


class PolicySource:
    """Reads them. The contract of a release never changes, so it is read once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._hints: dict[str, tuple[int, dict[str, ToolHints]]] = {}  # by app: a release, and the tools it lists

    def of(self, release: Release) -> AppPolicies:
        """Return the policies of a release that is live."""
        config = release.config
        if not config.policies:
            return _NONE
        number, tools = self._hints.get(release.app, (0, {}))
        if number != release.number:
            tools = tool_hints(self._store.contract(release.app, release.number))
            self._hints[release.app] = release.number, tools
        return AppPolicies(config.policies, tools, [], config.groups, config.groups_claim)
