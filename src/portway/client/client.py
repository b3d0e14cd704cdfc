"""The client: one connection to one server, in the era both sides speak."""

from __future__ import annotations

import asyncio
import functools
import itertools
import logging
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

import msgspec
from msgspec import UNSET, Raw

from portway.client.results import (
    CallResult,
    DiscoverResult,
    InitializeResult,
    Page,
    Progress,
    ProgressParams,
    Prompt,
    PromptResult,
    Resource,
    ResourceContents,
    ResourceResult,
    ResourceTemplate,
    ResultType,
    ServerInfo,
    Tool,
)
from portway.client.wire import Call, Channel, ClientError, Incoming, SessionLost, raise_error
from portway.protocol.errors import METHOD_NOT_FOUND, UNSUPPORTED_VERSION, RpcError
from portway.protocol.jsonrpc import PREFIX, encode_error, encode_notification, encode_request, encode_result
from portway.protocol.versions import LATEST_LEGACY, LATEST_MODERN, LEGACY_VERSIONS, MODERN_VERSIONS, Era

T = TypeVar("T")
OnProgress = Callable[[Progress], None]
_NAMED_BY = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
_PROBE_SECONDS = 10.0
_log = logging.getLogger("portway.client")


class _Waiting(msgspec.Struct):
    """A call in flight: who hears of its progress, and the deadline each progress moves."""

    on_progress: OnProgress | None
    deadline: asyncio.Timeout


