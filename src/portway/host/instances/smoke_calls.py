"""Makes the smoke calls that a new release must answer before it serves."""

import asyncio
import json

from msgspec import UNSET

from portway.client import ClientError
from portway.host.app_config import SmokeCall
from portway.host.instances.readiness import Approach, Endpoint, NotReady, unless_it_ends
from portway.host.instances.runtime import Instance
from portway.host.logs.last_lines import last_lines
from portway.host.releases.release import Release
from portway.protocol.errors import RpcError

_SECONDS = 60.0  # for each call
_SHOWN = 500  # characters of an answer


async def run_smoke_calls(instance: Instance, release: Release, approach: Approach) -> None:
    """Make the smoke calls of a release, one after the other, for no caller. Raises `NotReady` when one fails."""
    endpoint = Endpoint(instance, release, approach, release.config.path)
    for call in release.config.smoke:
        await unless_it_ends(endpoint, release.log, None, _try(endpoint, call, release))


async def _try(endpoint: Endpoint, call: SmokeCall, release: Release) -> None:
    tool, log = call.tool, release.log
    try:
        async with asyncio.timeout(_SECONDS), endpoint.client() as client:
            result = await client.call_tool(tool, call.arguments)
    except TimeoutError:
        raise NotReady(f"the smoke call of {tool} took longer than {_SECONDS:g} s", last_lines(log)) from None
    except (ClientError, RpcError) as error:
        raise NotReady(f"the smoke call of {tool} failed: {endpoint.words(error)[:_SHOWN]}", last_lines(log)) from None
    structured = "" if result.structured is UNSET else json.dumps(result.structured, ensure_ascii=False)
    answer = (result.text or structured)[:_SHOWN]
    if result.is_error:
        raise NotReady(f"the smoke call of {tool} failed: {answer}", last_lines(log))
    if call.expect not in result.text and call.expect not in structured:
        raise NotReady(f"the smoke call of {tool} was answered without {call.expect!r}: {answer}", last_lines(log))
