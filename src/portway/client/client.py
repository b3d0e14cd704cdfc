"""`Client`: era and version are agreed on, with fallback to `initialize`; lists by pages, calls, subscriptions, login
when a server asks for one.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

import msgspec

from portway.client.change_iterator import Changes
from portway.client.change_watcher import ChangeWatcher
from portway.client.channel import MESSAGE_BYTES, ClientChannel
from portway.client.errors import ClientError, NoAnswer, SessionLost
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
from portway.client.rpc import OnProgress, ParamHeaders, Rpc, client_info
from portway.client.server_requests import Handlers, OnChange, OnElicit, OnLog, OnSample, Roots
from portway.protocol.errors import HEADER_MISMATCH, UNSUPPORTED_VERSION, RpcError
from portway.protocol.param_headers import HeaderParam, param_headers
from portway.protocol.versions import LATEST_LEGACY, LATEST_MODERN, LEGACY_VERSIONS, MODERN_VERSIONS, Era
from portway.sessions.changes import Change, Kind

if TYPE_CHECKING:
    from portway.client.http_channel import HttpChannel
    from portway.client.oauth.connection_login import LoginSession
    from portway.client.oauth.settings import OAuthLogin

T = TypeVar("T")
_PROBE_SECONDS = 10.0
_LOG_LEVEL = "info"
_MOST_PAGES = 1000  # of a list
_log = logging.getLogger("portway.client")


class Client:
    """An MCP client, used as `async with Client(target) as client`.

    `target` is `http(s)://host/path`, `unix:/path.sock` (path /mcp) or the argument list of a stdio server to start.
    `era` "auto" tries server/discover, then the handshake. `timeout` is in seconds without an answer or progress.
    `on_elicit`, `on_sample` and `roots` (URIs, or a function that returns them) answer what the server asks, and may be
    async; the server is told that this client cannot do what is left out. `on_log` and `on_change` get log messages and
    changes. `headers` are sent with every HTTP request. An HTTP message from the server has `message_bytes` at most, as
    have the pages of a list together. With `auth`, the user logs in by the browser when the server asks for it; "oauth"
    stands for `OAuthLogin()`.
    Calls raise `RpcError` when the server refuses, and `ClientError` when it cannot be reached or understood.
    """

    def __init__(
        self,
        target: str | Sequence[str],
        *,
        token: str | None = None,
        auth: OAuthLogin | Literal["oauth"] | None = None,
        era: Literal["auto", "legacy", "modern"] = "auto",
        timeout: float = 60.0,
        on_elicit: OnElicit | None = None,
        on_sample: OnSample | None = None,
        roots: Roots | None = None,
        on_log: OnLog | None = None,
        on_change: OnChange | None = None,
        headers: Mapping[str, str] | None = None,
        message_bytes: int = MESSAGE_BYTES,
    ) -> None:
        self._target = target
        self._message_bytes = message_bytes
        self._extra = headers or {}
        self._token = token
        self._auth = auth
        self._session: LoginSession | None = None
        self._wanted = era
        self._rpc = Rpc(Handlers(on_elicit, on_sample, roots, on_log, on_change), timeout)
        self._handshakes = 0
        self._reopening = asyncio.Lock()
        self._subscribed: Counter[str] = Counter()
        self._watched: dict[str, ChangeWatcher] = {}
        self._param_headers: dict[str, tuple[HeaderParam, ...]] = {}
        self._watchers: set[ChangeWatcher] = set()
        self.server = ServerInfo()
        self.capabilities: dict[str, Any] = {}
        self.instructions: str | None = None

    @property
    def era(self) -> Era:
        """The era of the connection."""
        return self._rpc.era

    @property
    def version(self) -> str | None:
        """The protocol revision of the connection, None before it is open."""
        return self._rpc.version

    async def __aenter__(self) -> Self:
        self._rpc.channel = await self._open()
        changes = Changes(None)
        if self._rpc.handlers.on_change is not None:
            self._rpc.listeners.append(changes)  # a legacy server may send changes at once
        try:
            await self._logged_in(self._negotiate)
            if self._rpc.listeners:
                if self.era is Era.MODERN and self._kinds():
                    await self._watch(self._kinds(), None)
                else:
                    self._follow(ChangeWatcher(self._rpc.handlers.changed, changes))
        except BaseException:
            await self._rpc.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for watcher in self._watchers:
            watcher.stop()
        await self._rpc.close()
        await asyncio.gather(*(watcher.task for watcher in self._watchers))

    async def list_tools(self) -> list[Tool]:
        """Return every tool; in the modern era over HTTP, without those whose `x-mcp-header` breaks the rules."""
        tools = [tool for page in await self._pages("tools/list") for tool in page.tools]
        if self.era is Era.MODERN and self._rpc.channel.has_headers:
            self._param_headers.clear()
            tools = [tool for tool in tools if self._knows_headers(tool)]
        return tools

    async def list_resources(self) -> list[Resource]:
        """Return every resource at a fixed URI."""
        return [resource for page in await self._pages("resources/list") for resource in page.resources]

    async def list_resource_templates(self) -> list[ResourceTemplate]:
        """Return every resource template."""
        pages = await self._pages("resources/templates/list")
        return [template for page in pages for template in page.resource_templates]

    async def list_prompts(self) -> list[Prompt]:
        """Return every prompt."""
        return [prompt for page in await self._pages("prompts/list") for prompt in page.prompts]

    async def call_tool(
        self, name: str, arguments: Mapping[str, Any] | None = None, *, on_progress: OnProgress | None = None
    ) -> CallResult:
        """Call a tool. A tool that fails gives a result with `is_error`."""
        given = dict(arguments or {})
        params = {"name": name, "arguments": given}
        try:
            return await self._request("tools/call", params, CallResult, on_progress, self._headers(name, given))
        except RpcError as error:
            if error.code != HEADER_MISMATCH:
                raise
        await self.list_tools()  # the schemas say which arguments are repeated as headers
        return await self._request("tools/call", params, CallResult, on_progress, self._headers(name, given))

    async def read_resource(self, uri: str) -> list[ResourceContents]:
        """Read a resource."""
        return (await self._request("resources/read", {"uri": uri}, ResourceResult)).contents

    async def get_prompt(self, name: str, arguments: Mapping[str, str] | None = None) -> PromptResult:
        """Fill in a prompt."""
        return await self._request("prompts/get", {"name": name, "arguments": dict(arguments or {})}, PromptResult)

    async def complete(
        self, of: str, argument: str, value: str, *, arguments: Mapping[str, str] | None = None
    ) -> Completion:
        """Return completions of `value`. `of` is a prompt's name or the URI template of a resource.

        `arguments` are the ones already filled in.
        """
        ref = {"type": "ref/resource", "uri": of} if ":" in of else {"type": "ref/prompt", "name": of}
        params: dict[str, Any] = {"ref": ref, "argument": {"name": argument, "value": value}}
        if arguments:
            params["context"] = {"arguments": dict(arguments)}
        return (await self._request("completion/complete", params, CompleteResult)).completion

    async def set_log_level(self, level: str) -> None:
        """Set the lowest level (RFC 5424) of messages given to `on_log`; it is "info" at first."""
        if self.era is Era.LEGACY:
            await self._request("logging/setLevel", {"level": level}, dict[str, Any])
        self._rpc.level = level

    @asynccontextmanager
    async def listen(self, *uris: str) -> AsyncIterator[Changes]:
        """Receive the changes of every list, and of the resources at these URIs, while the block lasts.

        `async with client.listen() as changes`, then `async for change in changes`. No change after the block was
        entered is missed.
        """
        if not uris and not self._kinds():
            raise ClientError("the server does not announce changes of its lists; name resources to listen to")
        async with AsyncExitStack() as stack:
            if self.era is Era.MODERN:
                changes = await self._listen(self._kinds(), uris)
            else:
                changes = Changes(uris)
                self._rpc.listeners.append(changes)
                await self._rpc.channel.open_session_stream(self.version)
            stack.push_async_callback(self._rpc.drop, changes)
            for uri in uris if self.era is Era.LEGACY else ():
                await self.subscribe(uri)
                stack.push_async_callback(self.unsubscribe, uri)
            yield changes

    async def subscribe(self, uri: str) -> None:
        """Give `on_change` the changes of the resource at `uri`."""
        self._subscribed[uri] += 1
        if self._subscribed[uri] > 1:
            return
        try:
            if self.era is Era.MODERN:
                self._watched[uri] = await self._watch([], (uri,))
            else:
                await self._request("resources/subscribe", {"uri": uri}, dict[str, Any])
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
            await self._request("resources/unsubscribe", {"uri": uri}, dict[str, Any])
        elif uri in self._watched:
            watcher = self._watched.pop(uri)
            watcher.stop()
            await self._rpc.drop(watcher.changes)

    async def request(self, method: str, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Send any request and return its raw result."""
        return await self._request(method, dict(params or {}), dict[str, Any])

    async def request_raw(self, method: str, params: Mapping[str, Any] | None = None) -> bytes:
        """Send any request and return its result as it came: JSON that is not decoded."""
        return bytes(await self._request(method, dict(params or {}), msgspec.Raw))

    async def _open(self) -> ClientChannel:
        # A stdio client does not import HTTP, nor an HTTP client subprocesses.
        if not isinstance(self._target, str):
            from portway.client.stdio_channel import StdioChannel

            return await StdioChannel.start(self._target, self._rpc.take)
        from portway.client.http_channel import HttpChannel

        try:
            channel = HttpChannel(self._target, self._token, self._extra, self._rpc.take, self._message_bytes)
        except ValueError as error:
            raise ClientError(str(error)) from None
        if self._auth is not None:
            self._begin_login(self._target, channel)
        return channel

    def _begin_login(self, url: str, channel: HttpChannel) -> None:
        """Give the channel the tokens of a login, which begins with the stored one."""
        from portway.client.oauth.connection_login import LoginSession
        from portway.client.oauth.settings import OAuthLogin

        settings = OAuthLogin() if isinstance(self._auth, str) else self._auth
        if self._token or settings is None or not url.startswith(("http://", "https://")):
            raise ClientError("auth is for servers with an http URL, and without a token")

        def use(token: str) -> None:
            channel.token = token

        self._session = LoginSession(settings, url, use)
        channel.renew_token = self._session.ready

    async def _logged_in(self, work: Callable[[], Awaitable[T]]) -> T:
        """Return the result of `work`, after a login if the server asks for one."""
        return await (work() if self._session is None else self._session.run(work))

    async def _listen(self, kinds: Sequence[Kind], uris: tuple[str, ...] | None) -> Changes:
        """Open a stream of changes of a modern server."""

        async def listen() -> Changes:
            changes = Changes(uris)
            await self._rpc.listen(kinds, changes)
            return changes

        return await self._logged_in(listen)

    async def _negotiate(self) -> None:
        """Agree on the era and the version (2026-07-28, basic/versioning)."""
        if self._wanted == "legacy" or not await self._probe():
            await self._initialize()

    async def _probe(self) -> bool:
        """Connect in the modern era. Return False if the legacy handshake should be tried."""
        rpc, is_last = self._rpc, self._wanted == "modern"
        rpc.era, rpc.version = Era.MODERN, LATEST_MODERN
        try:
            # A legacy server may ignore the probe: leave time for the handshake before the caller gives up.
            async with asyncio.timeout(None if is_last else _PROBE_SECONDS):
                found = await self._discover()
        except TimeoutError:
            return False
        except (RpcError, ClientError) as error:
            if is_last or not _may_be_legacy(error):
                raise
            return False
        if not any(version in MODERN_VERSIONS for version in found.supported_versions):
            if is_last:
                raise ClientError(
                    f"the server speaks no version of the modern era ({', '.join(found.supported_versions)})"
                )
            return False
        self.server, self.capabilities, self.instructions = (
            found.meta.server_info,
            found.capabilities,
            found.instructions,
        )
        if rpc.handlers.on_log is not None:
            rpc.level = _LOG_LEVEL
        return True

    async def _discover(self) -> DiscoverResult:
        try:
            return await self._rpc.request("server/discover", {}, DiscoverResult)
        except RpcError as error:
            both = [version for version in MODERN_VERSIONS if version in _supported(error)]
            if not both:
                raise
        self._rpc.version = both[-1]
        return await self._rpc.request("server/discover", {}, DiscoverResult)

    async def _initialize(self) -> None:
        rpc = self._rpc
        rpc.era, rpc.version = Era.LEGACY, None
        capabilities = rpc.handlers.capabilities()
        params = {"protocolVersion": LATEST_LEGACY, "capabilities": capabilities, "clientInfo": client_info()}
        found = await rpc.request("initialize", params, InitializeResult)
        if found.protocol_version not in LEGACY_VERSIONS:
            raise ClientError(
                f"the server speaks only version {found.protocol_version}, which this client does not know"
            )
        rpc.version = found.protocol_version
        self.server, self.capabilities, self.instructions = found.server_info, found.capabilities, found.instructions
        self._handshakes += 1
        await rpc.notify("notifications/initialized")
        if rpc.handlers.wants_unsolicited or rpc.listeners:
            await rpc.channel.open_session_stream(rpc.version)
        # Restore what the session before this one knew:
        if rpc.level is not None:
            await rpc.request("logging/setLevel", {"level": rpc.level}, dict[str, Any])
        for uri in self._subscribed:
            await rpc.request("resources/subscribe", {"uri": uri}, dict[str, Any])

    async def _pages(self, method: str) -> list[Page]:
        capability = method.partition("/")[0]
        if capability not in self.capabilities:
            return []
        pages: list[Page] = []
        size = 0
        seen: set[str] = set()
        params: dict[str, Any] = {}
        while True:
            page = await self._request(method, params, Page)
            pages.append(page)
            if page.next_cursor is None:
                return pages
            if page.next_cursor in seen:
                raise ClientError(f"the server's pages of {method} do not end: it sent one cursor twice")
            size += len(msgspec.json.encode(page))
            if size > self._message_bytes or len(pages) == _MOST_PAGES:
                most = f"{self._message_bytes} bytes" if size > self._message_bytes else str(_MOST_PAGES)
                raise ClientError(f"the server's pages of {method} do not end: it sent more than {most}")
            seen.add(page.next_cursor)
            params = {"cursor": page.next_cursor}

    def _knows_headers(self, tool: Tool) -> bool:
        """Keep the headers that repeat the arguments of `tool`. Return False if its `x-mcp-header` breaks the rules."""
        schema = msgspec.json.encode(tool.input_schema)
        if b'"x-mcp-header"' in schema:
            from portway.exceptions import RegistrationError
            from portway.plans.x_mcp_header import compile_params

            try:
                self._param_headers[tool.name] = compile_params(schema)
            except RegistrationError as error:
                _log.warning("the tool %s is left out: %s", tool.name, error)
                return False
        return True

    def _headers(self, tool: str, arguments: dict[str, Any]) -> ParamHeaders:
        return param_headers(self._param_headers.get(tool, ()), arguments)

    async def _request(
        self,
        method: str,
        params: dict[str, Any],
        kind: type[T],
        on_progress: OnProgress | None = None,
        headers: ParamHeaders = (),
    ) -> T:
        async def request() -> T:
            handshakes = self._handshakes
            try:
                return await self._rpc.request(method, params, kind, on_progress=on_progress, headers=headers)
            except SessionLost:
                async with self._reopening:
                    if self._handshakes == handshakes:  # only the first of several calls that lost it
                        await self._logged_in(self._initialize)
            return await self._rpc.request(method, params, kind, on_progress=on_progress)

        return await self._logged_in(request)

    def _kinds(self) -> list[Kind]:
        """Return the lists whose changes the server announces."""
        told = {name: isinstance(given, dict) and given.get("listChanged") for name, given in self.capabilities.items()}
        kinds: tuple[Kind, ...] = ("tools", "prompts", "resources")
        return [kind for kind in kinds if told.get(kind)]

    async def _watch(self, kinds: Sequence[Kind], uris: tuple[str, ...] | None) -> ChangeWatcher:
        """Give the changes of a modern server to `on_change` from now on."""
        listen = functools.partial(self._listen, kinds, uris)
        all_of_them = [*map(Change, kinds), *(Change("resource", uri) for uri in uris or ())]
        watcher = ChangeWatcher(self._rpc.handlers.changed, await listen(), listen, all_of_them)
        self._follow(watcher)
        return watcher

    def _follow(self, watcher: ChangeWatcher) -> None:
        """Keep a watcher until it is over."""
        self._watchers.add(watcher)
        watcher.task.add_done_callback(lambda _: self._watchers.discard(watcher))


def _supported(error: RpcError) -> list[object]:
    """Return the versions that an UNSUPPORTED_VERSION error names."""
    named = error.data.get("supported") if error.code == UNSUPPORTED_VERSION and isinstance(error.data, dict) else None
    return named if isinstance(named, list) else []


def _may_be_legacy(error: RpcError | ClientError) -> bool:
    """Return whether a failed probe may come from a legacy server: it was reached and did not understand the probe."""
    if isinstance(error, RpcError):
        named = _supported(error)
        return not named or any(version in LEGACY_VERSIONS for version in named)
    return isinstance(error, NoAnswer) or error.status not in (None, 307, 308, 401, 403)
