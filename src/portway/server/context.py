"""What a handler can ask about the call it is answering."""

import asyncio
import math
import threading
from collections.abc import Awaitable, Generator
from typing import Protocol

import msgspec
from msgspec import UNSET

from portway.auth.principal import Principal
from portway.protocol.jsonrpc import Message, encode_notification
from portway.protocol.versions import Era


class Channel(Protocol):
    """Where the messages go that belong to a call still being answered."""

    async def notify(self, message: bytes) -> None:
        """Send one encoded notification to the caller; waits while the caller does not read."""


class Exchange(msgspec.Struct, gc=False):
    """One request being answered: the message and all that is known about it."""

    message: Message
    era: Era
    principal: Principal
    channel: Channel


class Context:
    """The current call; a parameter annotated `Context` receives it."""

    __slots__ = ("_exchange", "_loop", "_progress", "_thread")

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._progress = -math.inf
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()

    @property
    def caller(self) -> Principal:
        """Who calls; `ANONYMOUS` over stdio and on a server that asks for no token."""
        return self._exchange.principal

    @property
    def request_id(self) -> int | str:
        """The request's JSON-RPC id as the client sent it."""
        request_id = self._exchange.message.id
        assert request_id is not UNSET
        return request_id

    def report_progress(
        self, progress: float, total: float | None = None, message: str | None = None
    ) -> Awaitable[None]:
        """Tell the client how far the call is: `progress` must grow from report to report, `total` is its end.

        Await it in an `async def` tool; in a `def` tool just call it, it returns once the report is sent. Nothing is
        sent to a client that did not ask for progress (specification: basic/utilities/progress).
        """
        sending = self._report(progress, total, message)
        if threading.get_ident() == self._thread:
            return sending
        asyncio.run_coroutine_threadsafe(sending, self._loop).result()
        return _Done()

    async def _report(self, progress: float, total: float | None, message: str | None) -> None:
        meta = self._exchange.message.meta
        if meta is None or meta.progress_token is UNSET or not self._progress < progress < math.inf:
            return
        self._progress = progress
        if total is not None and not math.isfinite(total):
            total = None  # JSON has no infinity
        params = {"progressToken": meta.progress_token, "progress": progress, "total": total, "message": message}
        body = msgspec.json.encode({key: value for key, value in params.items() if value is not None})
        await self._exchange.channel.notify(encode_notification("notifications/progress", body))
        await asyncio.sleep(0)  # a handler that does little else than report must not hold up the other calls


class _Done:
    """An awaitable that is done."""

    def __await__(self) -> Generator[None, None, None]:
        yield from ()