class Client:
    """An MCP client, used as `async with Client(target) as client`.

    `target` is `http(s)://host/path`, `unix:/path.sock` (its /mcp) or the argument list of a stdio server to start.
    `era` "auto" asks with server/discover and falls back to the handshake. `timeout` is in seconds without an answer or
    progress.
    Calls raise `RpcError` for what the server refuses and `ClientError` for a server out of reach or not making sense.
    """

    def __init__(
        self,
        target: str | Sequence[str],
        *,
        token: str | None = None,
        era: Literal["auto", "legacy", "modern"] = "auto",
        timeout: float = 60.0,
    ) -> None:
        self._target = target
        self._token = token
        self._wanted = era
        self._timeout = timeout
        self._ids = itertools.count(1)
        self._waiting: dict[int, _Waiting] = {}
        self._channel: Channel | None = None
        self.era = Era.LEGACY
        self.version: str | None = None
        self.server = ServerInfo()
        self.capabilities: dict[str, Any] = {}
        self.instructions: str | None = None

    async def __aenter__(self) -> Self:
        self._channel = await self._open()
        try:
            await self._negotiate()
        except BaseException:
            await self._channel.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._channel is not None:
            await self._channel.close()

    async def list_tools(self) -> list[Tool]:
        """Every tool."""
        return [tool for page in await self._pages("tools/list") for tool in page.tools]

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
        params = {"name": name, "arguments": dict(arguments or {})}
        return await self._ask("tools/call", params, CallResult, on_progress)

    async def read_resource(self, uri: str) -> list[ResourceContents]:
        """The contents of a resource."""
        return (await self._ask("resources/read", {"uri": uri}, ResourceResult)).contents

    async def get_prompt(self, name: str, arguments: Mapping[str, str] | None = None) -> PromptResult:
        """A prompt filled in."""
        return await self._ask("prompts/get", {"name": name, "arguments": dict(arguments or {})}, PromptResult)

    async def request(self, method: str, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Send any request and return its result as it is."""
        return await self._ask(method, dict(params or {}), dict[str, Any])

    async def _open(self) -> Channel:
        # Each channel is imported where it is used: a stdio client needs no HTTP, and the other way round.
        if not isinstance(self._target, str):
            from portway.client.stdio import StdioChannel

            stdio = StdioChannel(self._target, self._handle)
            await stdio.open()
            return stdio
        from portway.client.http import HttpChannel

        try:
            return HttpChannel(self._target, self._token, self._handle)
        except ValueError as error:
            raise ClientError(str(error)) from None

    async def _negotiate(self) -> None:
        """Settle the era and the version (2026-07-28, basic/versioning: what clients do)."""
        if self._wanted == "legacy":
            return await self._initialize()
        self.era, self.version = Era.MODERN, LATEST_MODERN
        try:
            # A legacy server may swallow the probe: then it is asked in its own way well before the caller gives up.
            patience = min(self._timeout, _PROBE_SECONDS) if self._wanted == "auto" else self._timeout
            found = await self._ask("server/discover", {}, DiscoverResult, patience=patience)
        except RpcError as error:
            if self._wanted == "modern" or (error.code == UNSUPPORTED_VERSION and not _speaks_legacy(error.data)):
                raise
        except ClientError as error:
            if self._wanted == "modern" or error.status in (401, 403) or not _may_be_legacy(error):
                raise
        else:
            if any(version in MODERN_VERSIONS for version in found.supported_versions):
                self.server, self.capabilities = found.meta.server_info, found.capabilities
                self.instructions = found.instructions
                return None
            if self._wanted == "modern":
                raise ClientError(
                    f"the server speaks no version of the modern era ({', '.join(found.supported_versions)})"
                )
        return await self._initialize()

    async def _initialize(self) -> None:
        self.era, self.version = Era.LEGACY, None
        params = {"protocolVersion": LATEST_LEGACY, "capabilities": {}, "clientInfo": _client_info()}
        found = await self._ask("initialize", params, InitializeResult)
        if found.protocol_version not in LEGACY_VERSIONS:
            raise ClientError(
                f"the server speaks only version {found.protocol_version}, which this client does not know"
            )
        self.version = found.protocol_version
        self.server, self.capabilities, self.instructions = found.server_info, found.capabilities, found.instructions
        assert self._channel is not None
        await self._channel.notify(encode_notification("notifications/initialized", b"{}"), self.version)

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

    async def _ask(
        self,
        method: str,
        params: dict[str, Any],
        kind: type[T],
        on_progress: OnProgress | None = None,
        patience: float | None = None,
    ) -> T:
        try:
            result = await self._send(method, params, on_progress, patience or self._timeout)
        except SessionLost:
            await self._initialize()
            result = await self._send(method, params, on_progress, patience or self._timeout)
        try:
            if (
                self.era is Era.MODERN
                and (given := msgspec.json.decode(result, type=ResultType).result_type) != "complete"
            ):
                raise ClientError(f"the server answered {method} with {given!r}, which this client cannot serve")
            return msgspec.json.decode(result, type=kind)
        except msgspec.DecodeError as error:
            raise ClientError(f"the server's answer to {method} is malformed: {error}") from None

    async def _send(self, method: str, params: dict[str, Any], on_progress: OnProgress | None, patience: float) -> Raw:
        assert self._channel is not None, "use the client in `async with`"
        request_id = next(self._ids)
        meta: dict[str, Any] = {"progressToken": request_id} if on_progress else {}
        modern = self.era is Era.MODERN
        if modern:
            meta[PREFIX + "protocolVersion"] = self.version
            meta[PREFIX + "clientCapabilities"] = {}
            meta[PREFIX + "clientInfo"] = _client_info()
        body = encode_request(request_id, method, msgspec.json.encode({**params, "_meta": meta} if meta else params))
        by = _NAMED_BY.get(method)
        call = Call(request_id, method, params.get(by) if by else None, body, self.version, modern)
        try:
            async with asyncio.timeout(patience) as deadline:
                self._waiting[request_id] = _Waiting(on_progress, deadline)
                reply = await self._channel.request(call)
        except TimeoutError:
            raise NoAnswer(f"the server did not answer {method} in {patience:g} seconds") from None
        finally:
            self._waiting.pop(request_id, None)
        if reply.error is not UNSET:
            raise_error(reply.error)
        if reply.result is UNSET:
            raise ClientError(f"the server's answer to {method} has neither a result nor an error")
        return reply.result

    def _handle(self, message: Incoming) -> bytes | None:
        """Take what the server sends on its own: progress is reported, ping answered, every other request refused."""
        if message.method == "notifications/progress" and message.params is not UNSET:
            self._report(message.params)
        if message.id is None:
            return None
        if message.method == "ping":
            return encode_result(message.id, b"{}")
        return encode_error(message.id, RpcError(METHOD_NOT_FOUND, f"This client does not serve {message.method}."))

    def _report(self, params: Raw) -> None:
        try:
            progress = msgspec.json.decode(params, type=ProgressParams)
        except msgspec.DecodeError:
            return
        token = progress.progress_token
        waiting = self._waiting.get(token) if isinstance(token, int) else None
        if waiting is None or waiting.on_progress is None:
            return
        if not waiting.deadline.expired():
            waiting.deadline.reschedule(asyncio.get_running_loop().time() + self._timeout)
        try:
            waiting.on_progress(progress)
        except Exception:  # noqa: BLE001 - the caller's own function, run amid the connection's reading
            _log.exception("on_progress failed")


class NoAnswer(ClientError):
    """Nothing came in time."""


def _may_be_legacy(error: ClientError) -> bool:
    """Whether a failed probe leaves the handshake worth trying: the server was there, and made nothing of it."""
    return error.status is not None or isinstance(error, NoAnswer)


def _speaks_legacy(data: object) -> bool:
    """Whether the data of an UNSUPPORTED_VERSION error names a legacy version, or nothing to go by."""
    supported = data.get("supported") if isinstance(data, dict) else None
    return not isinstance(supported, list) or any(version in LEGACY_VERSIONS for version in supported)


@functools.cache
def _client_info() -> dict[str, str]:
    import importlib.metadata

    return {"name": "portway", "version": importlib.metadata.version("portway")}
