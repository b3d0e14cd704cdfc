"""One request to a server's dispatcher in this process, and its reply, both as data."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from portway.auth.principal import ANONYMOUS
from portway.protocol.errors import RpcError
from portway.protocol.jsonrpc import decode, encode_error
from portway.protocol.versions import LATEST_LEGACY, MODERN_VERSIONS, Era
from portway.server.dispatcher import Dispatcher
from portway.sessions.exchange import Exchange

if TYPE_CHECKING:
    from portway import Server


def ask(server: Server, method: str, params: object = None, *, version: str = LATEST_LEGACY) -> dict[str, Any]:
    """Return the reply of `server` to a client of the revision `version` without a session."""
    modern = version in MODERN_VERSIONS
    meta = {"io.modelcontextprotocol/protocolVersion": version, "io.modelcontextprotocol/clientCapabilities": {}}
    body = json.dumps(
        {
            "jsonrpc": "2.0",
            "id": 1,
            "method": method,
            "params": {**(params or {}), **({"_meta": meta} if modern else {})},
        }
    ).encode()
    era = Era.MODERN if modern else Era.LEGACY
    exchange = Exchange(decode(body), era, ANONYMOUS, channel=None, body=body, version=version)

    async def answer() -> bytes:
        dispatcher = Dispatcher(server)
        try:
            return await dispatcher.dispatch(exchange)
        except RpcError as error:
            return encode_error(1, error)
        finally:
            await dispatcher.close()

    return json.loads(asyncio.run(answer()))
