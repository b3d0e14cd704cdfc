"""The official Python client over stdio, run by the peers' Python: `stdio_client.py SECONDS COMMAND…` prints JSON."""

import asyncio
import json
import os
import statistics
import sys
import time
from pathlib import Path

from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

DEVNULL = Path(os.devnull).open("w")  # noqa: SIM115 (for the life of the process)


async def main(seconds: float, command: list[str]) -> None:
    names = ("BENCH_KIND", "BENCH_LOGGING", "PYTHONPATH")
    env = {name: os.environ[name] for name in names if name in os.environ}
    server = StdioServerParameters(command=command[0], args=command[1:], env=env)
    started = time.perf_counter()
    async with Client(stdio_client(server, errlog=DEVNULL)) as client:
        await call(client, 0)
        first = time.perf_counter() - started
        times: list[float] = []
        until = time.perf_counter() + seconds
        while (before := time.perf_counter()) < until:
            await call(client, len(times) + 1)
            times.append(time.perf_counter() - before)
        version = client.protocol_version
    rate = len(times) / sum(times) if times else 0.0
    p50 = statistics.median(times) * 1e3 if times else 0.0
    print(json.dumps({"first": first, "rate": rate, "p50": p50, "version": version}))


async def call(client: Client, number: int) -> None:
    city = f"c{number}"
    result = await client.call_tool("get_weather", {"city": city})
    if result.is_error or json.loads(result.content[0].text)["city"] != city:
        raise SystemExit(f"wrong answer for {city}: {result}")


asyncio.run(main(float(sys.argv[1]), sys.argv[2:]))
