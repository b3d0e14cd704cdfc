"""Use the feature server by smolagents: `python smolagents_client.py URL TOKEN` prints what it saw as JSON."""

import json
import sys

from smolagents import ToolCollection


def main(url: str, token: str) -> dict[str, object]:
    server = {"url": url, "transport": "streamable-http", "headers": {"Authorization": f"Bearer {token}"}}
    with ToolCollection.from_mcp(server, trust_remote_code=True, structured_output=True) as collection:
        tools = {tool.name: tool for tool in collection.tools}
        return {"properties": {name: tool.inputs for name, tool in tools.items()}, "sum": tools["add"](a=1, b=2)}


if __name__ == "__main__":
    json.dump(main(*sys.argv[1:3]), sys.stdout)
