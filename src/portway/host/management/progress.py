"""Sends the steps of a deploy as MCP progress."""

from portway.host.management.callers import caller_of
from portway.host.paths import Paths
from portway.host.releases.steps import Report
from portway.server.context import Context


def report_to(ctx: Context, paths: Paths) -> Report:
    """Return what takes one line for each step, and sends it as progress; from afar no places of the host are seen."""
    steps = 0
    is_local = caller_of(ctx.caller).is_local

    async def report(step: str) -> None:
        nonlocal steps
        steps += 1
        await ctx.report_progress(steps, message=step if is_local else paths.hidden(step))

    return report
