"""A client that calls a dispatcher directly, in either era, and answers the questions it gets."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from portway.auth.principal import ANONYMOUS, Principal
from portway.protocol.capabilities import Capability, DeclaredClient, read
from portway.protocol.errors import RpcError
from portway.protocol.jsonrpc import PREFIX, decode
from portway.protocol.sealing import Keys
from portway.protocol.versions import LATEST_LEGACY, LATEST_MODERN, Era
from portway.server.dispatcher import Dispatcher
from portway.sessions.exchange import Exchange
from portway.sessions.legacy_session import LegacySession

if TYPE_CHECKING:
    from portway import Server

ALL = {"elicitation": {"form": {}, "url": {}}, "sampling": {"tools": {}}, "roots": {}}
KEYS = Keys.random()


def accept(**content: object) -> dict[str, object]:
    return {"action": "accept", "content": content}


DECLINE = {"action": "decline"}
SAMPLED = {"role": "assistant", "model": "m", "stopReason": "endTurn", "content": {"type": "text", "text": "Paris"}}
ROOTS = {"roots": [{"uri": "file:///home", "name": "Home"}]}


def legacy_session(version: str = LATEST_LEGACY, capabilities: Capability | None = None) -> LegacySession:
    """A session that can be asked everything, or what `capabilities` say."""
    declared = read(msgspec.json.encode(ALL)) if capabilities is None else capabilities
    return LegacySession(lambda: pytest.fail("nobody listens here"), version, DeclaredClient(declared))


@dataclass
class ScriptedChannel:
    """The channel of a legacy call: answers each question with the next of `answers` and keeps the questions."""

    answers: list[Any] = field(default_factory=list)
    asked: list[tuple[str, Any]] = field(default_factory=list)

    async def notify(self, message: bytes) -> None: ...

    async def ask(self, method: str, params: bytes) -> msgspec.Raw:
        self.asked.append((method, json.loads(params)))
        answer = self.answers.pop(0)
        await asyncio.sleep(0)
        if isinstance(answer, Exception):
            raise answer
        return msgspec.Raw(msgspec.json.encode(answer))

    async def close_stream(self, retry: int | None) -> None: ...


class ScriptedClient:
    """Calls one server; `modern` returns the result, or the error as a dict."""

    def __init__(self, server: Server, keys: Keys = KEYS) -> None:
        self.dispatcher = Dispatcher(server, keys)

    def modern(
        self,
        name: str,
        arguments: Any = None,
        *,
        method: str = "tools/call",
        responses: Any = msgspec.UNSET,
        state: Any = msgspec.UNSET,
        capabilities: Any = ALL,
        principal: Principal = ANONYMOUS,
    ) -> dict[str, Any]:
        params: dict[str, Any] = {
            "_meta": {PREFIX + "protocolVersion": LATEST_MODERN, PREFIX + "clientCapabilities": capabilities},
            "uri" if method == "resources/read" else "name": name,
            "arguments": {} if arguments is None else arguments,
            "inputResponses": responses,
            "requestState": state,
        }
        kept = {key: value for key, value in params.items() if value is not msgspec.UNSET}
        return self._dispatch(method, kept, Era.MODERN, LATEST_MODERN, None, ScriptedChannel(), principal)

    def legacy(
        self,
        name: str,
        *answers: Any,
        method: str = "tools/call",
        session: LegacySession | None = None,
        bare: bool = False,
    ) -> tuple[dict[str, Any], list[tuple[str, Any]]]:
        """Return the result and the requests that the client got."""
        channel = ScriptedChannel(list(answers))
        session = None if bare else session or legacy_session()
        version = LATEST_LEGACY if session is None else session.version
        params = {"uri" if method == "resources/read" else "name": name}
        return self._dispatch(method, params, Era.LEGACY, version, session, channel, ANONYMOUS), channel.asked

    def _dispatch(
        self,
        method: str,
        params: dict[str, Any],
        era: Era,
        version: str,
        session: LegacySession | None,
        channel: ScriptedChannel,
        principal: Principal,
    ) -> dict[str, Any]:
        body = msgspec.json.encode({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})

        async def run() -> bytes:
            exchange = Exchange(decode(body), era, principal, channel, body, version, session)
            try:
                return await self.dispatcher.dispatch(exchange)
            finally:
                await self.dispatcher.close()

        try:
            return json.loads(asyncio.run(run()))["result"]
        except RpcError as error:
            return {"code": error.code, "message": error.message, "data": error.data, "status": error.status}


def text(result: dict[str, Any]) -> str:
    """Return the text of a tool's result."""
    return "".join(block["text"] for block in result["content"])
