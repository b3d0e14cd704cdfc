"""The official Python client, connected over HTTP to a server in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from mcp import Client

from portway import Server
from portway.http.limits import Limits
from portway.transport.http_app import HttpApp
from tests.http.running_listener import Listener


def officially(server: Server, talk: Callable[[Client], Coroutine[Any, Any, Any]], mode: str = "2026-07-28") -> Any:
    """Return what `talk` returns for a client of `server`; `mode` is "legacy" or a modern revision."""

    async def run() -> Any:
        async with Client(f"{listener.url}/mcp", mode=mode, read_timeout_seconds=20) as client:
            return await talk(client)

    listener = Listener(HttpApp(server), Limits())
    try:
        return asyncio.run(run())
    finally:
        listener.stop()
        listener.join()
