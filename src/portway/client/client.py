"""The client: one connection to one server, in the era both sides speak."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from portway.client.change_stream import Changes
from portway.client.channel import Channel, ClientError, SessionLost
from portway.client.conversation import Conversation, NoAnswer, OnProgress, client_info
from portway.client.handlers import Handlers, OnChange, OnElicit, OnLog, OnSample, Roots
from portway.client.param_headers import conforming, headers
from portway.client.results import (
    CallResult,
    CompleteResult,
    Completion,
    DiscoverResult,
    InitializeResult,
    Page,
    Prompt,
    PromptResult,
    Resource,
    ResourceContents,
    ResourceResult,
    ResourceTemplate,
    ServerInfo,
    Tool,
)
from portway.protocol.errors import HEADER_MISMATCH, UNSUPPORTED_VERSION, RpcError
from portway.protocol.headers import HeaderParam
from portway.protocol.versions import LATEST_LEGACY, LATEST_MODERN, LEGACY_VERSIONS, MODERN_VERSIONS, Era

T = TypeVar("T")
_PROBE_SECONDS = 10.0
_LOG_LEVEL = "info"
_log = logging.getLogger("portway.client")


class Client:
    """An MCP client, used as `async with Client(target) as client`.

    `target` is `http(s)://host/path`, `unix:/path.sock` (its /mcp) or the argument list of a stdio server to start.
    `era` "auto" asks with server/discover and falls back to the handshake. `timeout` is in seconds without an answer or
    progress.
    `on_elicit`, `on_sample` and `roots` (URIs, or a function that gives them) answer what the server asks; what is left
    out, the server is told this client cannot do. `on_log` and `on_change` are told what it says by itself. The first
    three may be async.
    Calls raise `RpcError` for what the server refuses and `ClientError` for a server out of reach or not making sense.
    """

    def __init__(
        self,
        target: str | Sequence[str],
        *,
        token: str | None = None,
        era: Literal["auto", "legacy", "modern"] = "auto",
        timeout: float = 60.0,
        on_elicit: OnElicit | None = None,
        on_sample: OnSample | None = None,
        roots: Roots | None = None,
        on_log: OnLog | None = None,
        on_change: OnChange | None = None,
    ) -> None:
        self._target = target
        self._token = token
        self._wanted = era
        self._talk = Conversation(Handlers(on_elicit, on_sample, roots, on_log, on_change), timeout)
        self._handshakes = 0
        self._reopening = asyncio.Lock()
        self._subscribed: Counter[str] = Counter()
        self._watched: dict[str, Changes] = {}
        self._repeated: dict[str, tuple[HeaderParam, ...]] = {}
        self._watchers: set[asyncio.Task[None]] = set()
        self.server = ServerInfo()
        self.capabilities: dict[str, Any] = {}
        self.instructions: str | None = None

    @property
    def era(self) -> Era:
        """The era in which the two speak."""
        return self._talk.era

    @property
    def version(self) -> str | None:
        """The revision of the protocol they have agreed on."""
        return self._talk.version

    async def __aenter__(self) -> Self:
        self._talk.channel = await self._open()
        changes = Changes(None)
        if self._talk.handlers.on_change is not None:
            self._talk.listeners.append(changes)  # a legacy server may tell at once
        try:
            await self._negotiate()
            if self._talk.listeners:
                if self.era is Era.MODERN and self._kinds():
                    await self._talk.listen(self._kinds(), changes)
                self._watch(changes)
        except BaseException:
            await self._talk.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._talk.close()
        await asyncio.gather(*self._watchers)

    async def list_tools(self) -> list[Tool]:
        """Every tool; in the modern era over HTTP without those whose `x-mcp-header` breaks the rules."""
        tools = [tool for page in await self._pages("tools/list") for tool in page.tools]
        assert self._talk.channel is not None
        if self.era is Era.MODERN and self._talk.channel.has_headers:
            self._repeated.clear()
            tools = conforming(tools, self._repeated)
        return tools

    async def list_resources(self) -> list[Resource]:
        """Every resource at a fixed URI."""
        return [resource for page in await self._pages("resources/list") for resource in page.resources]

    async def list_resource_templates(self) -> list[ResourceTemplate]:
        """Every resource template."""
        pages = await self._pages("resources/templates/list")
        return [template for page in pages for template in page.resource_templates]

    async def list_prompts(self) -> list[Prompt]:
        """Every prompt."""
        return [prompt for page in await self._pages("prompts/list") for prompt in page.prompts]

    async def call_tool(
        self, name: str, arguments: Mapping[str, Any] | None = None, *, on_progress: OnProgress | None = None
    ) -> CallResult:
        """Call a tool. A tool that failed is a result too: see `is_error`."""
        given = dict(arguments or {})
        params = {"name": name, "arguments": given}
        try:
            return await self._ask("tools/call", params, CallResult, on_progress, self._headers(name, given))
        except RpcError as error:
            if error.code != HEADER_MISMATCH:
                raise
        await self.list_tools()  # it says which arguments the server wants repeated as headers
        return await self._ask("tools/call", params, CallResult, on_progress, self._headers(name, given))

    async def read_resource(self, uri: str) -> list[ResourceContents]:
        """The contents of a resource."""
        return (await self._ask("resources/read", {"uri": uri}, ResourceResult)).contents

    async def get_prompt(self, name: str, arguments: Mapping[str, str] | None = None) -> PromptResult:
        """A prompt filled in."""
        return await self._ask("prompts/get", {"name": name, "arguments": dict(arguments or {})}, PromptResult)

    async def complete(
        self, of: str, argument: str, value: str, *, arguments: Mapping[str, str] | None = None
    ) -> Completion:
        """What could complete `value` of an argument; `of` is a prompt's name or the URI template of a resource.

        `arguments` are those that have their values already.
        """
        ref = {"type": "ref/resource", "uri": of} if ":" in of else {"type": "ref/prompt", "name": of}
        params: dict[str, Any] = {"ref": ref, "argument": {"name": argument, "value": value}}
        if arguments:
            params["context"] = {"arguments": dict(arguments)}
        return (await self._ask("completion/complete", params, CompleteResult)).completion

    async def set_log_level(self, level: str) -> None:
        """Have `on_log` told of messages from this level (RFC 5424) on; "info" until then."""
        if self.era is Era.LEGACY:
            await self._ask("logging/setLevel", {"level": level}, dict[str, Any])
        self._talk.level = level

    @asynccontextmanager
    async def listen(self, *uris: str) -> AsyncIterator[Changes]:
        """The changes of every list, and of the resources at these URIs, for as long as the block lasts.

        Whatever changes after the block was entered is told: `async with client.listen() as changes`, then
        `async for change in changes`.
        """
        if not uris and not self._kinds():
            raise ClientError("the server does not tell when its lists change; name the resources to listen to")
        changes = Changes(uris)
        async with AsyncExitStack() as stack:
            if self.era is Era.MODERN:
                await self._talk.listen(self._kinds(), changes)
            else:
                self._talk.listeners.append(changes)
                assert self._talk.channel is not None
                await self._talk.channel.attend(self.version)
            stack.push_async_callback(self._talk.drop, changes)
            for uri in uris if self.era is Era.LEGACY else ():
                await self.subscribe(uri)
                stack.push_async_callback(self.unsubscribe, uri)
            yield changes

    async def subscribe(self, uri: str) -> None:
        """Have `on_change` told when the resource at `uri` changes."""
        self._subscribed[uri] += 1
        if self._subscribed[uri] > 1:
            return
        try:
            if self.era is Era.MODERN:
                self._watched[uri] = Changes((uri,))
                await self._talk.listen([], self._watched[uri])
                self._watch(self._watched[uri])
            else:
                await self._ask("resources/subscribe", {"uri": uri}, dict[str, Any])
        except BaseException:
            del self._subscribed[uri]
            raise

    async def unsubscribe(self, uri: str) -> None:
        """Undo one `subscribe`."""
        self._subscribed[uri] -= 1
        if self._subscribed[uri] > 0:
            return
        del self._subscribed[uri]
        if self.era is Era.LEGACY:
            await self._ask("resources/unsubscribe", {"uri": uri}, dict[str, Any])
        elif uri in self._watched:
            await self._talk.drop(self._watched.pop(uri))

    async def request(self, method: str, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Send any request and return its result as it is."""
        return await self._ask(method, dict(params or {}), dict[str, Any])

    async def _open(self) -> Channel:
        # Each channel is imported where it is used: a stdio client needs no HTTP, and the other way round.
        if not isinstance(self._target, str):
            from portway.client.stdio_channel import StdioChannel

            stdio = StdioChannel(self._target, self._talk.take)
            await stdio.open()
            return stdio
        from portway.client.http_channel import HttpChannel

        try:
            return HttpChannel(self._target, self._token, self._talk.take)
        except ValueError as error:
            raise ClientError(str(error)) from None

    async def _negotiate(self) -> None:
        """Settle the era and the version (2026-07-28, basic/versioning: what clients do)."""
        if self._wanted == "legacy":
            return await self._initialize()
        self._talk.era, self._talk.version = Era.MODERN, LATEST_MODERN
        try:
            # A legacy server may swallow the probe: then it is asked in its own way well before the caller gives up.
            patience = min(self._talk.timeout, _PROBE_SECONDS) if self._wanted == "auto" else self._talk.timeout
            found = await self._discover(patience)
        except RpcError as error:
            if self._wanted == "modern" or not _may_speak_legacy(error):
                raise
        except ClientError as error:
            if self._wanted == "modern" or error.status in (401, 403) or not _may_be_legacy(error):
                raise
        else:
            if any(version in MODERN_VERSIONS for version in found.supported_versions):
                self.server, self.capabilities = found.meta.server_info, found.capabilities
                self.instructions = found.instructions
                if self._talk.handlers.on_log is not None:
                    self._talk.level = _LOG_LEVEL
                return None
            if self._wanted == "modern":
                raise ClientError(
                    f"the server speaks no version of the modern era ({', '.join(found.supported_versions)})"
                )
        return await self._initialize()

    async def _discover(self, patience: float) -> DiscoverResult:
        try:
            return await self._talk.ask("server/discover", {}, DiscoverResult, patience=patience)
        except RpcError as error:
            both = [version for version in MODERN_VERSIONS if version in _supported(error)]
            if not both:
                raise
        self._talk.version = both[-1]
        return await self._talk.ask("server/discover", {}, DiscoverResult, patience=patience)

    async def _initialize(self) -> None:
        talk = self._talk
        talk.era, talk.version = Era.LEGACY, None
        capabilities = talk.handlers.capabilities()
        params = {"protocolVersion": LATEST_LEGACY, "capabilities": capabilities, "clientInfo": client_info()}
        found = await talk.ask("initialize", params, InitializeResult)
        if found.protocol_version not in LEGACY_VERSIONS:
            raise ClientError(
                f"the server speaks only version {found.protocol_version}, which this client does not know"
            )
        talk.version = found.protocol_version
        self.server, self.capabilities, self.instructions = found.server_info, found.capabilities, found.instructions
        self._handshakes += 1
        assert talk.channel is not None
        await talk.tell("notifications/initialized")
        if talk.handlers.hear_unasked or talk.listeners:
            await talk.channel.attend(talk.version)
        # What a session knew beyond the handshake, when it is not the first:
        if talk.level is not None:
            await talk.ask("logging/setLevel", {"level": talk.level}, dict[str, Any])
        for uri in self._subscribed:
            await talk.ask("resources/subscribe", {"uri": uri}, dict[str, Any])

    async def _pages(self, method: str) -> list[Page]:
        capability = method.partition("/")[0]
        if capability not in self.capabilities:
            return []
        pages: list[Page] = []
        seen: set[str] = set()
        params: dict[str, Any] = {}
        while True:
            page = await self._ask(method, params, Page)
            pages.append(page)
            if page.next_cursor is None:
                return pages
            if page.next_cursor in seen:
                raise ClientError(f"the server's pages of {method} never end: it gave one cursor twice")
            seen.add(page.next_cursor)
            params = {"cursor": page.next_cursor}

    def _headers(self, tool: str, arguments: dict[str, Any]) -> tuple[tuple[bytes, bytes], ...]:
        return headers(self._repeated[tool], arguments) if tool in self._repeated else ()

    async def _ask(
        self,
        method: str,
        params: dict[str, Any],
        kind: type[T],
        on_progress: OnProgress | None = None,
        headers: tuple[tuple[bytes, bytes], ...] = (),
    ) -> T:
        handshakes = self._handshakes
        try:
            return await self._talk.ask(method, params, kind, on_progress=on_progress, headers=headers)
        except SessionLost:
            async with self._reopening:
                if self._handshakes == handshakes:  # of several calls that lost the session, one opens the next
                    await self._initialize()
        return await self._talk.ask(method, params, kind, on_progress=on_progress)

    def _kinds(self) -> list[str]:
        """The lists whose changes the server tells of."""
        told = {name: isinstance(given, dict) and given.get("listChanged") for name, given in self.capabilities.items()}
        return [kind for kind in ("tools", "prompts", "resources") if told.get(kind)]

    def _watch(self, changes: Changes) -> None:
        """Hand changes to `on_change` from now on, until they are dropped."""

        async def hand_on() -> None:
            try:
                async for change in changes:
                    self._talk.handlers.changed(change)
            except (ClientError, RpcError) as error:
                _log.warning("on_change will hear no more: %s", error)

        watcher = asyncio.get_running_loop().create_task(hand_on())
        self._watchers.add(watcher)
        watcher.add_done_callback(self._watchers.discard)


def _may_be_legacy(error: ClientError) -> bool:
    """Whether a failed probe leaves the handshake worth trying: the server was there, and made nothing of it."""
    return error.status is not None or isinstance(error, NoAnswer)


def _supported(error: RpcError) -> list[object]:
    """The versions that an UNSUPPORTED_VERSION error names."""
    named = error.data.get("supported") if error.code == UNSUPPORTED_VERSION and isinstance(error.data, dict) else None
    return named if isinstance(named, list) else []


def _may_speak_legacy(error: RpcError) -> bool:
    """Whether the refusal of a modern probe leaves the handshake worth trying."""
    named = _supported(error)
    return not named or any(version in LEGACY_VERSIONS for version in named)
