"""From a decoded request to the bytes of its reply: the methods of both eras over one registry.

Which method exists in which era stands in the two tables of `Dispatcher`; what a method does is written once.
"""

import asyncio
import base64
import logging
import secrets
from collections.abc import Awaitable, Callable
from functools import partial

import msgspec
from msgspec import UNSET, Raw, UnsetType

from portway.auth.authorize import Forbidden, authorize
from portway.protocol.errors import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    REFUSED,
    RESOURCE_NOT_FOUND,
    RpcError,
)
from portway.protocol.jsonrpc import Params, encode_result
from portway.protocol.versions import LATEST_LEGACY, LEGACY_VERSIONS, MODERN_VERSIONS, Era
from portway.server.components import Prompt, Resource, Table, Tool
from portway.server.context import Context, Exchange
from portway.server.errors import ArgumentError, ToolError
from portway.server.output import Encoded, encode_json
from portway.server.plan import Arguments, Call, Plan
from portway.server.pool import ThreadPool
from portway.server.prompts import encode_messages
from portway.server.server import Server

log = logging.getLogger("portway.server")

_encode = msgspec.json.encode
_NO_PARAMS = Params()
_CAPABILITIES: dict[str, dict[str, object]] = {"prompts": {}, "resources": {}, "tools": {}}

Method = Callable[[Exchange, Params], Awaitable[bytes]]


