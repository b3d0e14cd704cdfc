"""What is called while processes of its host are killed and stopped: a quick tool, a slow one, one with a stream."""

from __future__ import annotations

import asyncio
import contextlib

from portway import Context, Server

server = Server("chaos")


async def lasts(seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(asyncio.Event().wait(), seconds)


@server.tool
def echo(number: int) -> int:
    return number


@server.tool
async def slow(number: int) -> int:
    await lasts(number % 10 / 10)
    return number


@server.tool
async def steps(number: int, ctx: Context) -> int:
    for step in range(3):
        await ctx.report_progress(step)
        await lasts(number % 10 / 20)
    return number
