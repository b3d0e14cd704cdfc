"""Use the feature server by LangChain's adapter: `python langchain_client.py URL TOKEN` prints what it saw as JSON."""

import asyncio
import json
import sys

from langchain_mcp_adapters.client import MultiServerMCPClient


async def main(url: str, token: str) -> dict[str, object]:
    connection = {"url": url, "transport": "streamable_http", "headers": {"Authorization": f"Bearer {token}"}}
    tools = {tool.name: tool for tool in await MultiServerMCPClient({"features": connection}).get_tools()}
    return {
        "properties": {name: tool.args for name, tool in tools.items()},
        "sum": await tools["add"].ainvoke({"a": 1, "b": 2}),
    }


if __name__ == "__main__":
    json.dump(asyncio.run(main(*sys.argv[1:3])), sys.stdout)
