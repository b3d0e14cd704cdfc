"""Use the feature server by FastMCP's client: `fastmcp_client.py URL TOKEN [MODE]` prints what it saw as JSON."""

import asyncio
import json
import sys
from typing import Any

from fastmcp import Client
from fastmcp.client.transports import StreamableHttpTransport


def schema_of(tool: Any) -> dict[str, Any]:
    """Return the input schema; FastMCP 4 calls the field as `mcp` 2.x does."""
    return tool.input_schema if hasattr(tool, "input_schema") else tool.inputSchema


async def main(url: str, token: str, **mode: str) -> dict[str, object]:
    questions: list[str] = []

    async def answer(message: str, response_type: object, params: object, context: object) -> dict[str, bool]:
        questions.append(message)
        return {"sure": True}

    transport = StreamableHttpTransport(url, headers={"Authorization": f"Bearer {token}"})
    async with Client(transport, elicitation_handler=answer, timeout=120, **mode) as client:
        tools = await client.list_tools()
        wrong = await client.call_tool("add", {"a": 1, "c": 2}, raise_on_error=False)
        return {
            "properties": {tool.name: schema_of(tool)["properties"] for tool in tools},
            "sum": (await client.call_tool("add", {"a": 1, "b": 2})).data,
            "answer": (await client.call_tool("confirm", {"city": "Oslo"})).data,
            "questions": questions,
            "wrong": wrong.content[0].text,
        }


if __name__ == "__main__":
    options = {"mode": sys.argv[3]} if len(sys.argv) > 3 else {}
    json.dump(asyncio.run(main(*sys.argv[1:3], **options)), sys.stdout)
