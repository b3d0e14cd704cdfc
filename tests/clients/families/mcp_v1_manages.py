"""Manage a host by `mcp` 1.x: `python mcp_v1_manages.py URL TOKEN` prints what the client saw as JSON."""

import asyncio
import json
import sys

import httpx
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client


async def main(url: str, token: str) -> dict[str, object]:
    steps: list[str] = []

    async def step(progress: float, total: float | None, message: str | None) -> None:
        steps.append(message or "")

    async with (
        httpx.AsyncClient(headers={"Authorization": f"Bearer {token}"}, timeout=120) as http,
        streamable_http_client(url, http_client=http) as (read, write, _),
        ClientSession(read, write) as session,
    ):
        opened = await session.initialize()
        hints = {tool.name: tool.annotations for tool in (await session.list_tools()).tools}
        who = await session.call_tool("whoami", {})
        restarted = await session.call_tool("restart", {"app": "weather"}, progress_callback=step)
        plan = await session.call_tool("destroy", {"app": "weather"})
        return {
            "version": opened.protocolVersion,
            "instructions": opened.instructions,
            "reads": sorted(name for name, each in hints.items() if each.readOnlyHint),
            "who": who.structuredContent,
            "restarted": restarted.structuredContent,
            "steps": steps,
            "plan": plan.structuredContent,
            "refused": (await session.call_tool("deploy", {"source": "/etc"})).content[0].text,
        }


if __name__ == "__main__":
    json.dump(asyncio.run(main(*sys.argv[1:3])), sys.stdout)
