"""Runs the author's functions: tools, resources, prompts and completers, with middleware, time limits, limits and
confirmation; an unknown tool, prompt or resource is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET, Raw, UnsetType

from portway.auth.authorize import authorize
from portway.counted import counted
from portway.exceptions import ArgumentError, ResourceNotFound, Suspended, ToolError
from portway.plans.binding import BoundArguments
from portway.plans.output import Encoded
from portway.plans.plan import Plan
from portway.plans.prompt_messages import encode_messages
from portway.plans.resource_contents import encode_contents
from portway.protocol.errors import INVALID_PARAMS, RESOURCE_NOT_FOUND, RpcError
from portway.protocol.jsonrpc import Message, Params, decode_params
from portway.protocol.sealing import Keys
from portway.protocol.uris import normalised_template
from portway.protocol.versions import LATEST_LEGACY, Era
from portway.server.author_errors import relevant, result_of
from portway.server.components import Component, Prompt, Resource, Tool
from portway.server.context import Context
from portway.server.lifespans import Lifespans
from portway.server.middleware import composed
from portway.server.registration import private
from portway.server.server import BaseServer
from portway.server.thread_pool import ThreadPool
from portway.sessions.exchange import Exchange

if TYPE_CHECKING:
    from portway.oauth.downstream import DownstreamTokens
    from portway.policy.confirmation import Confirmation, UsedConfirmations
    from portway.policy.tool_limits import ToolLimits
    from portway.server.completion import CompleteParams


class Runner:
    """Runs the components of one server; `tails` is what each era adds to a result."""

    def __init__(
        self,
        server: BaseServer,
        keys: Keys,
        lifespans: Lifespans,
        tails: Mapping[Era, bytes],
        downstream: DownstreamTokens | None,
    ) -> None:
        self._server = server
        self._keys = keys
        self._lifespans = lifespans
        self._tails = tails
        self._downstream = downstream
        self._pools: dict[asyncio.AbstractEventLoop, ThreadPool] = {}
        self._middleware = server.home.middleware
        self._confirmations: UsedConfirmations | None = None
        self._tools, self._prompts = server.tools.items, server.prompts.items

    def close(self) -> None:
        """End the threads of this event loop; a later call gets new ones."""
        pool = self._pools.pop(asyncio.get_running_loop(), None)
        if pool is not None:
            pool.close()

    async def call_tool(self, exchange: Exchange, params: Params) -> bytes:
        """Answer tools/call."""
        tool = self._tools.get(params.name) if params.name is not UNSET else None
        if tool is None:
            raise _unknown("tool", params.name)
        if tool.headers and exchange.era is Era.MODERN and exchange.fields is not None:
            from portway.protocol.param_headers import verify_params

            verify_params(tool.headers, params.arguments, exchange.fields)
        if tool.scopes:
            authorize(exchange.principal, tool.scopes)
        plan, limits = tool.plan, tool.limits
        tail, entered, nonce = self._tails[exchange.era], False, b""
        try:
            if limits is not None:
                await self._check_arguments(tool, limits, params.arguments)
            context = self._context(tool, exchange)
            if plan.binds_slowly and _is_large(params.arguments):
                pool = self._pools.get(asyncio.get_running_loop()) or self._open_pool()
                args, kwargs = await pool.run(_bind, plan, params.arguments, context)
            else:
                args, kwargs = _bind(plan, params.arguments, context)
            if limits is not None:
                limits.enter(tool.key, exchange.holder)
                entered = True
            if tool.confirmation is not None:
                entered = False
                nonce = await self._confirm(tool, tool.confirmation, exchange, params.arguments, context)
                entered = limits is not None
            if context is None:
                result = await self._invoke(plan, args, kwargs, None)
            else:
                result = await self._manage(tool, args, kwargs, context)
            return _tool_result(plan.encode(result), exchange, tail)
        except BaseException as error:  # noqa: BLE001 - whatever an author's code raises
            if nonce and isinstance(relevant(error, tool), Suspended):
                self._used().release(nonce)
            return result_of(error, "tool", tool, tail)
        finally:
            if entered and limits is not None:
                limits.leave(exchange.holder)

    async def _confirm(
        self,
        tool: Tool,
        confirmation: Confirmation,
        exchange: Exchange,
        arguments: Raw | UnsetType,
        context: Context | None,
    ) -> bytes:
        """Have the user confirm a call; return the number used once of the confirmation, used up.

        The call has entered the limits of its tool. While the user is asked, and after an error, it is not counted.
        Raises as `Interview.confirm`, ArgumentError for arguments that cannot be shown, and RpcError.
        """
        from portway.asking.questions import elicit

        assert context is not None
        assert context.interview is not None
        limits = tool.limits
        if limits is not None:
            limits.undo(exchange.holder)
        message = confirmation.message(tool.key, None if arguments is UNSET else arguments)
        nonce = await context.interview.confirm(tool.key, elicit(message))
        if limits is not None:
            limits.enter(tool.key, exchange.holder)
        if nonce and not self._used().use(nonce):
            if limits is not None:
                limits.undo(exchange.holder)
            raise RpcError(INVALID_PARAMS, "This confirmation has been used; start the call without requestState.")
        return nonce

    def _used(self) -> UsedConfirmations:
        if self._confirmations is None:
            from portway.asking.request_state import MAX_AGE
            from portway.policy.confirmation import UsedConfirmations

            self._confirmations = UsedConfirmations(MAX_AGE)
        return self._confirmations

    async def _check_arguments(self, tool: Tool, limits: ToolLimits, arguments: Raw | UnsetType) -> None:
        """Raise ArgumentError unless the limits of a tool allow the arguments of a call; long ones, on a thread."""
        if limits.arguments is None:
            return
        if _is_large(arguments):
            pool = self._pools.get(asyncio.get_running_loop()) or self._open_pool()
            await pool.run(limits.arguments.check, tool.key, arguments)
        else:
            limits.arguments.check(tool.key, None if arguments is UNSET else arguments)

    async def read_resource(self, exchange: Exchange, params: Params) -> bytes:
        """Answer resources/read."""
        uri = params.uri
        if uri is UNSET:
            raise RpcError(INVALID_PARAMS, "resources/read needs params.uri, a string.")
        resource, values = self._server.find_resource(uri)
        if resource is None:
            raise _no_resource(exchange, uri)
        tail = self._tails[exchange.era]
        try:
            value = await self._render(resource, values, exchange)
            contents = encode_contents(value, uri, resource.plan.name, resource.mime_type)
        except BaseException as error:  # noqa: BLE001 - whatever an author's code raises
            if isinstance(relevant(error, resource), ResourceNotFound):
                raise _no_resource(exchange, uri) from None
            return result_of(error, "resource", resource, tail)
        hints = b"" if exchange.era is Era.LEGACY else resource.cache or self._server.cache
        if resource.scopes:
            hints = private(hints)
        return b'{"contents":[%b]%b%b}' % (contents, hints, tail)

    async def get_prompt(self, exchange: Exchange, params: Params) -> bytes:
        """Answer prompts/get."""
        prompt = self._prompts.get(params.name) if params.name is not UNSET else None
        if prompt is None:
            raise _unknown("prompt", params.name)
        try:
            values = {} if params.arguments is UNSET else _prompt_arguments(params.arguments) or {}
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise RpcError(INVALID_PARAMS, "A prompt's arguments must be an object of strings.") from None
        tail = self._tails[exchange.era]
        try:
            messages = encode_messages(await self._render(prompt, values, exchange), prompt.key)
            if exchange.era is Era.LEGACY and exchange.version < LATEST_LEGACY:
                from portway.server import older_revisions

                messages = older_revisions.messages(messages, exchange.version)
        except BaseException as error:  # noqa: BLE001 - whatever an author's code raises
            return result_of(error, "prompt", prompt, tail)
        return b'{"messages":%b%b}' % (messages, tail)

    def scopes_of(self, body: bytes, message: Message) -> frozenset[str]:
        """Return the scopes that a request needs; none if what it names does not exist."""
        params = message.params
        component: Component | None = None
        if params is UNSET:
            return frozenset()
        if message.method == "tools/call" and params.name is not UNSET:
            component = self._tools.get(params.name)
        elif message.method == "prompts/get" and params.name is not UNSET:
            component = self._prompts.get(params.name)
        elif message.method in _OF_RESOURCES and params.uri is not UNSET:
            component = self._server.find_resource(params.uri)[0]
        elif message.method == "completion/complete":
            from portway.server import completion

            with contextlib.suppress(RpcError):
                component = self._completable(decode_params(body, completion.CompleteParams))
        return frozenset() if component is None else component.scopes

    async def complete(self, exchange: Exchange, params: Params) -> bytes:
        """Answer completion/complete."""
        from portway.server import completion

        wanted = exchange.params(completion.CompleteParams)
        component = self._completable(wanted)
        authorize(exchange.principal, component.scopes)
        tail = self._tails[exchange.era]
        completer = component.completers.get(wanted.argument.name)
        values: object = ()
        try:
            if completer is not None:
                state = self._lifespans.state(component.home)
                context = Context(exchange, state) if completer.context else None  # without an interview: it cannot ask
                args, kwargs = completer.bind_values(completion.named_values(completer, wanted), context)
                values = await self._invoke(completer, args, kwargs, context)
            return b"%b%b}" % (completion.encode_completion(values, component.key), tail)
        except BaseException as error:  # noqa: BLE001 - whatever an author's code raises
            return result_of(error, "completion of", component, tail)

    def _completable(self, params: CompleteParams) -> Prompt | Resource:
        """Return what has the argument to be completed; raise RpcError where nothing has."""
        ref, argument, server = params.ref, params.argument.name, self._server
        component: Prompt | Resource | None
        if ref.type == "ref/prompt":
            key, component = ref.name, server.prompts.items.get(ref.name)
        else:
            key, component = ref.uri, server.templates.items.get(ref.uri) or server.resources.items.get(ref.uri)
            if component is None:
                wanted = normalised_template(ref.uri)
                same = (
                    item for item in tuple(server.templates.items.values()) if normalised_template(item.key) == wanted
                )
                component = next(same, None)
        if component is None:
            kind = "prompt" if ref.type == "ref/prompt" else "resource template"
            raise RpcError(INVALID_PARAMS, f"There is no {kind} {key[:200]!r} to complete.")
        if argument not in [listed.name for listed in component.plan.listed]:
            raise RpcError(INVALID_PARAMS, f"{key} has no argument {argument[:200]!r} to complete.")
        return component

    async def _render(self, component: Resource | Prompt, values: Mapping[str, object], exchange: Exchange) -> object:
        """Call the function of a resource or prompt with text arguments."""
        authorize(exchange.principal, component.scopes)
        plan = component.plan
        context = self._context(component, exchange)
        args, kwargs = plan.bind_values(values, context)
        if context is None:
            return await self._invoke(plan, args, kwargs, None)
        return await self._manage(component, args, kwargs, context)

    def _context(self, component: Component, exchange: Exchange) -> Context | None:
        """Return the context of a call; None where nothing looks at it."""
        if not (component.plan.context or component.managed or self._middleware):
            return None
        interview = None
        if component.asks:
            from portway.asking.interview import Interview

            interview = Interview(exchange, self._keys)
        return Context(exchange, self._lifespans.state(component.home), interview, self._downstream)

    async def _manage(
        self, component: Tool | Resource | Prompt, args: tuple[object, ...], kwargs: dict[str, object], context: Context
    ) -> object:
        """Call a function inside its middleware and time limit, after asking for the parameters marked with `Ask`."""
        plan = component.plan
        if component.questions:
            assert context.interview is not None
            kwargs = {**kwargs, **await context.interview.ask_parameters(plan.name, component.questions)}
        call = composed(component.middleware, context, partial(self._invoke, plan, args, kwargs, context))
        if component.timeout is None:
            return await call()
        limit = asyncio.timeout(component.timeout)
        try:
            async with limit:
                return await call()
        except TimeoutError:
            if not limit.expired():
                raise
            raise ToolError(f"{component.key} did not finish within {counted(component.timeout, 'second')}.") from None

    async def _invoke(
        self, plan: Plan, args: tuple[object, ...], kwargs: dict[str, object], context: Context | None
    ) -> object:
        if plan.is_async:
            return await plan.fn(*args, **kwargs)
        pool = self._pools.get(asyncio.get_running_loop()) or self._open_pool()
        running = pool.run(partial(plan.fn, **kwargs) if kwargs else plan.fn, *args)
        try:
            result = await running
        except asyncio.CancelledError:
            if context is not None:
                context.cancelled = True
            raise
        return await result if hasattr(type(result), "__await__") else result  # a lambda may return a coroutine

    def _open_pool(self) -> ThreadPool:
        """Make the threads of this event loop. An application may be served by several loops, in turn or at once."""
        for loop in [loop for loop in list(self._pools) if loop.is_closed()]:
            self._pools.pop(loop).close()
        pool = self._pools[asyncio.get_running_loop()] = ThreadPool()
        return pool


_OF_RESOURCES = ("resources/read", "resources/subscribe", "resources/unsubscribe")
_SMALL_BYTES = 4096  # of arguments that are checked against limits or an author's schema on the event loop
_prompt_arguments = msgspec.json.Decoder(dict[str, str] | None).decode


def _is_large(arguments: Raw | UnsetType) -> bool:
    return arguments is not UNSET and memoryview(arguments).nbytes > _SMALL_BYTES


def _bind(plan: Plan, arguments: Raw | UnsetType, context: Context | None) -> BoundArguments:
    """Decode the arguments of a tool. Null counts as absent, as some clients write it.

    Raises ArgumentError, and RpcError for anything but an object (2026-07-28, server/tools, "Error Handling").
    """
    try:
        return plan.bind(None if arguments is UNSET else arguments, context)
    except ArgumentError as error:
        if arguments is UNSET or (raw := bytes(memoryview(arguments)))[:1] == b"{":
            raise
        if raw == b"null":
            return plan.bind(None, context)
        raise RpcError(INVALID_PARAMS, str(error)) from None


def _tool_result(encoded: Encoded, exchange: Exchange, tail: bytes) -> bytes:
    if exchange.era is Era.LEGACY and (exchange.version < LATEST_LEGACY or (encoded.structured or b"{")[:1] != b"{"):
        from portway.server import older_revisions

        encoded = older_revisions.content(encoded, exchange.version)
    structured = b"" if encoded.structured is None else b',"structuredContent":' + encoded.structured
    if encoded.meta is not None and encoded.meta != b"{}":
        tail = tail[:-1] + b"," + encoded.meta[1:] if tail else b',"_meta":' + encoded.meta
    failed = b"true" if encoded.is_error else b"false"
    return b'{"content":%b%b,"isError":%b%b}' % (encoded.content, structured, failed, tail)


def _no_resource(exchange: Exchange, uri: str) -> RpcError:
    code = INVALID_PARAMS if exchange.era is Era.MODERN else RESOURCE_NOT_FOUND
    return RpcError(code, "There is no such resource.", {"uri": uri})


def _unknown(kind: str, name: str | UnsetType) -> RpcError:
    if name is UNSET:
        return RpcError(INVALID_PARAMS, f"params.name must name a {kind}.")
    return RpcError(INVALID_PARAMS, f"Unknown {kind}: {name[:200]}")