class Dispatcher:
    """Answers requests for one server; made once, when the server starts to serve."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._pools: dict[asyncio.AbstractEventLoop, ThreadPool] = {}
        self._tools, self._prompts = server.tools.items, server.prompts.items
        info = _encode(server.info())
        instructions = b"" if server.instructions is None else b',"instructions":' + _encode(server.instructions)
        capabilities = _encode(_CAPABILITIES)
        complete = b',"resultType":"complete","_meta":{"io.modelcontextprotocol/serverInfo":%b}' % info
        cacheable = b',"ttlMs":0,"cacheScope":"private"' + complete
        self._tail = {Era.LEGACY: b"", Era.MODERN: complete}
        self._list_tail = {Era.LEGACY: b"", Era.MODERN: cacheable}
        self._initialized = b'","capabilities":%b,"serverInfo":%b%b}' % (capabilities, info, instructions)
        self._discovered = b'{"supportedVersions":%b,"capabilities":%b%b%b}' % (
            _encode(MODERN_VERSIONS),
            capabilities,
            instructions,
            cacheable,
        )
        shared: dict[str, Method] = {
            "tools/call": self._call_tool,
            "tools/list": self._lister(server.tools),
            "resources/list": self._lister(server.resources),
            "resources/templates/list": self._lister(server.templates),
            "resources/read": self._read_resource,
            "prompts/list": self._lister(server.prompts),
            "prompts/get": self._get_prompt,
        }
        self._methods: dict[Era, dict[str, Method]] = {
            Era.LEGACY: shared | {"initialize": self._initialize, "ping": self._ping},
            Era.MODERN: shared | {"server/discover": self._discover},
        }

    async def dispatch(self, exchange: Exchange) -> bytes:
        """The reply to a request; raises RpcError, whose `status` is the HTTP status of the modern era."""
        message = exchange.message
        assert message.method is not UNSET
        assert message.id is not UNSET
        method = self._methods[exchange.era].get(message.method)
        if method is None:
            raise _unknown_method(message.method, exchange.era)
        params = _NO_PARAMS if message.params is UNSET else message.params
        try:
            return encode_result(message.id, await method(exchange, params))
        except Forbidden as error:
            data = {"requiredScopes": sorted(error.missing)}
            raise RpcError(REFUSED, str(error), data, status=403) from None
        except RpcError:
            raise
        except Exception:
            log.exception("request failed")  # a fault of ours; the client must not wait for ever
            text = "The server failed to answer; its log has the cause."
            raise RpcError(INTERNAL_ERROR, text, status=200) from None

    def close(self) -> None:
        """Let go of the threads of this event loop; a call that comes yet gets new ones."""
        pool = self._pools.pop(asyncio.get_running_loop(), None)
        if pool is not None:
            pool.close()

    async def _initialize(self, exchange: Exchange, params: Params) -> bytes:
        if params.version is UNSET:
            raise RpcError(INVALID_PARAMS, "initialize needs params.protocolVersion, a string.")
        version = params.version if params.version in LEGACY_VERSIONS else LATEST_LEGACY
        return b'{"protocolVersion":"' + version.encode() + self._initialized

    async def _ping(self, exchange: Exchange, params: Params) -> bytes:
        return b"{}"

    async def _discover(self, exchange: Exchange, params: Params) -> bytes:
        return self._discovered

    def _lister(self, table: Table[Tool] | Table[Resource] | Table[Prompt]) -> Method:
        tails = self._list_tail

        async def list_components(exchange: Exchange, params: Params) -> bytes:
            if params.cursor is not UNSET and params.cursor is not None:
                raise RpcError(INVALID_PARAMS, "The cursor is not one this server gave; start again without it.")
            return table.list_result(tails[exchange.era])

        return list_components

    async def _call_tool(self, exchange: Exchange, params: Params) -> bytes:
        tool = self._tools.get(params.name) if params.name is not UNSET else None
        if tool is None:
            raise _unknown("tool", params.name)
        if tool.scopes:
            authorize(exchange.principal, tool.scopes)
        plan = tool.plan
        tail = self._tail[exchange.era]
        try:
            args, kwargs = _bind(plan, params.arguments, Context(exchange) if plan.context else None)
            return _tool_result(plan.encode(await self._invoke(plan, args, kwargs)), tail)
        except (ArgumentError, ToolError) as error:
            return _tool_error(_sayable(error), tail)
        except (RpcError, Forbidden):
            raise
        except BaseException as error:  # noqa: BLE001 - whatever an author's code raises becomes an error result with an id
            return _tool_error(_logged("tool", tool.name, error), tail)

    async def _invoke(self, plan: Plan | Arguments, args: tuple[object, ...], kwargs: dict[str, object]) -> object:
        if plan.is_async:
            return await plan.fn(*args, **kwargs)
        pool = self._pools.get(asyncio.get_running_loop()) or self._open_pool()
        return await pool.run(partial(plan.fn, **kwargs) if kwargs else plan.fn, *args)

    def _open_pool(self) -> ThreadPool:
        """Threads for this event loop; an application may be served by one after the other, or by several at a time."""
        for loop in [loop for loop in list(self._pools) if loop.is_closed()]:
            self._pools.pop(loop).close()
        pool = self._pools[asyncio.get_running_loop()] = ThreadPool()
        return pool

    async def _read_resource(self, exchange: Exchange, params: Params) -> bytes:
        uri = params.uri
        if uri is UNSET:
            raise RpcError(INVALID_PARAMS, "resources/read needs params.uri, a string.")
        resource, values = self._find_resource(uri)
        if resource is None:
            code = INVALID_PARAMS if exchange.era is Era.MODERN else RESOURCE_NOT_FOUND
            raise RpcError(code, "There is no such resource.", {"uri": uri})
        value = await self._render("resource", resource.uri, resource, values, exchange)
        try:
            content = _resource_content(resource, uri, value)
        except Exception as error:  # noqa: BLE001 - the author returned what JSON cannot hold
            raise RpcError(INTERNAL_ERROR, _logged("resource", resource.uri, error), status=200) from None
        return b'{"contents":[%b]%b}' % (content, self._list_tail[exchange.era])

    def _find_resource(self, uri: str) -> tuple[Resource | None, dict[str, str]]:
        resource = self._server.resources.items.get(uri)
        if resource is not None:
            return resource, {}
        for template in self._server.templates.items.values():
            assert template.pattern is not None
            values = template.pattern.match(uri)
            if values is not None:
                return template, values
        return None, {}

    async def _get_prompt(self, exchange: Exchange, params: Params) -> bytes:
        prompt = self._prompts.get(params.name) if params.name is not UNSET else None
        if prompt is None:
            raise _unknown("prompt", params.name)
        try:
            values = {} if params.arguments is UNSET else _prompt_arguments(params.arguments) or {}
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise RpcError(INVALID_PARAMS, "A prompt's arguments must be an object of strings.") from None
        value = await self._render("prompt", prompt.name, prompt, values, exchange)
        try:
            messages = encode_messages(value)
        except Exception as error:  # noqa: BLE001 - the author returned what is no message
            raise RpcError(INTERNAL_ERROR, _logged("prompt", prompt.name, error), status=200) from None
        return b'{"messages":%b%b}' % (messages, self._tail[exchange.era])

    async def _render(
        self, kind: str, name: str, component: Resource | Prompt, values: dict[str, str], exchange: Exchange
    ) -> object:
        """Call the function of a resource or prompt with text arguments; what it raises becomes an RpcError."""
        authorize(exchange.principal, component.scopes)
        plan = component.plan
        try:
            args, kwargs = plan.bind_values(values, Context(exchange) if plan.context else None)
            return await self._invoke(plan, args, kwargs)
        except ArgumentError as error:
            raise RpcError(INVALID_PARAMS, str(error)) from None
        except ToolError as error:
            raise RpcError(INTERNAL_ERROR, _sayable(error), status=200) from None
        except (RpcError, Forbidden):
            raise
        except BaseException as error:  # noqa: BLE001 - whatever an author's code raises becomes an error with an id
            raise RpcError(INTERNAL_ERROR, _logged(kind, name, error), status=200) from None


_prompt_arguments = msgspec.json.Decoder(dict[str, str] | None).decode


def _bind(plan: Plan, arguments: Raw | UnsetType, context: Context | None) -> Call:
    """What to call a tool with. Some clients write absent arguments as null; any other non-object is no tools/call.

    Raises ArgumentError, RpcError (2026-07-28, server/tools, "Error Handling": malformed requests).
    """
    try:
        return plan.bind(None if arguments is UNSET else arguments, context)
    except ArgumentError as error:
        if arguments is UNSET or (raw := bytes(memoryview(arguments)))[:1] == b"{":
            raise
        if raw == b"null":
            return plan.bind(None, context)
        raise RpcError(INVALID_PARAMS, str(error)) from None


class _Text(msgspec.Struct, omit_defaults=True):
    """An entry of resources/read."""

    uri: str
    mimeType: str
    text: str | UnsetType = UNSET
    blob: str | UnsetType = UNSET


def _resource_content(resource: Resource, uri: str, value: object) -> bytes:
    mime_type = resource.mime_type
    if isinstance(value, str):
        return _encode(_Text(uri, mime_type or "text/plain", text=str(value)))
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _encode(_Text(uri, mime_type or "application/octet-stream", blob=base64.b64encode(value).decode()))
    return _encode(_Text(uri, mime_type or "application/json", text=encode_json(value, resource.plan.name).decode()))


def _tool_result(encoded: Encoded, tail: bytes) -> bytes:
    structured = b"" if encoded.structured is None else b',"structuredContent":' + encoded.structured
    if encoded.meta is not None and encoded.meta != b"{}":
        tail = tail[:-1] + b"," + encoded.meta[1:] if tail else b',"_meta":' + encoded.meta
    failed = b"true" if encoded.is_error else b"false"
    return b'{"content":%b%b,"isError":%b%b}' % (encoded.content, structured, failed, tail)


def _tool_error(text: str, tail: bytes) -> bytes:
    return b'{"content":[{"type":"text","text":%b}],"isError":true%b}' % (_encode(text), tail)


def _sayable(error: Exception) -> str:
    """An author's text for the client; half a surrogate pair, which UTF-8 cannot carry, becomes a question mark."""
    return str(error).encode(errors="replace").decode()


def _logged(kind: str, name: str, error: BaseException) -> str:
    """Log an exception under a new id, and return what the client is told instead of it.

    Raises it again where it is no fault of the handler: its task was told to end.
    """
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise error
    elif isinstance(error, GeneratorExit):
        raise error
    error_id = secrets.token_hex(4)
    log.error("%s %s failed, error id %s", kind, name, error_id, exc_info=error)
    return f"The {kind} {name} failed; the server's log has the cause under error id {error_id}."


def _unknown(kind: str, name: str | UnsetType) -> RpcError:
    if name is UNSET:
        return RpcError(INVALID_PARAMS, f"params.name must name a {kind}.")
    return RpcError(INVALID_PARAMS, f"Unknown {kind}: {name}")


def _unknown_method(method: str, era: Era) -> RpcError:
    data = {"supported": list(MODERN_VERSIONS)} if era is Era.MODERN and method == "initialize" else None
    return RpcError(METHOD_NOT_FOUND, f"Method not found: {method}", data, status=404)
