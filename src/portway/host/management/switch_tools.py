"""The tools that list an app's tools and switch one off and on."""

import difflib
import logging
import time
from typing import Annotated

from msgspec import Meta

from portway.exceptions import ToolError
from portway.host.instances.running_apps import RunningApps
from portway.host.management.arguments import AppName
from portway.host.management.callers import caller_of
from portway.host.management.find_app import find_app
from portway.host.management.management_types import AppTool, AppToolList, Disabled, SwitchedTool
from portway.host.management.tool_rights import Rule, Tools
from portway.host.releases.release import Release
from portway.host.store import DisabledTool, Store, StoreError
from portway.policy.policies import Policies
from portway.server.context import Context

_MOST = 1000  # tools of an app that are switched off
_ToolName = Annotated[str, Meta(description="The name of the tool, as the app lists it.", min_length=1, max_length=256)]
_log = logging.getLogger("portway.host")


class SwitchTools:
    """The tools for switching tools."""

    def __init__(self, store: Store, running: RunningApps) -> None:
        self._store = store
        self._running = running

    def register(self, tools: Tools) -> None:
        """Add the tools."""
        tools.add(self.list_app_tools, Rule("read"))
        tools.add(self.disable_tool, Rule("deploy"), destroys=True, repeatable=True)
        tools.add(self.enable_tool, Rule("deploy"), repeatable=True)

    async def list_app_tools(self, app: AppName) -> AppToolList:
        """List the tools of an app: the scopes each needs by the app's policies, and whether it is switched off."""
        release, off = self._release(app), self._off(app)
        names = self._running.policies.tools(release)
        policies = Policies(release.config.policies, names)
        return AppToolList(
            [
                AppTool(name, sorted(policies.of_tool(name).scopes), name in names, _disabled(off.get(name)))
                for name in sorted(names.keys() | off.keys())
            ]
        )

    async def disable_tool(self, app: AppName, tool: _ToolName, ctx: Context) -> SwitchedTool:
        """Switch a tool of an app off: it leaves the lists, and calls of it are refused, from now on.

        It stays off in every later release of the app. Calls that run may end. The live release must list it, unless
        that lists nothing to the host.
        """
        release, off = self._release(app), self._off(app)
        note = self._note(release, tool)
        if tool not in off:
            if note and self._running.policies.tools(release):
                raise ToolError(note)
            if len(off) >= _MOST:
                raise ToolError(f"{app} has {_MOST} tools that are switched off: no more can be")
            by = caller_of(ctx.caller).user.name
            try:
                self._store.disable_tool(DisabledTool(app, tool, by, int(time.time())))
                await self._running.publish()
            except (StoreError, OSError) as error:
                raise ToolError(str(error)) from None
            _log.info("%s: the tool %s is switched off by %s", app, tool, by)
        return SwitchedTool(app, tool, note)

    async def enable_tool(self, app: AppName, tool: _ToolName, ctx: Context) -> SwitchedTool:
        """Switch a tool of an app on again."""
        release = self._release(app)
        if tool not in self._off(app):
            raise ToolError(f"the tool {tool!r} of {app} is not switched off: see `portway tool list {app}`")
        try:
            self._store.enable_tool(app, tool)
            await self._running.publish()
        except (StoreError, OSError) as error:
            raise ToolError(str(error)) from None
        _log.info("%s: the tool %s is switched on by %s", app, tool, caller_of(ctx.caller).user.name)
        return SwitchedTool(app, tool, self._note(release, tool))

    def _release(self, app: str) -> Release:
        record = find_app(self._store, app)
        return self._running.release(app, record.live or 0)

    def _off(self, app: str) -> dict[str, DisabledTool]:
        return {each.tool: each for each in self._store.disabled_tools() if each.app == app}

    def _note(self, release: Release, tool: str) -> str:
        """Say that the release does not list the tool, "" if it does."""
        names = self._running.policies.tools(release)
        if tool in names:
            return ""
        near = difflib.get_close_matches(tool, names, 1)
        mend = f"; did you mean {near[0]!r}?" if near else f": see `portway tool list {release.app}`"
        return f"{release.app} lists no tool {tool!r} now{mend}"


def _disabled(record: DisabledTool | None) -> Disabled | None:
    return None if record is None else Disabled(record.asked_by, record.since)
