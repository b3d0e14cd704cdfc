"""Puts the policies of each app into the routing table: its rules, the tools of its contract, and those that are
switched off.
"""

from collections.abc import Sequence

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
        self._hints: dict[str, tuple[Release, dict[str, ToolHints]]] = {}  # by app: a release, and the tools it lists

    def off(self) -> dict[str, list[str]]:
        """Return the tools that are switched off, by app."""
        found: dict[str, list[str]] = {}
        for disabled in self._store.disabled_tools():
            found.setdefault(disabled.app, []).append(disabled.tool)
        return found

    def of(self, release: Release, off: Sequence[str]) -> AppPolicies:
        """Return the policies of a release that is live, of whose app the tools in `off` are switched off."""
        config = release.config
        if not config.policies and not off and not config.groups:
            return _NONE
        tools = self.tools(release) if config.policies else {}
        return AppPolicies(config.policies, tools, list(off), config.groups, config.groups_claim)

    def tools(self, release: Release) -> dict[str, ToolHints]:
        """Return the tools that a release lists, by name."""
        known, tools = self._hints.get(release.app, (None, {}))
        if known is not release:  # an app that was destroyed and made anew has the same numbers again
            tools = tool_hints(self._store.contract(release.app, release.number))
            self._hints[release.app] = release, tools
        return tools
