"""From a decoded request to its reply: the methods of both eras, `initialize` and discovery, log level, subscriptions;
an unknown method is refused.

The two tables in `Dispatcher.__init__` say which method exists in which era; each method is written once.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET

from portway.auth.authorize import Forbidden, authorize
from portway.auth.principal import Principal
from portway.protocol.errors import INTERNAL_ERROR, INVALID_PARAMS, METHOD_NOT_FOUND, REFUSED, PeerError, RpcError
from portway.protocol.jsonrpc import Message, Params, UnreadableMessage, encode_result
from portway.protocol.log_levels import LEVELS, level_index
from portway.protocol.sealing import Keys
from portway.protocol.versions import MODERN_VERSIONS, Era, negotiate
from portway.server.components import Component
from portway.server.lifespans import Lifespans
from portway.server.lists import Lister
from portway.server.runner import Runner
from portway.server.server import BaseServer
from portway.sessions.change_bus import Bus
from portway.sessions.exchange import Exchange
from portway.sessions.legacy_session import LegacySession
from portway.sessions.subscription import Subscription

if TYPE_CHECKING:
    from portway.oauth.downstream import DownstreamTokens

log = logging.getLogger("portway.server")

_encode = msgspec.json.encode
_NO_PARAMS = Params()

Method = Callable[[Exchange, Params], Awaitable[bytes]]


class _Level(msgspec.Struct):
    level: str


class _Uri(msgspec.Struct):
    uri: str


class Dispatcher:
    """Answers requests for one server; made once, when the server starts to serve.

    `keys` seal what clients carry for this server. `keeps_sessions`: whether legacy clients get sessions; with
    `sessions`, also if no function of the server needs one.
    `downstream` obtains tokens for other services.
    """

    def __init__(
        self,
        server: BaseServer,
        keys: Keys | None = None,
        downstream: DownstreamTokens | None = None,
        *,
        sessions: bool = False,
    ) -> None:
        self.server = server
        self.keys = keys or Keys.random()
        self.keeps_sessions = _keeps_sessions(server) or (sessions and server.sessions == "auto")
        components = _components(server)
        self._is_opened = False
        self._lifespans = Lifespans([server.home, *(component.home for component in components)])
        info = server.info
        instructions = b"" if server.instructions is None else b',"instructions":' + _encode(server.instructions)
        complete = b',"resultType":"complete","_meta":{"io.modelcontextprotocol/serverInfo":%b}' % info
        tails = {Era.LEGACY: b"", Era.MODERN: complete}
        cacheable = server.cache + complete
        list_tails = {Era.LEGACY: b"", Era.MODERN: cacheable}
        lister = partial(Lister, tails=list_tails, keys=self.keys, size=server.page_size)
        self._about = b',"serverInfo":%b%b}' % (info, instructions)
        self._discovered = instructions + cacheable
        self._runner = Runner(server, self.keys, self._lifespans, tails, downstream)
        shared: dict[str, Method] = {
            "tools/call": self._runner.call_tool,
            "tools/list": lister(server.tools).answer,
            "resources/list": lister(server.resources).answer,
            "resources/templates/list": lister(server.templates).answer,
            "resources/read": self._runner.read_resource,
            "prompts/list": lister(server.prompts).answer,
            "prompts/get": self._runner.get_prompt,
            "completion/complete": self._complete,
        }
        self._methods: dict[Era, dict[str, Method]] = {
            Era.LEGACY: shared
            | {
                "initialize": self._initialize,
                "ping": self._ping,
                "logging/setLevel": self._set_level,
                "resources/subscribe": self._subscribe,
                "resources/unsubscribe": self._unsubscribe,
            },
            Era.MODERN: shared | {"server/discover": self._discover},
        }

    async def open(self) -> None:
        """Enter the lifespans, unless a request has done so; raise what a lifespan raises."""
        self._is_opened = True
        await self._lifespans.enter()

    async def close(self) -> None:
        """End the threads of this event loop and leave the lifespans; raise what a lifespan raises."""
        self._runner.close()
        await self._lifespans.leave()

    async def dispatch(self, exchange: Exchange) -> bytes:
        """Return the reply to a request; raise RpcError, whose `status` is the HTTP status of the modern era."""
        message = exchange.message
        assert message.method is not UNSET
        assert message.id is not UNSET
        method = self._methods[exchange.era].get(message.method)
        if method is None:
            raise _unknown_method(message.method, exchange.era)
        params = message.params
        if params is UNSET:
            params = _NO_PARAMS
        elif params.meta is not UNSET and params.meta.log_level is not UNSET:
            _checked_level(params.meta.log_level)
        try:
            if not self._lifespans.ready:
                await self._enter_late()
            return encode_result(message.id, await method(exchange, params))
        except Forbidden as error:
            raise _refusal(error) from None
        except Exception as error:
            if isinstance(error, RpcError) and not isinstance(error, PeerError):
                raise
            log.exception("request failed")  # a bug of ours; the client must still get a reply
            text = "The server failed to answer; its log has the cause."
            raise RpcError(INTERNAL_ERROR, text, status=200) from None

    async def _enter_late(self) -> None:
        """Enter the lifespans at a request, and warn: nothing will leave them."""
        if not self._is_opened:
            self._is_opened = True
            log.warning(
                "the application that mounts %s runs no lifespan: pass it asgi().lifespan, or shutdown never runs",
                self.server.name,
            )
        await self._lifespans.enter()

    def authorize_batch(self, principal: Principal, parts: Iterable[tuple[bytes, Message | UnreadableMessage]]) -> None:
        """Raise RpcError (403), which names what all requests of a batch need, if the caller lacks some of it."""
        requests = [(part, message) for part, message in parts if isinstance(message, Message)]
        try:
            authorize(principal, frozenset(scope for each in requests for scope in self._runner.scopes_of(*each)))
        except Forbidden as error:
            raise _refusal(error) from None

    def subscribe(self, bus: Bus, exchange: Exchange) -> Subscription:
        """Start a `subscriptions/listen`. Raises RpcError as `Subscription`, and for what the caller may not watch."""
        try:
            return Subscription(bus, exchange, self.server.info, partial(self._authorize_watching, exchange.principal))
        except Forbidden as error:
            raise _refusal(error) from None

    async def _initialize(self, exchange: Exchange, params: Params) -> bytes:
        if params.version is UNSET:
            raise RpcError(INVALID_PARAMS, "initialize needs params.protocolVersion, a string.")
        version = negotiate(params.version).encode()
        capabilities = self._capabilities(notifies=exchange.session is not None)
        return b'{"protocolVersion":"%b","capabilities":%b%b' % (version, capabilities, self._about)

    async def _ping(self, exchange: Exchange, params: Params) -> bytes:
        return b"{}"

    async def _discover(self, exchange: Exchange, params: Params) -> bytes:
        capabilities = self._capabilities(notifies=True)
        return b'{"supportedVersions":%b,"capabilities":%b%b}' % (
            _encode(MODERN_VERSIONS),
            capabilities,
            self._discovered,
        )

    def _capabilities(self, *, notifies: bool) -> bytes:
        """Return the ServerCapabilities object; `notifies`: the client can be sent notifications."""
        changes: dict[str, object] = {"listChanged": True} if notifies else {}
        capabilities: dict[str, object] = {
            "prompts": changes,
            "resources": changes | {"subscribe": True} if notifies else {},
            "tools": changes,
        }
        if self._completes():
            capabilities["completions"] = {}
        if notifies and self.keeps_sessions:
            capabilities["logging"] = {}
        return _encode(capabilities)

    def _completes(self) -> bool:
        tables = (self.server.prompts, self.server.templates)
        return any(component.completers for table in tables for component in tuple(table.items.values()))

    async def _complete(self, exchange: Exchange, params: Params) -> bytes:
        if not self._completes():  # nor is the capability announced then; a completer may be registered later
            raise _unknown_method("completion/complete", exchange.era)
        return await self._runner.complete(exchange, params)

    async def _set_level(self, exchange: Exchange, params: Params) -> bytes:
        session = _session(exchange)
        session.level = _checked_level(exchange.params(_Level).level)
        return b"{}"

    async def _subscribe(self, exchange: Exchange, params: Params) -> bytes:
        session, uri = _session(exchange), exchange.params(_Uri).uri
        self._authorize_watching(exchange.principal, [uri])
        session.subscribe(uri)
        return b"{}"

    async def _unsubscribe(self, exchange: Exchange, params: Params) -> bytes:
        session, uri = _session(exchange), exchange.params(_Uri).uri
        self._authorize_watching(exchange.principal, [uri])
        session.unsubscribe(uri)
        return b"{}"

    def _authorize_watching(self, principal: Principal, uris: Iterable[str]) -> None:
        """Raise Forbidden unless the caller may read these. That there is no such resource is no secret."""
        found = (self.server.find_resource(uri)[0] for uri in uris)
        authorize(principal, frozenset(scope for resource in found if resource for scope in resource.scopes))


def _refusal(error: Forbidden) -> RpcError:
    return RpcError(REFUSED, str(error), {"requiredScopes": sorted(error.needed)}, status=403)


def _components(server: BaseServer) -> list[Component]:
    tables = (server.tools, server.resources, server.templates, server.prompts)
    return [component for table in tables for component in table.items.values()]


def _keeps_sessions(server: BaseServer) -> bool:
    """Return whether legacy clients get sessions: the author says so, or a function may log or ask."""
    if server.sessions != "auto":
        return bool(server.sessions)
    return any(
        component.asks or component.plan.context is not None or component.middleware
        for component in _components(server)
    )


def _session(exchange: Exchange) -> LegacySession:
    if exchange.session is None:
        raise _unknown_method(str(exchange.message.method), exchange.era)
    return exchange.session


def _checked_level(name: str) -> int:
    level = level_index(name)
    if level is None:
        raise RpcError(INVALID_PARAMS, f"There is no log level {name[:40]!r}; use one of: {', '.join(LEVELS)}.")
    return level


def _unknown_method(method: str, era: Era) -> RpcError:
    data = {"supported": list(MODERN_VERSIONS)} if era is Era.MODERN and method == "initialize" else None
    return RpcError(METHOD_NOT_FOUND, f"Method not found: {method[:200]}", data, status=404)
