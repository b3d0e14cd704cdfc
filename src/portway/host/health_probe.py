"""HTTP probes of instances and control: whether one still answers, and an app's own `healthCheckPath`."""

import asyncio

from portway.http.http_client import BrokenResponse, ConnectFailed, HttpClient, UpstreamError

_HEALTH_SECONDS = 5.0  # for the answer to a health check


async def is_alive(address: str) -> bool:
    """Wait for any answer, even an error or a closed connection; return False when nobody listens.

    An answer shows only that the event loop runs.
    """
    try:
        async with HttpClient(address) as client:
            await (await client.request("GET", "/health")).close()
    except BrokenResponse:
        pass
    except ConnectFailed:
        return False
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


class HealthCheck:
    """The health check that an app names: a GET that is answered with a status from 200 to 399, within 5 s.

    `fault` says why it last failed. `host` is the Host header.
    """

    def __init__(self, address: str, path: str, host: str) -> None:
        self.path = path
        self.fault = "no answer"
        self._address = address
        self._host = host

    async def passes(self) -> bool:
        try:
            async with HttpClient(self._address, self._host) as client, asyncio.timeout(_HEALTH_SECONDS):
                response = await client.request("GET", self.path)
                await response.close()
        except TimeoutError:
            self.fault = f"no answer within {_HEALTH_SECONDS:g} s"
        except UpstreamError as error:
            self.fault = str(error)
        else:
            self.fault = f"status {response.status}"
            return 200 <= response.status < 400
        return False
