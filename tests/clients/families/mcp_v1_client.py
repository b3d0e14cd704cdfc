"""Use the feature server by `mcp` 1.x: `python mcp_v1_client.py URL TOKEN` prints what the client saw as JSON."""

import asyncio
import json
import sys

import httpx
from mcp import ClientSession, McpError
from mcp.client.streamable_http import streamable_http_client
from mcp.types import (
    CancelledNotification,
    CancelledNotificationParams,
    ClientNotification,
    ElicitRequestParams,
    ElicitResult,
)


async def cancel(session: ClientSession, tool: str) -> int:
    """Call a tool that never answers, cancel it, and return the code of the error that its caller gets."""
    request_id = session._request_id  # the next one
    waiting = asyncio.create_task(session.call_tool(tool, {}))
    await asyncio.sleep(0)  # it takes its id
    await session.call_tool("begun", {})
    params = CancelledNotificationParams(requestId=request_id)
    await session.send_notification(ClientNotification(CancelledNotification(params=params)))
    try:
        await waiting
    except McpError as error:
        await session.call_tool("cancelled", {})
        return error.error.code
    return 0


async def main(url: str, token: str) -> dict[str, object]:
    questions: list[str] = []

    async def answer(context: object, params: ElicitRequestParams) -> ElicitResult:
        questions.append(params.message)
        return ElicitResult(action="accept", content={"sure": True})

    async with (
        httpx.AsyncClient(headers={"Authorization": f"Bearer {token}"}, timeout=120) as http,
        streamable_http_client(url, http_client=http) as (read, write, _),
        ClientSession(read, write, elicitation_callback=answer) as session,
    ):
        opened = await session.initialize()
        tools = (await session.list_tools()).tools
        return {
            "version": opened.protocolVersion,
            "properties": {tool.name: tool.inputSchema["properties"] for tool in tools},
            "sum": (await session.call_tool("add", {"a": 1, "b": 2})).structuredContent,
            "answer": (await session.call_tool("confirm", {"city": "Oslo"})).content[0].text,
            "questions": questions,
            "cancelled": [await cancel(session, tool) for tool in ("wait", "wait_aloud")],
            "software": (await session.call_tool("who", {})).content[0].text,
            "wrong": (await session.call_tool("add", {"a": 1, "c": 2})).content[0].text,
        }


if __name__ == "__main__":
    json.dump(asyncio.run(main(*sys.argv[1:3])), sys.stdout)
