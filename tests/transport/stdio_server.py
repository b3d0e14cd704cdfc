"""The server under test in test_stdio.py."""

import asyncio
import subprocess
import sys
import threading

from portway import Context, Server

print("from import")  # noqa: T201 - it must not reach the client

server = Server("fixture")
waiting_now = 0


@server.tool
async def echo(text: str) -> str:
    return text


@server.tool
async def repeat(text: str, times: int) -> str:
    return text * times


@server.tool
async def noisy() -> str:
    print("from print")  # noqa: T201 - as above
    subprocess.run([sys.executable, "-c", "import sys; print('from child'); sys.stdin.read()"], check=True)  # noqa: ASYNC221
    return "done"


@server.tool
async def wait() -> None:
    global waiting_now  # noqa: PLW0603 - what the test asks about
    waiting_now += 1
    try:
        await asyncio.Event().wait()
    finally:
        waiting_now -= 1


@server.tool
async def waiting() -> int:
    return waiting_now


@server.tool
def wait_on_a_thread() -> None:
    threading.Event().wait()


@server.tool
async def block() -> None:
    threading.Event().wait()  # a handler that should not, and does


@server.tool
async def leave(cancel: bool) -> None:
    raise asyncio.CancelledError if cancel else SystemExit(3)


@server.tool
async def count(to: int, ctx: Context) -> int:
    for n in range(1, to + 1):
        await ctx.report_progress(n, to)
    return to
