"""Portway's client logs in by a browser and calls: `portway_client.py JSON`, with `url`; `document`, `client_id`."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from portway.client import Client, MemoryStorage, OAuthLogin

sys.path.insert(0, str(Path(__file__).parent))

from lines import answer_lines


async def main(given: dict[str, Any]) -> None:
    names = {"document": "client_metadata_url", "client_id": "client_id", "issuer": "issuer"}
    known = {names[key]: value for key, value in given.items() if key in names}
    async with Client(given["url"], auth=OAuthLogin(storage=MemoryStorage(), **known), timeout=120) as client:

        async def call(tool: str) -> str:
            return (await client.call_tool(tool)).text

        await answer_lines(call)


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
