"""Whether an HTTP server, an instance or control, still answers."""

import asyncio

from portway.http.http_client import BrokenResponse, ConnectFailed, HttpClient


async def is_alive(address: str) -> bool:
    """Wait for any answer, even an error or a closed connection; return False when nobody listens.

    An answer shows only that the event loop runs.
    """
    client = HttpClient(address)
    try:
        await (await client.request("GET", "/health")).close()
    except BrokenResponse:
        pass
    except ConnectFailed:
        return False
    finally:
        await client.close()
    return True


async def until_silent(address: str, seconds: float, probes: int) -> None:
    """Wait until `probes` probes in a row got no answer within `seconds`; there are `seconds` between two probes."""
    silences = 0
    while silences < probes:
        await asyncio.sleep(seconds)
        try:
            async with asyncio.timeout(seconds):
                silences = 0 if await is_alive(address) else silences + 1
        except TimeoutError:
            silences += 1
