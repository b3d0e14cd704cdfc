"""FastMCP's client logs in by a browser and calls: `fastmcp_client.py JSON`, with `url`; `document`, `client_id`."""

import asyncio
import json
import sys
import warnings
from pathlib import Path
from typing import Any

from fastmcp import Client
from fastmcp.client.auth import OAuth

sys.path.insert(0, str(Path(__file__).parent))

from lines import answer_lines


async def main(given: dict[str, Any]) -> None:
    warnings.simplefilter("ignore")  # tokens are kept in memory
    names = {"document": "client_metadata_url", "client_id": "client_id"}
    known = {names[key]: value for key, value in given.items() if key in names}
    async with Client(given["url"], auth=OAuth(**known), timeout=120) as client:

        async def call(tool: str) -> str:
            return (await client.call_tool(tool)).content[0].text

        await answer_lines(call)


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
