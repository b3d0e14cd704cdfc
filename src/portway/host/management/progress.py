"""The steps of a deploy, as progress of the tool that does it."""

from portway.host.releases.steps import Report
from portway.server.context import Context


def report_to(ctx: Context) -> Report:
    """Return what takes one line for each step, and sends it as progress."""
    steps = 0

    async def report(step: str) -> None:
        nonlocal steps
        steps += 1
        await ctx.report_progress(steps, message=step)

    return report
